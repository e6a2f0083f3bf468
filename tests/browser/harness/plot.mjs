// Draws a run over a bad link: rates, queue, layer and age of the shown frame against time.

const WIDTH = 1000;
const LEFT = 90;
const RIGHT = 20;
const PANELS = [
  { name: 'rates', unit: 'kbit/s', height: 240 },
  { name: 'queue', unit: 'ms', height: 90 },
  { name: 'layer', unit: 'pixels', height: 90 },
  { name: 'age', unit: 'ms', height: 130 },
];
const GAP = 34;
const TOP = 52;
const COLORS = { link: '#94a3b8', sent: '#dc2626', passed: '#2563eb', estimate: '#059669', width: '#7c3aed', age: '#b45309', queue: '#475569' };

/**
 * Returns an SVG. `marks` are `{ at, text }`, `estimates` are `{ at, kbps }`; the other parameters are as the recorder
 * and the link produce them.
 */
export function plot({ title, recording, reports, estimates = [], marks = [] }) {
  const [from, to] = [recording.began, recording.ended];
  const inside = reports.filter((report) => report.at >= from && report.at <= to);
  const frames = recording.frames.filter((frame) => frame.at >= from);
  const known = estimates.filter((estimate) => estimate.at >= from && estimate.at <= to);
  const x = (at) => LEFT + ((at - from) / (to - from)) * (WIDTH - LEFT - RIGHT);
  const most = { rates: top(inside.flatMap((r) => [r.down.in_bytes * 0.08, Math.min(r.down.rate_kbps, 4_000)]), 1_000) };
  most.queue = top(inside.map((report) => report.down.queue_ms), 100);
  most.layer = top(frames.map((frame) => frame.width), 320);
  most.age = Math.min(4_000, top(ages(frames, to).map(([, age]) => age), 400));
  const parts = [];
  const scales = {};
  let y = TOP;
  for (const panel of PANELS) {
    const bottom = y + panel.height;
    const scale = (value) => bottom - (Math.min(value, most[panel.name]) / most[panel.name]) * panel.height;
    scales[panel.name] = scale;
    parts.push(frame(panel, y, bottom, most[panel.name], scale, x, from, to));
    y = bottom + GAP;
  }
  for (const mark of marks.filter((each) => each.at >= from && each.at <= to)) {
    const at = x(mark.at).toFixed(1);
    parts.push(`<line x1="${at}" x2="${at}" y1="${TOP}" y2="${y - GAP}" stroke="#64748b" stroke-dasharray="4 3"/>`);
    parts.push(`<text x="${at}" y="${TOP - 6}" dx="3" font-size="11" fill="#334155">${escape(mark.text)}</text>`);
  }
  const { rates, queue, layer, age } = scales;
  parts.push(steps(inside.map((r) => [x(r.at - 100), rates(r.down.rate_kbps === 0 && !r.down.blocked ? most.rates : r.down.rate_kbps)]), COLORS.link, 2.5));
  parts.push(line(inside.map((r) => [x(r.at), rates(r.down.in_bytes * 0.08)]), COLORS.sent, 1));
  parts.push(line(inside.map((r) => [x(r.at), rates(r.down.out_bytes * 0.08)]), COLORS.passed, 1.3));
  parts.push(steps(known.map((each) => [x(each.at), rates(each.kbps)]), COLORS.estimate, 2));
  parts.push(line(inside.map((r) => [x(r.at), queue(r.down.queue_ms)]), COLORS.queue, 1.3));
  parts.push(steps(frames.map((each) => [x(each.at), layer(each.width)]), COLORS.width, 2));
  parts.push(line(ages(frames, to).map(([at, value]) => [x(at), age(value)]), COLORS.age, 1.2));
  const keys = [['link', COLORS.link], ['sent', COLORS.sent], ['passed', COLORS.passed], ...(known.length ? [['estimate', COLORS.estimate]] : [])];
  const legend = keys.map(([name, color], i) => {
    const at = WIDTH - RIGHT - (keys.length - i) * 82;
    return `<rect x="${at}" y="12" width="14" height="4" fill="${color}"/><text x="${at + 18}" y="18" font-size="12" fill="#334155">${name}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" font-family="sans-serif">`,
    `<rect width="${WIDTH}" height="${y}" fill="#ffffff"/>`,
    `<text x="${LEFT}" y="20" font-size="15" font-weight="bold" fill="#0f172a">${escape(title)}</text>`,
    ...legend,
    ...parts,
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${y - 4}" font-size="11" text-anchor="middle" fill="#334155">seconds</text>`,
    '</svg>',
  ].join('\n');
}

/** Age of the frame on show over time: it grows until the next frame arrives. */
function ages(frames, to) {
  const points = [];
  for (const [i, { at, latency }] of frames.entries()) {
    if (latency === undefined) continue;
    points.push([at, latency], [frames[i + 1]?.at ?? to, latency + (frames[i + 1]?.at ?? to) - at]);
  }
  return points;
}

function frame({ name, unit }, top_, bottom, most, scale, x, from, to) {
  const lines = [0, 0.5, 1].map((part) => {
    const y = scale(most * part).toFixed(1);
    return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}" stroke="#e2e8f0"/><text x="${LEFT - 6}" y="${y}" dy="4" font-size="11" text-anchor="end" fill="#334155">${Math.round(most * part)}</text>`;
  });
  const every = to - from > 30_000 ? 5 : 1;
  for (let second = 0; second <= (to - from) / 1000; second += every) {
    const at = x(from + second * 1000).toFixed(1);
    lines.push(`<line x1="${at}" x2="${at}" y1="${bottom}" y2="${bottom + 4}" stroke="#94a3b8"/><text x="${at}" y="${bottom + 15}" font-size="10" text-anchor="middle" fill="#64748b">${second}</text>`);
  }
  const middle = (top_ + bottom) / 2;
  return `${lines.join('')}<text transform="translate(20 ${middle}) rotate(-90)" font-size="12" text-anchor="middle" fill="#0f172a">${name}, ${unit}</text>`;
}

function line(points, color, width) {
  if (points.length === 0) return '';
  const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ');
  return `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="${width}"/>`;
}

function steps(points, color, width) {
  const corners = points.flatMap(([x, y], i) => (i === 0 ? [[x, y]] : [[x, points[i - 1][1]], [x, y]]));
  return line(corners, color, width);
}

/** Round number for the top of an axis, at least as large as all `values` and `least`. */
function top(values, least) {
  const most = values.reduce((a, b) => Math.max(a, b), least);
  const step = 10 ** Math.floor(Math.log10(most));
  return Math.ceil(most / step / 0.5) * 0.5 * step;
}

function escape(text) {
  return text.replace(/[&<>]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]);
}
