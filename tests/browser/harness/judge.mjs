// Evaluates a recording and the reports of the link. Pure functions; all times are in milliseconds.

/**
 * A frame shown for longer than this counts as frozen video; Chromium reports a freeze at this limit at 20 frames per
 * second.
 */
export const STILL_MS = 200;

/**
 * Duration of frozen video between two times. Time during which the page itself stalled is excluded, since the machine
 * causes it.
 */
export function still({ frames, stalls }, from, to) {
  const times = frames.map((frame) => frame.at).filter((at) => at <= to);
  let total = 0;
  for (const [i, at] of times.entries()) {
    const next = times[i + 1] ?? to;
    const [begin, end] = [Math.max(at, from), Math.min(next, to)];
    const own = stalls.reduce((sum, stall) => sum + overlap(at, next, stall.at, stall.at + stall.ms), 0);
    if (end > begin && next - at - own > STILL_MS) total += Math.max(0, end - begin - own);
  }
  return total;
}

/**
 * Time after `from` until the rate sent into the link exceeds the link's rate by more than a tenth in no further half
 * second.
 */
export function fits(reports, from, kbps, lookMs = 5_000) {
  const window = 5;
  let last = from;
  for (let i = window; i <= reports.length; i += 1) {
    const part = reports.slice(i - window, i);
    const end = part.at(-1).at;
    if (part[0].at < from + 100 || end > from + lookMs) continue;
    const rate = (sum(part.map((report) => report.down.in_bytes)) * 8) / (window * 100);
    if (rate > kbps * 1.1) last = end;
  }
  return last - from;
}

/** Highest rate sent into the link in any half second, in kbit/s. */
export function most(reports, from, to) {
  const inside = reports.filter((report) => report.at > from && report.at <= to);
  const rates = inside.slice(4).map((_, i) => (sum(inside.slice(i, i + 5).map((report) => report.down.in_bytes)) * 8) / 500);
  return Math.max(0, ...rates);
}

/** Share of the link's rate that was used. */
export function used(reports, from, to, kbps) {
  const inside = reports.filter((report) => report.at > from && report.at <= to);
  return (sum(inside.map((report) => report.down.out_bytes)) * 8) / (kbps * inside.length * 100);
}

/** Share of packets dropped because the link's queue was full. */
export function crowded(reports, from, to) {
  const inside = reports.filter((report) => report.at > from && report.at <= to);
  return sum(inside.map((report) => report.down.full)) / Math.max(1, sum(inside.map((report) => report.down.in_packets)));
}

/** Video frames per second. */
export function pictures({ frames }, from, to) {
  return (frames.filter((frame) => frame.at > from && frame.at <= to).length * 1_000) / (to - from);
}

/** Time after `from` until the server's bandwidth estimate reached `kbps`; undefined if it never did. */
export function estimated(estimates, kbps, from) {
  const found = estimates.find((estimate) => estimate.at >= from && estimate.kbps >= kbps);
  return found && found.at - from;
}

/** Share of audio samples that were concealed because the audio had not arrived. */
export function concealed({ stats }, from, to) {
  const known = stats.filter((sample) => sample.totalSamplesReceived !== undefined);
  const first = known.findLast((sample) => sample.at <= from) ?? known[0];
  const last = known.find((sample) => sample.at >= to) ?? known.at(-1);
  if (!first || !last || last === first) return undefined;
  return (last.concealedSamples - first.concealedSamples) / (last.totalSamplesReceived - first.totalSamplesReceived);
}

/**
 * Time after `from` until the receiver's jitter buffer emitted audio again. In contrast to `tone`, the result does not
 * include the time that the page takes to play the audio.
 */
export function decoded({ stats }, from) {
  const later = stats.findIndex((sample, i) => i > 0 && sample.at > from && emitted(stats[i - 1], sample) > 0);
  if (later < 0) return undefined;
  // Delayed audio is played faster than real time.
  const began = stats[later].at - emitted(stats[later - 1], stats[later]) / SAMPLES_PER_MS;
  return Math.max(0, Math.max(began, stats[later - 1].at) - from);
}

function emitted(before, after) {
  return after.jitterBufferEmittedCount - before.jitterBufferEmittedCount;
}

/**
 * Time after `from` until frames are at least `width` wide for a second without exception; undefined if that never
 * happens.
 */
export function reaches({ frames }, width, from) {
  const later = frames.filter((frame) => frame.at >= from);
  const at = later.findIndex((frame, i) => {
    const second = later.slice(i).filter((other) => other.at < frame.at + 1_000);
    return second.every((other) => other.width >= width);
  });
  return at < 0 ? undefined : later[at].at - from;
}

/** Share of the time for which the frame on show was at least `width` wide. */
export function kept({ frames }, width, from, to) {
  let total = 0;
  for (const [i, frame] of frames.entries()) {
    if (frame.width >= width) total += overlap(from, to, frame.at, frames[i + 1]?.at ?? to);
  }
  return total / (to - from);
}

/** Time after `from` until a new video frame arrived. */
export function picture({ frames }, from) {
  const next = frames.find((frame) => frame.at >= from);
  return next && next.at - from;
}

/**
 * Time after `from` until the tone returned and lasted; undefined if it had not been gone for `wasGoneFor`, or did not
 * return.
 */
export function tone({ levels }, from, wasGoneFor = 1_000) {
  const before = levels.filter((level) => level.at >= from - wasGoneFor && level.at < from);
  if (before.some((level) => level.db > LOUD_DB)) return undefined;
  const later = levels.filter((level) => level.at >= from);
  const at = later.findIndex((level, i) => later.slice(i, i + 10).every((other) => other.db > LOUD_DB));
  return at < 0 ? undefined : later[at].at - from;
}

export function median(values) {
  const known = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  // A missing value counts as the worst value.
  return known.length * 2 <= values.length ? undefined : known[Math.floor(values.length / 2)];
}

/** Sampling rate of Opus. */
const SAMPLES_PER_MS = 48;

/** The tone has -11 dB. */
const LOUD_DB = -30;

function overlap(a, b, c, d) {
  return Math.max(0, Math.min(b, d) - Math.max(a, c));
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
