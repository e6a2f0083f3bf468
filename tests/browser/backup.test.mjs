// A camera in VP9 for browsers that can decode it, and in VP8 for a browser that cannot. The published client does the
// rest: it publishes VP8 when it is told that a subscriber needs it, and stops when none does.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { startFirefox } from './harness/firefox.mjs';
import { progress, TEST_MS, until } from './harness/limits.mjs';
import { end, FAY, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { startServer } from './harness/server.mjs';

const options = { timeout: TEST_MS };
/** Values of the backup codec policy in the published client. */
const SIMULCAST = 1;
const REGRESSION = 2;
let server, pages, browser, firefox, ada, ben, cleo, fay;
let calls = 0;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [browser, firefox] = await Promise.all([startBrowser(), startFirefox()]);
  ada = await openPerson(browser, pages, PEOPLE[0]);
  ben = await openPerson(browser, pages, PEOPLE[1], { onlyWatches: true });
  cleo = await openPerson(browser, pages, PEOPLE[2], { onlyWatches: true });
  fay = await openPerson(firefox, pages, FAY, { onlyWatches: true });
  for (const person of [cleo, fay]) {
    await person.page.evaluate(() => {
      window.lacking = 'video/VP9';
    });
  }
}, options);

after(() => end([ada, ben, cleo, fay], browser, firefox, pages, server), options);

const WATCHERS = [
  ['a browser without VP9 and with one connection', true, SIMULCAST, () => cleo],
  ['a browser without VP9 and with two connections', false, undefined, () => cleo],
  ['Firefox without VP9', true, SIMULCAST, () => fay],
];
for (const [name, single, backupCodecPolicy, pick] of WATCHERS) {
  test(`${name} sees VP8, and another sees VP9`, options, async () => {
    const watcher = pick();
    const room = await call({ backupCodecPolicy });
    await assertSees(ben, 'video/VP9');
    assert.deepEqual(await sent(), ['video/VP9'], 'nobody needs another');
    await watcher.call('reconsider', { singlePeerConnection: single });
    await watcher.join(server.ws, room);
    await watcher.meets(['ada']);
    await assertSees(watcher, 'video/VP8');
    await assertSees(ben, 'video/VP9');
    assert.deepEqual(await sent(), ['video/VP8', 'video/VP9']);
    progress('who needed VP8 leaves');
    await watcher.call('leave');
    await until('ada to send VP9 alone', async () => (await sent()).join() === 'video/VP9');
    await assertSees(ben, 'video/VP9');
    progress('and comes back');
    await watcher.join(server.ws, room);
    await watcher.meets(['ada']);
    await assertSees(watcher, 'video/VP8');
    await assertSees(ben, 'video/VP9');
    await watcher.call('leave');
  });
}

test('everybody sees VP8 once somebody needs it, if its publisher wants to encode once', options, async () => {
  const room = await call({ backupCodecPolicy: REGRESSION });
  await assertSees(ben, 'video/VP9');
  await cleo.join(server.ws, room);
  await cleo.meets(['ada']);
  await assertSees(cleo, 'video/VP8');
  await assertSees(ben, 'video/VP8');
  await until('ada to send VP8 alone', async () => (await sent()).join() === 'video/VP8');
  await assertSees(ben, 'video/VP8');
});

test('whoever lacks VP9 may be there before its publisher', options, async () => {
  await Promise.all([ada, ben, cleo].map((person) => person.call('leave')));
  calls += 1;
  const room = `backup-${process.pid}-${calls}`;
  await ada.call('reconsider', { codec: 'vp9', maxBitrate: 1_000_000, backupCodec: true, backupCodecPolicy: SIMULCAST });
  for (const person of [cleo, ben, ada]) await person.join(server.ws, room);
  await ben.meets(['ada']);
  await cleo.meets(['ada']);
  await assertSees(cleo, 'video/VP8');
  await assertSees(ben, 'video/VP9');
});

/** Ada publishes, Ben subscribes. Resolves to the name of the room. */
async function call(what) {
  calls += 1;
  const room = `backup-${process.pid}-${calls}`;
  await Promise.all([ada, ben, cleo].map((person) => calls > 1 && person.call('leave')));
  await ada.call('reconsider', { codec: 'vp9', maxBitrate: 1_000_000, backupCodec: true, ...what });
  await ben.join(server.ws, room);
  await ada.join(server.ws, room);
  await ben.meets(['ada']);
  progress(`ben sees and hears ada: ${JSON.stringify(what)}`);
  return room;
}

/** Checks that a person sees ada's video advance in the given codec. */
async function assertSees(person, codec) {
  const received = async () => {
    const streams = await person.call('streams');
    return streams.filter(({ kind, out, packets }) => kind === 'video' && !out && packets > 0).map((stream) => stream.codec);
  };
  await until(`${person.identity} to receive ${codec}`, async () => (await received()).join() === codec);
  const earlier = (await person.call('codes', 'ada', 1)).at(-1);
  await until(`ada's code to advance at ${person.identity}`, async () => {
    const codes = await person.call('codes', 'ada', 10);
    return codes.length >= 8 && codes.at(-1) !== earlier && codes.every((code, i) => i === 0 || code > codes[i - 1]);
  });
  assert.deepEqual(await received(), [codec]);
  assert.deepEqual((await person.call('view')).ada.senders, [ada.sender]);
  progress(`${person.identity} sees ${codec}`);
}

/** The codecs that ada encodes at present. */
async function sent() {
  const frames = async () => {
    const counted = {};
    for (const { kind, out, codec, framesSent } of await ada.call('streams')) {
      if (kind === 'video' && out && codec) counted[codec] = (counted[codec] ?? 0) + (framesSent ?? 0);
    }
    return counted;
  };
  const before = await frames();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const after = await frames();
  return Object.keys(after).filter((codec) => after[codec] > (before[codec] ?? 0)).sort();
}
