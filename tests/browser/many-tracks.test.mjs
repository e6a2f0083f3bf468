// A room of a hundred people with camera and microphone, and a latecomer who receives all of them: each track arrives, or
// its subscriber is told that it does not.
//
//   MANY_TRACKS=100,300,600   how many tracks there are, in turn (default: 198)

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { dispose, Room, RoomEvent, TrackKind } from '@livekit/rtc-node';
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
/** Firefox connects with 128 media sections, that of data included; eight are left to what it publishes there. */
const MOST = { 'Firefox, one connection': 119, 'Firefox, two connections': 127 };
const options = { timeout: 900_000 };
const rows = [];
let server, pages, browser, firefox;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [browser, firefox] = await Promise.all([startBrowser(), startFirefox()]);
}, options);

after(async () => {
  if (rows.length) printTable('A latecomer: from connect to all tracks, and its descriptions', rows);
  for (const part of [browser, firefox, pages, server]) await part?.stop();
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

  test(`${tracks} tracks: the room is emptied`, options, () => crowd?.stop());
}

function note(client, tracks, seen) {
  rows.push({ client, tracks, ...seen });
  progress(`${client}: ${JSON.stringify(seen)}`);
  assert.ok(seen.lost <= 0, `${seen.lost} tracks neither came nor were reported`);
  if (tracks > 200) return;
  const most = MOST[client] ?? tracks;
  assert.equal(seen.came, Math.min(tracks, most));
  // Sound comes first where not everything does.
  if (most < tracks) assert.equal(seen.came - seen.pictures, tracks / 2, 'sounds');
}

/** The published native SDK as a latecomer. */
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
