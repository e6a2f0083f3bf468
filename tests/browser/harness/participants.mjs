// Runs pages of `pages/call.html` as participants of a call.

import assert from 'node:assert/strict';
import { CLIENTS, fileHandler, PAGES, serve } from './files.mjs';
import { joinToken } from './server.mjs';
import { until } from './limits.mjs';

export const PEOPLE = [
  { identity: 'ada', sender: 1, hue: 20, tone: 480 },
  { identity: 'ben', sender: 2, hue: 140, tone: 820 },
  { identity: 'cleo', sender: 3, hue: 260, tone: 1260 },
];

/** The participant in Firefox, in calls where the others are in Chromium. */
export const FAY = { identity: 'fay', sender: 4, hue: 320, tone: 1760 };

/**
 * The published client sends three simulcast layers only from 960 pixels of width on. A larger size would slow down the
 * machine: three pages encode and decode on the cores that also run the server.
 */
export const FULL = { width: 960, height: 540 };

export function startPages() {
  return serve(fileHandler([PAGES, CLIENTS]));
}

/** Opens a page per participant, ready to join. */
export async function openPeople(browser, pages, people, options = {}) {
  return Promise.all(people.map((person) => openPerson(browser, pages, person, options)));
}

export async function openPerson(browser, pages, person, options = {}) {
  const page = await browser.page(`${pages.http}/call.html${options.client ? `?client=${options.client}` : ''}`);
  await page.waitForFunction(() => window.call?.republish);
  const all = { ...FULL, ...person, ...options };
  const state = await page.evaluate((what) => window.call.prepare(what), all);
  if (state !== 'running') throw new Error(`sound does not run in the page: ${state}`);
  return {
    ...person,
    page,
    call: (name, ...args) => page.evaluate(([what, list]) => window.call[what](...list), [name, args]),
    events: () => page.evaluate(() => window.call.events),
    join: async (url, room) => page.evaluate(([to, token]) => window.call.join(to, token), [url, await joinToken(room, person.identity)]),
    /** Resolves when the page has recorded the event; `from` is the number of earlier events to skip. */
    saw: (what, who, from = 0) =>
      until(`${person.identity} to note "${what} ${who}"`, async () =>
        (await page.evaluate(() => window.call.events)).slice(from).find((event) => event.what === what && event.who === who),
      ),
    /** Resolves when the audio from `other` has the right tone and the time codes in its video advance. */
    follows: async (other) => {
      await until(`${person.identity} to hear ${other.tone} Hz of ${other.identity}`, async () => {
        // A participant that reconnects with a new session is absent for a moment.
        const tone = (await page.evaluate(() => window.call.view()))[other.identity]?.tone;
        return tone && Math.abs(tone.frequency - other.tone) < 25;
      });
      const codes = (count) => page.evaluate(([who, most]) => window.call.codes(who, most), [other.identity, count]);
      const earlier = (await codes(1)).at(-1);
      await until(`${other.identity}'s code to advance at ${person.identity}`, async () => {
        const seen = await codes(10);
        return seen.length >= 8 && seen.at(-1) !== earlier && seen.every((code, i) => i === 0 || code > seen[i - 1]);
      });
    },
    /** Resolves to the view of the page when everyone in `identities` is seen and heard. */
    meets: (identities) =>
      until(`${person.identity} to see and hear ${identities}`, async () => {
        const view = await page.evaluate(() => window.call.view());
        return identities.every((who) => view[who]?.firstPicture !== undefined && view[who]?.firstTone !== undefined) && view;
      }),
  };
}

/** Ends a test file: checks that no page had an uncaught error, and stops `parts` in this order. */
export async function end(people, ...parts) {
  try {
    for (const person of people ?? []) assert.deepEqual(person?.page.failures, [], `${person?.identity}: uncaught errors`);
  } finally {
    const stopped = [];
    for (const part of parts) stopped.push(...(await Promise.allSettled([part?.stop()])));
    for (const { reason } of stopped) if (reason) throw reason;
  }
}
