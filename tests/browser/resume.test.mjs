// A signal connection that breaks: the client resumes its session, and nobody else notices.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { startFirefox } from './harness/firefox.mjs';
import { TEST_MS, until } from './harness/limits.mjs';
import { end, FAY, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { FOREIGN, startServer } from './harness/server.mjs';

const ROOM = `resume-${process.pid}`;
const options = { timeout: TEST_MS };
let server, pages, browser, firefox, single, dual, fay;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [browser, firefox] = await Promise.all([startBrowser(), startFirefox()]);
  fay = await openPerson(firefox, pages, FAY);
  single = await openPerson(browser, pages, PEOPLE[0]);
  dual = await openPerson(browser, pages, PEOPLE[1], { singlePeerConnection: false });
  await single.join(server.ws, ROOM);
  await dual.join(server.ws, ROOM);
  await single.meets([dual.identity]);
  await dual.meets([single.identity]);
  await fay.join(server.ws, ROOM);
  await fay.meets([single.identity, dual.identity]);
  for (const person of [single, dual]) await person.meets([fay.identity]);
}, options);

after(() => end([single, dual, fay], browser, firefox, pages, server), options);

const PAIRS = [
  ['one connection', () => [single, dual]],
  ['two connections', () => [dual, fay]],
  ['Firefox', () => [fay, single]],
];
for (const [name, pick] of PAIRS) {
  test(`a client with ${name} goes on when its signal connection breaks`, options, async () => {
    const [person, other] = pick();
    const sids = [await person.call('sid'), await other.call('sid')];
    const seen = [(await person.events()).length, (await other.events()).length];
    await person.call('simulate', 'signal-reconnect');
    await person.saw('reconnected', undefined, seen[0]);
    assert.deepEqual([await person.call('sid'), await other.call('sid')], sids, 'the same sessions');
    const gone = (await other.events()).slice(seen[1]).filter(({ what }) => what === 'left' || what === 'joined');
    assert.deepEqual(gone, [], 'nobody was seen to go or come');
    for (const [watcher, watched] of [[person, other], [other, person]]) {
      await until(`${watched.identity}'s code to advance at ${watcher.identity}`, async () => {
        const codes = await watcher.call('codes', watched.identity, 10);
        return codes.length >= 8 && codes.every((code, i) => i === 0 || code > codes[i - 1]);
      });
    }
    // Signaling works in both directions: the other participant sees a mute.
    await person.call('mute', 'camera', true);
    await other.saw('muted', `${person.identity} camera`);
    await person.call('mute', 'camera', false);
    await other.saw('unmuted', `${person.identity} camera`);
  });
}

for (const scenario of ['disconnect-signal-on-resume', 'disconnect-signal-on-resume-no-messages']) {
  test(`${scenario}: a resume that is cut short is tried again`, options, async () => {
    const sid = await single.call('sid');
    const seen = (await single.events()).length;
    await single.call('simulate', scenario);
    await single.saw('reconnected', undefined, seen);
    await until('the connection to be steady', async () => (await single.call('state')) === 'connected');
    assert.equal(await single.call('sid'), sid, 'the same session');
    await until(`${dual.identity}'s code to advance`, async () => (await single.call('codes', dual.identity, 10)).length >= 8);
  });
}

for (const scenario of ['node-failure', 'leave-full-reconnect']) {
  test(`${scenario}: the client comes back with a new session and its tracks`, options, async () => {
    const sid = await single.call('sid');
    const seen = [(await single.events()).length, (await dual.events()).length];
    await single.call('simulate', scenario);
    await single.saw('reconnected', undefined, seen[0]);
    assert.notEqual(await single.call('sid'), sid);
    await dual.saw('subscribed', `${single.identity} camera`, seen[1]);
    await single.meets([dual.identity, fay.identity]);
    await fay.follows(single);
  });
}

test('an operator is told nothing of it', { ...options, skip: FOREIGN }, () => {
  // Joins, resumes, republished tracks and renewed sessions are ordinary use, and must not be logged, since an operator
  // need not act.
  assert.deepEqual(server.logged(), []);
});
