// A client with two connections, one for each direction, as older clients have.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { startFirefox } from './harness/firefox.mjs';
import { progress, TEST_MS, until } from './harness/limits.mjs';
import { end, FAY, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';

const ROOM = `dual-${process.pid}`;
const options = { timeout: TEST_MS };
const sockets = [];
let server, pages, browser, firefox, dual, single, fay;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [browser, firefox] = await Promise.all([startBrowser(), startFirefox()]);
  fay = await openPerson(firefox, pages, FAY, { singlePeerConnection: false });
  dual = await openPerson(browser, pages, PEOPLE[0], { singlePeerConnection: false });
  single = await openPerson(browser, pages, PEOPLE[1]);
  dual.page.on('websocket', (socket) => sockets.push(new URL(socket.url()).pathname));
}, options);

after(() => end([dual, single, fay], browser, firefox, pages, server), options);

test('a client with two connections and one with a single connection meet', options, async () => {
  progress('the client with two connections joins first, so that it also sees somebody come');
  const joins = [await dual.join(server.ws, ROOM), await single.join(server.ws, ROOM)];
  const rows = [];
  for (const [i, [person, other]] of [[dual, single], [single, dual]].entries()) {
    const seen = (await person.meets([other.identity]))[other.identity];
    assert.deepEqual(seen.senders, [other.sender]);
    rows.push({ who: i === 0 ? 'two connections' : 'one connection', connected: joins[i].connected, picture: seen.firstPicture, sound: seen.firstTone });
  }
  printTable('From connect to the first picture and sound (ms)', rows);
  assert.deepEqual(sockets, ['/rtc'], 'signaling went over the older door, and nowhere else');
  assert.equal(await dual.call('connectionCount'), 2);
  assert.equal(await single.call('connectionCount'), 1);
});

test('media flows in both directions', options, async () => {
  for (const [person, other] of [[dual, single], [single, dual]]) {
    await until(`${person.identity} to hear ${other.tone} Hz`, async () => {
      const { tone } = (await person.call('view'))[other.identity];
      return Math.abs(tone.frequency - other.tone) < 25;
    });
    await until(`${other.identity}'s code to advance at ${person.identity}`, async () => {
      const codes = await person.call('codes', other.identity, 10);
      return codes.length >= 8 && codes.every((code, i) => i === 0 || code > codes[i - 1]);
    });
  }
});

test('layers can be chosen', options, async () => {
  for (const [quality, width] of [[0, 320], [2, 960]]) {
    await dual.call('requestQuality', single.identity, quality);
    await until(`frames ${width} pixels wide`, async () => (await dual.call('view'))[single.identity].width === width);
  }
});

test('data flows in both directions, reliable and lossy', options, async () => {
  for (const [person, other] of [[dual, single], [single, dual]]) {
    for (const reliable of [true, false]) {
      const text = `from ${person.identity} ${reliable}`;
      await person.call('sendData', text, 'test', reliable);
      await other.saw('data', `${person.identity} test ${text}`);
    }
    await person.call('sendText', `hello from ${person.identity}`);
    await other.saw('chat', `${person.identity} hello from ${person.identity}`);
  }
});

test('both connections are encrypted with AES-GCM over UDP', options, async () => {
  const transports = await dual.call('transports');
  assert.equal(transports.length, 2);
  for (const { srtpCipher, local, remote } of transports) {
    assert.equal(local, 'udp');
    assert.equal(remote, 'udp');
    assert.equal(srtpCipher, 'SRTP_AEAD_AES_128_GCM');
  }
});

test('two clients with two connections each meet', options, async () => {
  const third = await openPerson(browser, pages, PEOPLE[2], { singlePeerConnection: false });
  await third.join(server.ws, ROOM);
  await third.meets(['ada', 'ben']);
  await dual.meets(['cleo', 'ben']);
  progress('and one in Firefox comes');
  await fay.join(server.ws, ROOM);
  await fay.meets(['ada', 'ben', 'cleo']);
  for (const person of [dual, single, third]) {
    await person.meets(['fay']);
    await person.follows(fay);
    await fay.follows(person);
  }
  assert.equal(await fay.call('connectionCount'), 2);
  const from = (await dual.events()).length;
  await third.call('leave');
  await dual.saw('left', 'cleo', from);
});

test('sound of two channels arrives as two channels', options, async () => {
  const tones = [PEOPLE[2].tone, 3_000];
  const third = await openPerson(browser, pages, PEOPLE[2], { onlySpeaks: true, rightTone: tones[1] });
  await third.join(server.ws, ROOM);
  for (const [person, connections] of [[dual, 2], [single, 1], [fay, 2]]) {
    await until(`${person.identity} to hear ${tones} Hz left and right`, async () => {
      const channels = (await person.call('view')).cleo?.channels ?? [];
      return channels.length === 2 && channels.every(({ frequency, level }, i) => Math.abs(frequency - tones[i]) < 25 && level > -50);
    });
    progress(`${person.identity}, ${connections} connection${connections > 1 ? 's' : ''}: two channels`);
  }
  // If a browser plays a mono track on two channels, both must be equal.
  const { channels } = (await dual.call('view')).ben;
  for (const { frequency } of channels.filter(({ level }) => level > -50)) assert.ok(Math.abs(frequency - single.tone) < 25);
});
