// Figures of a server that a test started, from its metrics and from the kernel.

import { readFile } from 'node:fs/promises';

/** All current metrics: `name{labels}` -> value. */
export async function metricsOf(server) {
  const text = await (await fetch(`${server.metrics}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

/** Sum of a metric over all label sets, or over those that contain `label`. */
export function total(metrics, name, label = '') {
  const wanted = (key) => (key === name || key.startsWith(`${name}{`)) && key.includes(label);
  return Object.entries(metrics).reduce((sum, [key, value]) => sum + (wanted(key) ? value : 0), 0);
}

/** Current `{ sections, sources, tracks, subscriptions, refused, rssKb, lines }`. */
export async function figures(server) {
  const metrics = await metricsOf(server);
  const status = await readFile(`/proc/${server.pid}/status`, 'utf8');
  return {
    sections: total(metrics, 'anytime_media_sections'),
    sources: total(metrics, 'anytime_sources'),
    tracks: total(metrics, 'anytime_tracks'),
    subscriptions: total(metrics, 'anytime_subscriptions'),
    refused: total(metrics, 'anytime_subscriptions_refused_total'),
    rssKb: Number(status.match(/VmRSS:\s+(\d+)/)[1]),
    lines: server.lines(),
  };
}
