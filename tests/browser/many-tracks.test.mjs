// A room of a hundred participants with camera and microphone, and a late joiner that subscribes to all of them. Each
// track arrives, or its subscriber is told that it does not.
//
//   MANY_TRACKS=100,300,600   how many tracks there are, in turn (default: 198)

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { dispose, Room, RoomEvent, TrackKind } from '@livekit/rtc-node';
import { startProgram } from './clients/program.mjs';
import { startBrowser } from './harness/browser.mjs';
import { startCrowd } from './harness/crowd.mjs';
import { figures } from './harness/figures.mjs';
import { startFirefox } from './harness/firefox.mjs';
import { startPages } from './harness/participants.mjs';
import { progress, until, within } from './harness/limits.mjs';
import { joinToken, startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';

const COUNTS = (process.env.MANY_TRACKS ?? '198').split(',').map(Number);
const ALL_MS = 180_000;
/** Number of microphones whose audio is forwarded: only the loudest are. */
const LOUDEST = 16;
/**
 * Firefox connects with at most 128 media sections, including the data section. On one connection, eight are reserved
 * for what it publishes.
 */
const MOST = { 'Firefox, one connection': 119, 'Firefox, two connections': 127 };
const options = { timeout: 900_000 };
const rows = [];
let server, pages, browser, firefox, go;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [browser, firefox, go] = await Promise.all([startBrowser(), startFirefox(), startProgram('go')]);
}, options);

after(async () => {
  if (rows.length) printTable('A latecomer: from connect to all tracks, and its descriptions', rows);
  for (const part of [go, browser, firefox, pages, server]) await part?.stop();
  await within(20_000, 'the SDK to end', dispose());
}, options);

for (const tracks of COUNTS) {
  const room = `many-${tracks}-${process.pid}`;
  let crowd;

  test(`${tracks} tracks: the room is filled`, options, async () => {
    crowd = await startCrowd(server, room, tracks / 2);
    await until('all tracks to be published', async () => (await figures(server)).tracks === tracks, ALL_MS);
  });

  for (const [name, pick] of [['Chromium', () => browser], ['Firefox', () => firefox]]) {
    for (const singlePeerConnection of [true, false]) {
      const client = `${name}, ${singlePeerConnection ? 'one connection' : 'two connections'}`;
      test(`${tracks} tracks: ${client}`, options, async () => {
        const page = await pick().page(`${pages.http}/many.html`);
        const token = await joinToken(room, `latecomer-${client}`);
        const seen = await page.evaluate(([url, pass, single, count, ms]) => window.many(url, pass, single, count, ms), [server.ws, token, singlePeerConnection, tracks, ALL_MS]);
        await page.close();
        note(client, tracks, seen);
      });
    }
  }

  test(`${tracks} tracks: the Node SDK`, options, async () => {
    note('Node SDK, one connection', tracks, await native(room, tracks));
  });

  for (const single of [true, false]) {
    const client = `Go SDK, ${single ? 'one connection' : 'two connections'}`;
    test(`${tracks} tracks: ${client}`, options, async () => {
      note(client, tracks, await pion(room, tracks, single));
    });
  }

  test(`${tracks} tracks: the room is emptied`, options, () => crowd?.stop());
}

function note(client, tracks, seen) {
  rows.push({ client, tracks, ...seen });
  progress(`${client}: ${JSON.stringify(seen)}`);
  assert.ok(seen.lost <= 0, `${seen.lost} tracks neither came nor were reported`);
  if (tracks > 200 || client.startsWith('Go')) return;
  const most = MOST[client] ?? tracks;
  assert.equal(seen.came, Math.min(tracks, most));
  // If not all tracks fit, audio takes precedence.
  if (most < tracks) assert.equal(seen.came - seen.pictures, tracks / 2, 'sounds');
}

/** Joins with the published native SDK (Node) as a late joiner. */
async function native(name, count) {
  const room = new Room();
  const seen = { came: 0, reported: 0, pictures: 0 };
  let last = 0;
  const began = performance.now();
  room.on(RoomEvent.TrackSubscribed, (track) => {
    seen.came += 1;
    seen.pictures += track.kind === TrackKind.KIND_VIDEO ? 1 : 0;
    last = performance.now() - began;
  });
  room.on(RoomEvent.TrackSubscriptionFailed, () => (seen.reported += 1));
  const token = await joinToken(name, 'native-latecomer');
  await within(ALL_MS, 'the SDK to join', room.connect(server.ws, token, { autoSubscribe: true, dynacast: false }));
  const connected = performance.now() - began;
  await until('every track to come or to be reported', () => seen.came + seen.reported >= count, ALL_MS).catch(() => {});
  await within(20_000, 'the SDK to leave', room.disconnect());
  return { connected, all: last, came: seen.came, reported: seen.reported, lost: count - seen.came - seen.reported };
}

/**
 * Joins with the Go SDK as a late joiner. The Go SDK reports a track with its first packet. Only the loudest audio
 * tracks are forwarded; the others are reported when they are.
 */
async function pion(name, count, single) {
  const who = `pion-latecomer-${single ? 'one' : 'two'}`;
  const began = performance.now();
  await go.ask(who, 'join', { url: server.ws, token: await joinToken(name, who), single });
  const connected = performance.now() - began;
  let [pictures, sounds] = [0, 0];
  await until('every picture and the loudest to come', async () => {
    const names = Object.keys((await go.ask(who, 'tracks')).tracks);
    pictures = names.filter((track) => track.endsWith(' camera')).length;
    sounds = names.length - pictures;
    return pictures >= count / 2 && sounds >= Math.min(LOUDEST, count / 2);
  }, ALL_MS).catch(() => {});
  const all = performance.now() - began;
  await go.ask(who, 'leave');
  const missing = count / 2 - pictures + Math.max(0, Math.min(LOUDEST, count / 2) - sounds);
  return { connected, all, came: pictures + sounds, pictures, reported: 0, lost: missing };
}
