// Every published client with all everyday actions, each with the newest client in Chromium as its partner. The results
// form the table of docs/compatibility.md; `COMPATIBILITY=write` writes it there.
//
//   CLIENTS=go,1.15    only rows whose name contains one of these words; the table is not compared then
//   HABITS=data,resume  only these, after connect and publish

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { HABITS } from './habits.mjs';
import { startProgram } from './program.mjs';
import { pagePerson } from './page.mjs';
import { ROWS } from './rows.mjs';
import { committed, record, table, write } from './table.mjs';
import { startBrowser } from '../harness/browser.mjs';
import { metricsOf } from '../harness/figures.mjs';
import { startFirefox } from '../harness/firefox.mjs';
import { progress, TEST_MS } from '../harness/limits.mjs';
import { end, startPages } from '../harness/participants.mjs';
import { decisions, startServer } from '../harness/server.mjs';
import { startWire } from '../harness/wire.mjs';

/** Number of parallel meetings: most of a meeting is waiting, so two share the machine well. */
const SIDE_BY_SIDE = 2;
const options = { timeout: 4 * TEST_MS };
const words = (process.env.CLIENTS ?? '').toLowerCase().split(',').filter(Boolean);
const habits = Object.entries(HABITS).filter(([habit]) => !process.env.HABITS || ['connect', 'publish', ...process.env.HABITS.split(',')].includes(habit));
const rows = ROWS.filter(({ client, mode }) => words.length === 0 || words.some((word) => `${client} ${mode}`.toLowerCase().includes(word)));
const started = new Map();
const results = [];
let server, pages;

before(async () => {
  server = await startServer();
  pages = await startPages();
}, options);

after(() => end([], ...[...started.values()].map((each) => ({ stop: async () => (await each).stop() })), pages, server), options);

test('clients', { ...options, concurrency: SIDE_BY_SIDE }, (t) =>
  Promise.all(rows.map((row, i) => t.test(`${row.client}, ${row.mode}`, options, () => meet(row, i)))));

test('the table of docs/compatibility.md says what was found', options, (t) => {
  const found = table(results);
  console.log(`\n${found}\n`);
  record(results);
  if (words.length > 0 || process.env.HABITS) return t.skip('only some of it was tried');
  if (process.env.COMPATIBILITY === 'write') write(found);
  assert.equal(committed(), found);
});

async function meet(row, i) {
  const room = `clients-${process.pid}-${i}`;
  const wire = await startWire(server.http);
  const partner = await pagePerson(await browsers('Chromium'), pages, { identity: `partner-${i}`, sender: 1, hue: 20, tone: 480 });
  await partner.join(server.ws, room);
  await partner.publish();
  const client = await row.open({ browsers, pages, programs }, { identity: `client-${i}`, sender: 2, hue: 140, tone: 820 });
  const meeting = { client, partner, wire, room };
  const cells = {};
  const unexpected = [];
  for (const [habit, keep] of habits) {
    const began = Date.now();
    // Without a connection, nothing else can be tested.
    const failure = cells.connect === undefined || cells.connect === 'ok' ? await tried(keep, meeting) : 'not tried';
    cells[habit] = failure ?? 'ok';
    if (failure) {
      unexpected.push(`${habit}: ${failure}`);
      for (const { identity } of [client, partner]) progress(`why, as the server sees ${identity}: ${JSON.stringify(await decisions(server, room, identity))}`);
      progress(`what the server counts in a second: ${JSON.stringify(await countedInASecond())}`);
      if (client.received) progress(`what came to ${client.identity}: ${JSON.stringify(await client.received())}`);
    }
    progress(`${row.client}, ${row.mode}: ${habit}: ${cells[habit]}, ${((Date.now() - began) / 1_000).toFixed(1)} s`);
  }
  results[i] = { client: row.client, mode: row.mode, cells };
  if (cells.connect === 'ok') await client.leave();
  await partner.leave();
  for (const { page } of [client, partner]) {
    unexpected.push(...(page?.failures ?? []));
    await page?.close();
  }
  await wire.stop();
  assert.deepEqual(unexpected, []);
}

async function countedInASecond() {
  const before = await metricsOf(server);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const changed = Object.entries(await metricsOf(server)).filter(([name, value]) => value !== before[name] && !name.includes('_bucket{'));
  return Object.fromEntries(changed.map(([name, value]) => [name, value - (before[name] ?? 0)]));
}

/** Reason of the failure; undefined on success. */
async function tried(keep, meeting) {
  try {
    await keep(meeting);
    return undefined;
  } catch (error) {
    if (process.env.ANYTIME_LOG) console.log(error);
    return `${meeting.stage ? `${meeting.stage}: ` : ''}${error.message.split('\n')[0]}`;
  } finally {
    delete meeting.stage;
  }
}

function programs(kind) {
  return once(kind, () => startProgram(kind));
}

function browsers(name) {
  return once(name, name === 'Firefox' ? startFirefox : startBrowser);
}

/** Starts something on first use and shares it among all users. */
function once(name, start) {
  if (!started.has(name)) started.set(name, start());
  return started.get(name);
}
