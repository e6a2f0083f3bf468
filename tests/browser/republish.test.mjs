// A track that is unpublished and published again unchanged. For the second sender, browsers use an id that nobody
// announced. Sections in which nothing is sent any more are reused, also for other participants' tracks.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { startFirefox } from './harness/firefox.mjs';
import { progress, TEST_MS, until } from './harness/limits.mjs';
import { end, FAY, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';

const ROOM = `republish-${process.pid}`;
const options = { timeout: TEST_MS };
/** The first few sections that a client stops using stay idle, later ones are reused. Both must work. */
const ROUNDS = Number(process.env.REPUBLISH_ROUNDS ?? 7);
/** Number of times that one participant replaces another. */
const CHANGES = 4;
const rows = [];
let server, pages, browser, firefox, single, dual, fay;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [browser, firefox] = await Promise.all([startBrowser(), startFirefox()]);
  single = await openPerson(browser, pages, PEOPLE[0]);
  dual = await openPerson(browser, pages, PEOPLE[1], { singlePeerConnection: false });
  await single.join(server.ws, ROOM);
  await dual.join(server.ws, ROOM);
  fay = await openPerson(firefox, pages, FAY);
  await fay.join(server.ws, ROOM);
  await single.meets([dual.identity, fay.identity]);
  await dual.meets([single.identity, fay.identity]);
  await fay.meets([single.identity, dual.identity]);
}, options);

test('somebody leaves as another comes, and everybody sees who has come', options, async () => {
  const watchers = [single, dual, fay];
  const dora = { identity: 'dora', sender: 5, hue: 60, tone: 2_300 };
  const pair = await Promise.all([PEOPLE[2], dora].map((who) => openPerson(browser, pages, who)));
  await pair[0].join(server.ws, ROOM);
  for (const watcher of watchers) await watcher.meets([pair[0].identity]);
  for (let round = 1; round <= CHANGES; round += 1) {
    const [gone, comes] = round % 2 ? pair : [pair[1], pair[0]];
    await Promise.all([gone.call('leave'), comes.join(server.ws, ROOM)]);
    for (const watcher of watchers) {
      await watcher.meets([comes.identity]);
      await watcher.follows(comes);
    }
    progress(`change ${round}: ${comes.identity} is seen by everybody`);
  }
  for (const { call, page } of pair) {
    await call('leave');
    await page.close();
  }
});

after(async () => {
  if (rows.length) printTable('From the call to a picture or a tone that was published again (ms)', rows);
  await end([single, dual, fay], browser, firefox, pages, server);
}, options);

for (const [name, pick] of [
  ['one connection', () => [single, dual]],
  ['two connections', () => [dual, fay]],
  ['one connection of Firefox', () => [fay, single]],
]) {
  for (const [what, sources] of [
    ['the camera', ['camera']],
    ['the microphone', ['microphone']],
    ['everything', ['camera', 'microphone']],
  ]) {
    test(`${what} published again over ${name} is received`, options, async () => {
      const [person, other] = pick();
      for (let round = 1; round <= ROUNDS; round += 1) {
        const seen = (await other.events()).length;
        const { now: before } = await other.call('latest', person.identity);
        if (what === 'everything') await person.call('republishAll');
        else await person.call('publishAgain', sources[0]);
        for (const source of sources) await other.saw('subscribed', `${person.identity} ${source}`, seen);
        const subscribed = (await other.events()).slice(seen).findLast((event) => event.what === 'subscribed').at;
        const took = { what, over: name, round, subscribed: subscribed - before, picture: undefined, tone: undefined };
        if (sources.includes('camera')) {
          const { picture } = await until(`${other.identity} to see the camera again (round ${round})`, async () => {
            const latest = await other.call('latest', person.identity);
            return latest.picture > subscribed && latest;
          });
          took.picture = picture - before;
        }
        if (sources.includes('microphone')) {
          const { now } = await until(`${other.identity} to hear the microphone again (round ${round})`, async () => {
            const latest = await other.call('latest', person.identity);
            return latest.tone && Math.abs(latest.tone.frequency - person.tone) < 25 && latest.tone.level > -40 && latest;
          });
          took.tone = now - before;
        }
        rows.push(took);
      }
    });
  }
}

test('sections that were left behind are used again', options, async () => {
  for (const person of [single, dual, fay]) {
    const sections = await person.call('sections');
    progress(`${person.identity} has ${sections} media sections`);
    // Six initial sections of a single connection, data, a camera and a microphone, the received tracks, and four idle
    // sections.
    assert.ok(sections.every((count) => count <= 16), `${person.identity}: ${sections}`);
  }
});
