// Twenty participants of the Go SDK, each with a camera and an open microphone, in one room on one machine. Nothing is
// lost there, so nothing may be missing, requested again, or left out.
//
//   MEETING_PEOPLE, MEETING_SECONDS   another size, e.g. 17 for 60 s

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { rateOf, soundFile, videoFile } from './media.mjs';
import { startProgram } from './program.mjs';
import { metricsOf, total } from '../harness/figures.mjs';
import { progress, TEST_MS, until } from '../harness/limits.mjs';
import { decisions, joinToken, startServer } from '../harness/server.mjs';
import { printTable } from '../harness/table.mjs';

const PEOPLE = Number(process.env.MEETING_PEOPLE ?? 20);
const SECONDS = Number(process.env.MEETING_SECONDS ?? 20);
/** Number of microphones whose audio is forwarded: only the loudest are. */
const LOUDEST = 16;
/** A low frame rate, since a debug build must forward everything next to the clients. */
const FPS = 10;
const LAYERS = [
  { width: 160, height: 90, kbps: 40, fps: FPS, grain: 40 },
  { width: 320, height: 180, kbps: 100, fps: FPS, grain: 40 },
  { width: 640, height: 360, kbps: 250, fps: FPS, grain: 40 },
];
const [LOW, HIGH] = [0, 2];
/** Tolerated relative deviation of a received bitrate from the requested one. */
const BITS = 0.05;
const RETRANSMITTED = 0.01;
const options = { timeout: TEST_MS };
let server, program;

before(async () => {
  server = await startServer();
  program = await startProgram('go');
}, options);

after(async () => {
  await program?.stop();
  await server?.stop();
}, options);

for (const layers of [[LAYERS[1]], LAYERS]) {
  const name = layers.length === 1 ? 'without simulcast' : 'with simulcast, one large picture and the others small';
  test(`${PEOPLE} people ${name}`, options, async () => {
    const simulcast = layers.length > 1;
    const room = `meeting-${process.pid}-${layers.length}`;
    const people = Array.from({ length: PEOPLE }, (_, i) => `${simulcast ? 's' : 'p'}${i}`);
    const files = await Promise.all(layers.map((layer) => videoFile(program.folder, 1, layer)));
    const rates = await Promise.all(files.map((file) => rateOf(file, FPS)));
    const audio = await soundFile(program.folder, 440);
    await inTurn(people, async (who) => {
      await program.ask(who, 'join', { url: server.ws, token: await joinToken(room, who) });
      await program.ask(who, 'publish', { video: files, audio });
    });
    const wanted = (who) => people.filter((other) => other !== who);
    // Everybody requests the large layer of the next participant.
    const large = (who) => people[(people.indexOf(who) + 1) % people.length];
    await until('everybody to get a picture of everybody', async () => {
      const all = await counts(people);
      return people.every((who) => wanted(who).every((from) => all[who].tracks[`${from} camera`]));
    }, TEST_MS / 2);
    if (simulcast) {
      await inTurn(people, (who) => Promise.all(wanted(who).map((from) => program.ask(who, 'quality', { from, size: from === large(who) ? HIGH : LOW }))));
    }
    const layer = (who, from) => (simulcast ? (from === large(who) ? HIGH : LOW) : 0);
    let others;
    await until('everybody to see everybody, in the size that was asked for', async () => {
      const all = await counts(people);
      const shown = (who, from) => all[who].tracks[`${from} camera`];
      const is = (who, from) => shown(who, from)?.width === layers[layer(who, from)].width;
      others = people.flatMap((who) => wanted(who).filter((from) => !is(who, from)).map((from) => ({ who, from, ...shown(who, from) })));
      return others.length === 0;
    }, TEST_MS / 2).catch(async (error) => {
      printTable('Not in the size that was asked for', others);
      const told = await Promise.all([...new Set(others.slice(0, 3).map((other) => other.who))].map((who) => decisions(server, room, who)));
      for (const one of told) progress(JSON.stringify(one));
      throw error;
    });
    progress(`${name}: everybody sees everybody`);

    const first = await snapshot(people);
    await new Promise((resolve) => setTimeout(resolve, SECONDS * 1_000));
    const last = await snapshot(people);

    const rows = people.map((who) => {
      const [a, b] = [first.counts[who], last.counts[who]];
      const cameras = wanted(who).map((from) => [from, a.tracks[`${from} camera`], b.tracks[`${from} camera`]]);
      const sum = (what) => cameras.reduce((total, [, from, to]) => total + to[what] - from[what], 0);
      const frames = cameras.map(([, from, to]) => (to.frames - from.frames) / ((FPS * (to.newest - from.newest)) / 1_000));
      const asked = wanted(who).reduce((total, from) => total + rates[layer(who, from)], 0);
      return {
        who,
        packets: sum('packets'),
        ...missing(a, b),
        duplicates: sum('duplicates'),
        nacks: b.nacks - a.nacks,
        'key frames asked': b.plis - a.plis,
        'kbit/s': (sum('payload') * 8) / (last.at - first.at),
        'of what was asked, %': (100 * sum('payload') * 8) / (last.at - first.at) / asked,
        'fewest frames, %': 100 * Math.min(...frames),
        heard: Object.entries(b.tracks).filter(([track, now]) => track.endsWith(' microphone') && now.packets - (a.tracks[track]?.packets ?? 0) > 0).length,
      };
    });
    printTable(`${PEOPLE} people of the Go SDK ${name}, ${SECONDS} s`, rows);
    const counted = difference(first.metrics, last.metrics);
    const out = total(counted, 'anytime_packets_total', 'direction="out"');
    const again = total(counted, 'anytime_retransmitted_packets_total');
    const nacks = total(counted, 'anytime_nacks_total');
    progress(`sent ${out} packets, ${again} of them again; NACKs ${nacks}, key frame requests ${total(counted, 'anytime_plis_total')}`);
    for (const [key, value] of Object.entries(counted)) if (key.startsWith('anytime_drops_total') && value > 0) progress(`${key} ${value}`);

    for (const row of rows.filter((row) => !isAsked(row))) progress(`${row.who}: ${JSON.stringify(await decisions(server, room, row.who))}`);
    const sum = (what) => rows.reduce((all, row) => all + row[what], 0);
    for (const what of ['early pictures', 'early sounds', 'pictures', 'sounds']) assert.equal(sum(what), 0, `${what}: numbers that never came`);
    assert.ok(again <= out * RETRANSMITTED, `${again} of ${out} packets were sent again`);
    assert.ok(sum('nacks') <= PEOPLE * SECONDS, `${sum('nacks')} NACKs`);
    for (const row of rows) {
      assert.ok(isAsked(row), `${row.who} gets ${row['of what was asked, %']} % of the bits`);
      assert.ok(row.heard >= Math.min(LOUDEST, PEOPLE) - 1, `${row.who} hears ${row.heard}`);
    }
    await Promise.all(people.map((who) => program.ask(who, 'leave')));
  });
}

function isAsked(row) {
  return Math.abs(row['of what was asked, %'] / 100 - 1) <= BITS;
}

/** Sequence numbers that never arrived, for video and audio, during the joins ("early") and afterwards. */
function missing(before, after) {
  const found = { 'early pictures': 0, 'early sounds': 0, pictures: 0, sounds: 0 };
  for (const [track, now] of Object.entries(after.tracks)) {
    const kind = track.endsWith(' camera') ? 'pictures' : 'sounds';
    const early = before.tracks[track]?.missing ?? 0;
    found[`early ${kind}`] += early;
    found[kind] += now.missing - early;
  }
  return found;
}

async function counts(people) {
  return Object.fromEntries(await Promise.all(people.map(async (who) => [who, await program.ask(who, 'tracks')])));
}

async function snapshot(people) {
  const metrics = server.metrics ? await metricsOf(server) : {};
  const at = performance.now();
  return { at, counts: await counts(people), metrics };
}

function difference(before, after) {
  return Object.fromEntries(Object.entries(after).map(([key, value]) => [key, value - (before[key] ?? 0)]));
}

async function inTurn(items, work) {
  for (const item of items) await work(item);
}
