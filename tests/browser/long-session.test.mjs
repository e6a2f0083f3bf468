// Compresses a long session of an active participant into a short time. At the end everything must work as at the
// beginning, and no count or memory of past activity may have grown.
//
//   LONG_SESSION=full   as much as in an hour: 100 mutes, 40 shares, 40 cameras, 20 publications of the same track, 200
//                       changes of layer, 5 broken signal connections, 3 changes of address

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { figures } from './harness/figures.mjs';
import { progress, until } from './harness/limits.mjs';
import { startNat } from './harness/nat.mjs';
import { end, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';

const FULL = process.env.LONG_SESSION === 'full';
const HOW_OFTEN = FULL
  ? { mutes: 100, shares: 40, cameras: 40, republications: 20, layers: 200, cuts: 5, moves: 3 }
  : { mutes: 20, shares: 20, cameras: 16, republications: 6, layers: 30, cuts: 2, moves: 1 };
/** Number of rounds; everything is checked after each. */
const ROUNDS = 4;
const ROOM = `long-${process.pid}`;
const options = { timeout: FULL ? 1_200_000 : 400_000 };
/**
 * Number of ended sources that the server stores per connection, so that late packets are not accepted as new sources.
 */
const REMEMBERED = 3 * 16;
/**
 * Limit of additional memory per share after the first part, in KiB. Four runs added 264 to 496 KiB for fifteen shares
 * and all other actions, so a leak of 100 KiB per share is detected.
 */
const KIB_A_SHARE = 64;
let server, pages, browser, nat, ada, ben;

before(async () => {
  server = await startServer();
  pages = await startPages();
  browser = await startBrowser();
  nat = await startNat();
  ada = await openPerson(browser, pages, PEOPLE[0]);
  ben = await openPerson(browser, pages, PEOPLE[1], { singlePeerConnection: false });
  await nat.carry(ada.page);
  await ada.join(server.ws, ROOM);
  await ben.join(server.ws, ROOM);
  await ada.meets([ben.identity]);
  await ben.meets([ada.identity]);
}, options);

after(() => end([ada, ben], browser, nat, pages, server), options);

test('a person who does much is received as at the beginning, and nothing has grown', options, async () => {
  const rows = [];
  const look = async (what) => {
    await settled();
    const { lines, ...now } = await figures(server);
    rows.push({ what, ...now, lines, 'in pages': [await ada.call('sections'), await ben.call('sections')].join(' ') });
    return rows.at(-1);
  };
  await look('at the beginning');
  const began = performance.now();
  for (let round = 0; round < ROUNDS; round += 1) {
    const share = (what) => part(HOW_OFTEN[what], round);
    await mutes(share('mutes'));
    await shares(share('shares'));
    await cameras(share('cameras'));
    await republications(share('republications'));
    await layers(share('layers'));
    await cuts(share('cuts'));
    await moves(share('moves'));
    await everythingWorks();
    await look(`after ${round + 1} of ${ROUNDS} parts`);
  }
  printTable(`${JSON.stringify(HOW_OFTEN)} in ${((performance.now() - began) / 1000).toFixed(0)} s`, rows);
  const [first, quarter, last] = [rows[0], rows[1], rows.at(-1)];
  assert.equal(last.tracks, first.tracks, 'tracks');
  assert.equal(last.subscriptions, first.subscriptions, 'subscriptions');
  assert.ok(last.sections <= quarter.sections + 1, `sections grow: ${quarter.sections}, ${last.sections}`);
  assert.ok(last.sources <= first.sources + REMEMBERED, `sources grow: ${first.sources}, ${last.sources}`);
  const shared = HOW_OFTEN.shares - part(HOW_OFTEN.shares, 0);
  assert.ok(last.rssKb <= quarter.rssKb + KIB_A_SHARE * shared, `memory grows: ${quarter.rssKb}, ${last.rssKb} KiB`);
  assert.ok(last.lines - first.lines <= 20 + 4 * (HOW_OFTEN.cuts + HOW_OFTEN.moves), `the log grows: ${first.lines}, ${last.lines}`);
});

/** How many of `all` belong to this round. */
function part(all, round) {
  return Math.floor((all * (round + 1)) / ROUNDS) - Math.floor((all * round) / ROUNDS);
}

async function mutes(count) {
  for (let i = 0; i < count; i += 1) {
    const source = i % 2 ? 'camera' : 'microphone';
    const seen = (await ben.events()).length;
    await ada.call('mute', source, true);
    await ben.saw('muted', `${ada.identity} ${source}`, seen);
    await ada.call('mute', source, false);
    await ben.saw('unmuted', `${ada.identity} ${source}`, seen);
  }
}

async function shares(count) {
  for (let i = 0; i < count; i += 1) {
    const seen = (await ben.events()).length;
    await ada.call('share', ada.sender, { simulcast: true });
    await until(`ben to see share ${i + 1} of ada's screen`, () => ben.call('screen', ada.identity));
    await ada.call('unshare');
    await ben.saw('unsubscribed', `${ada.identity} screen_share`, seen);
  }
}

async function cameras(count) {
  for (let i = 0; i < count; i += 1) await seenAgain(`camera ${i + 1}`, () => ada.call('replaceCamera'));
}

async function republications(count) {
  for (let i = 0; i < count; i += 1) {
    if (i % 2) {
      const seen = (await ben.events()).length;
      await ada.call('publishAgain', 'microphone');
      await ben.saw('subscribed', `${ada.identity} microphone`, seen);
    } else await seenAgain(`publication ${i + 1} of the same camera`, () => ada.call('publishAgain', 'camera'));
  }
}

async function seenAgain(what, act) {
  const seen = (await ben.events()).length;
  await act();
  const { at } = await ben.saw('subscribed', `${ada.identity} camera`, seen);
  await until(`ben to see ${what}`, async () => (await ben.call('latest', ada.identity)).picture > at);
}

async function layers(count) {
  for (let i = 0; i < count; i += 1) {
    await ben.call('requestQuality', ada.identity, i % 3);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await ben.call('requestQuality', ada.identity, 2);
}

async function cuts(count) {
  for (let i = 0; i < count; i += 1) {
    const seen = (await ada.events()).length;
    await ada.call('simulate', 'signal-reconnect');
    await ada.saw('reconnected', undefined, seen);
  }
}

async function moves(count) {
  for (let i = 0; i < count; i += 1) {
    await nat.rebind();
    await everythingWorks();
  }
}

async function everythingWorks() {
  for (const [watcher, watched] of [[ada, ben], [ben, ada]]) {
    const { now } = await watcher.call('latest', watched.identity);
    await until(`${watcher.identity} to see and hear ${watched.identity}`, async () => {
      const { picture, tone } = await watcher.call('latest', watched.identity);
      return picture > now && tone && Math.abs(tone.frequency - watched.tone) < 25 && tone.level > -40;
    });
  }
  progress('everything works');
}

/** Waits until ended publications are removed, which the server does once their client has negotiated. */
async function settled() {
  await until('two cameras and two microphones', async () => (await figures(server)).tracks === 4);
}
