// Firefox among Chromium pages: every order of joining, the time to first media between Firefox and the others, and all
// features of a call in both directions.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { enter, shows } from './harness/call-page.mjs';
import { startFirefox } from './harness/firefox.mjs';
import { progress, TEST_MS, until } from './harness/limits.mjs';
import { end, FAY, FULL, openPeople, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { startServer } from './harness/server.mjs';

/** Delay of the server's answers in Firefox, so that media arrives before its description. */
const HELD_BACK_MS = 150;
/** A delay that is long enough for the media of a new participant to arrive first in any case. */
const MEDIA_AHEAD_MS = 1_500;
/** Number of simultaneous joins, for each number of connections. */
const ROUNDS = 3;
/** A browser sends its upper layers once it trusts the network, which takes long on a busy machine. */
const LAYERS_MS = 120_000;

const options = { timeout: TEST_MS };
let server, pages, chromium, firefox, people, fay, ada, ben;
let calls = 0;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [chromium, firefox] = await Promise.all([startBrowser(), startFirefox()]);
  fay = await openPerson(firefox, pages, FAY);
  [ada, ben] = await openPeople(chromium, pages, PEOPLE.slice(0, 2));
  people = [fay, ada, ben];
}, options);

after(() => end(people, firefox, chromium, pages, server), options);

/** Returns the name of a new room, after everyone has left the previous one. */
async function room() {
  if (calls > 0) await Promise.all(people.map((person) => person.call('leave')));
  calls += 1;
  return `firefox-${process.pid}-${calls}`;
}

async function assertMeet() {
  for (const person of people) {
    const others = people.filter((other) => other !== person);
    const view = await person.meets(others.map((other) => other.identity));
    for (const other of others) {
      assert.deepEqual(view[other.identity].senders, [other.sender], `${person.identity} sees ${other.identity}`);
      await person.follows(other);
    }
  }
}

for (const single of [true, false]) {
  const connections = single ? 'one connection' : 'two connections';

  test(`Firefox with ${connections} and two others join at the same moment, and its answers come late`, options, async () => {
    await fay.call('reconsider', { singlePeerConnection: single });
    await fay.page.evaluate((ms) => (window.answersHeldBack = ms), HELD_BACK_MS);
    for (let round = 1; round <= ROUNDS; round += 1) {
      progress(`${connections}, round ${round}`);
      const name = await room();
      await Promise.all(people.map((person) => person.join(server.ws, name)));
      await assertMeet();
    }
    await fay.page.evaluate(() => (window.answersHeldBack = 0));
  });

  for (const order of ['first', 'last']) {
    test(`Firefox with ${connections} comes ${order}`, options, async () => {
      await fay.call('reconsider', { singlePeerConnection: single });
      const name = await room();
      for (const person of order === 'first' ? [fay, ada, ben] : [ada, ben, fay]) await person.join(server.ws, name);
      await assertMeet();
    });
  }
}

test('a muted person in Firefox is not given the sound and the picture of who comes next', options, async () => {
  await fay.call('reconsider', { singlePeerConnection: true });
  const name = await room();
  await ben.join(server.ws, name);
  const sources = ['microphone', 'camera'];
  for (const source of sources) await ben.call('mute', source, true);
  const from = (await fay.events()).length;
  await fay.join(server.ws, name);
  for (const source of sources) await fay.saw('subscribed', `ben ${source}`, from);
  // Ada's media arrives long before the answer that describes it.
  await fay.page.evaluate((ms) => (window.answersHeldBack = ms), MEDIA_AHEAD_MS);
  await ada.join(server.ws, name);
  const { ada: seen, ben: muted } = await fay.meets(['ada']);
  await fay.page.evaluate(() => (window.answersHeldBack = 0));
  assert.deepEqual(seen.senders, [ada.sender]);
  assert.deepEqual([muted.firstTone, muted.senders], [undefined, []]);
  for (const source of sources) await ben.call('mute', source, false);
  await assertMeet();
});

test('three layers leave Firefox, and each layer arrives, from it and at it', options, async () => {
  await fay.call('reconsider', { singlePeerConnection: true });
  const name = await room();
  for (const person of people) await person.join(server.ws, name);
  for (const [watcher, watched] of [[ada, fay], [fay, ada]]) {
    await watcher.meets([watched.identity]);
    await until(`${watched.identity} to send three layers`, async () => (await watched.call('layers')).filter((layer) => layer.framesSent > 0).length === 3, LAYERS_MS);
    for (const [quality, width] of [[2, FULL.width], [0, 320], [1, 640]]) {
      await watcher.call('requestQuality', watched.identity, quality);
      await until(`${watcher.identity} to see ${width} pixels of ${watched.identity}`, async () => (await watcher.call('view'))[watched.identity].width === width);
    }
    progress(`${watcher.identity} saw each layer of ${watched.identity}`);
  }
});

for (const [who, to] of [['fay', 'ada'], ['ada', 'fay']]) {
  const find = (identity) => people.find((person) => person.identity === identity);

  test(`mute, screen, chat and data from ${who} to ${to}`, options, async () => {
    const [person, other] = [find(who), find(to)];
    for (const source of ['camera', 'microphone']) {
      const from = (await other.events()).length;
      await person.call('mute', source, true);
      await other.saw('muted', `${who} ${source}`, from);
      await person.call('mute', source, false);
      await other.saw('unmuted', `${who} ${source}`, from);
    }
    await other.follows(person);
    const from = (await other.events()).length;
    progress(`${who} shares by ${await person.call('shareScreen')}`);
    await other.saw('subscribed', `${who} screen_share`, from);
    await until(`the screen to be decoded at ${to}`, () => other.call('screen', who));
    await person.call('stopScreen');
    await other.saw('unsubscribed', `${who} screen_share`, from);
    await person.call('sendText', 'Grüße, 你好');
    await other.saw('chat', `${who} Grüße, 你好`);
    for (const reliable of [true, false]) {
      await person.call('sendData', `packet ${reliable}`, 'test', reliable);
      await other.saw('data', `${who} test packet ${reliable}`);
    }
  });
}

for (const [scenario, keeps] of [['signal-reconnect', true], ['leave-full-reconnect', false]]) {
  test(`${scenario}: Firefox ${keeps ? 'goes on with its session' : 'comes back with a new one'}`, options, async () => {
    const sid = await fay.call('sid');
    const from = (await fay.events()).length;
    await fay.call('simulate', scenario);
    await fay.saw('reconnected', undefined, from);
    assert.equal((await fay.call('sid')) === sid, keeps);
    await assertMeet();
  });
}

test('media of Firefox goes over UDP', options, async () => {
  for (const { local, remote } of await fay.call('transports')) assert.deepEqual([local, remote], ['udp', 'udp']);
});

test('the call page in Firefox meets the call page in Chromium', options, async () => {
  const url = `${server.http}/?room=firefox-page-${process.pid}`;
  const inFirefox = await firefox.page(url);
  const field = await inFirefox.waitForSelector('::-p-aria([name="Your name"])');
  await field.type('Fay');
  await field.press('Enter');
  const inChromium = await chromium.page(url);
  await enter(inChromium, 'Ada');
  await shows(inFirefox, 'Ada');
  await shows(inChromium, 'Fay');
  assert.deepEqual([...inFirefox.failures, ...inChromium.failures], []);
});
