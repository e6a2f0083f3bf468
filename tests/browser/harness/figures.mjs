// What a server that was started here says of itself, and the kernel of it.

import { readFile } from 'node:fs/promises';

/** `{ sections, sources, tracks, subscriptions, refused, rssKb, lines }`, all of now. */
export async function figures(server) {
  const text = await (await fetch(`${server.metrics}/metrics`)).text();
  const sum = (name) =>
    text
      .split('\n')
      .filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)))
      .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
  const status = await readFile(`/proc/${server.pid}/status`, 'utf8');
  return {
    sections: sum('anytime_media_sections'),
    sources: sum('anytime_sources'),
    tracks: sum('anytime_tracks'),
    subscriptions: sum('anytime_subscriptions'),
    refused: sum('anytime_subscriptions_refused_total'),
    rssKb: Number(status.match(/VmRSS:\s+(\d+)/)[1]),
    lines: server.lines(),
  };
}
