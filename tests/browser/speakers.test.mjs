// Active speakers and connection quality, as the published client reports them to its application.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { startFirefox } from './harness/firefox.mjs';
import { TEST_MS, until } from './harness/limits.mjs';
import { end, FAY, openPeople, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { startServer } from './harness/server.mjs';

const ROOM = `speakers-${process.pid}`;
const options = { timeout: TEST_MS };
let server, pages, browser, firefox, people, ada, ben, cleo, fay;

before(async () => {
  server = await startServer();
  pages = await startPages();
  [browser, firefox] = await Promise.all([startBrowser(), startFirefox()]);
  // No video: this test is about audio, and a machine too busy to encode appears as a bad connection.
  const silent = { onlySpeaks: true, silent: true };
  people = [...(await openPeople(browser, pages, PEOPLE, silent)), await openPerson(firefox, pages, FAY, silent)];
  [ada, ben, cleo, fay] = people;
  await Promise.all(people.map((person) => person.join(server.ws, ROOM)));
}, options);

after(() => end(people, browser, firefox, pages, server), options);

/** Names in the last list of speakers of the page. */
const speaking = async (person) => (await person.events()).filter(({ what }) => what === 'speaking').at(-1)?.who ?? '';

const everybodySees = (names) =>
  Promise.all(
    people.map((person) => until(`${person.identity} to see "${names}" speak`, async () => (await speaking(person)) === names)),
  );

test('whoever speaks is named to everybody, and is not when that ends', options, async () => {
  for (const speaker of [ada, fay, ben, cleo, ada]) {
    const before = await Promise.all(people.map(async (person) => (await person.events()).length));
    await speaker.call('speak', true);
    await everybodySees(speaker.identity);
    await speaker.call('speak', false);
    await everybodySees('');
    for (const [i, person] of people.entries()) {
      const told = (await person.events()).slice(before[i]).filter(({ what }) => what === 'speaking');
      const named = new Set(told.map(({ who }) => who).filter(Boolean));
      assert.deepEqual([...named], [speaker.identity], `${person.identity} was told of others`);
    }
  }
});

test('on a clean link everyone is excellently connected', options, async () => {
  for (const person of people) {
    for (const { identity } of people) {
      // While the machine is too busy for audio, the link does not count as good.
      await until(`${person.identity} to see ${identity} excellently connected`, async () => {
        const told = (await person.events()).filter(({ what, who }) => what === 'quality' && who.startsWith(`${identity} `));
        return told.at(-1)?.who === `${identity} excellent`;
      });
    }
  }
});
