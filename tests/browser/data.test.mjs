// Reliable data between published clients: all of it arrives, or the receiver is told and starts a new session.
//
//   DATA_MEGABYTES  how much a fast, a slow and a stalled receiver are sent; without it that test is left out
//   DATA_WORKERS    workers of the server

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { dispose, Room } from '@livekit/rtc-node';
import { startBrowser } from './harness/browser.mjs';
import { progress, TEST_MS, until, within } from './harness/limits.mjs';
import { startLink } from './harness/link.mjs';
import { startPages } from './harness/participants.mjs';
import { joinToken, startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';

const MEGABYTES = Number(process.env.DATA_MEGABYTES);
const options = { timeout: 2 * TEST_MS };
let server, pages, browser;
const links = [];
const rows = [];

before(async () => {
  server = await startServer(process.env.DATA_WORKERS ? ['--workers', process.env.DATA_WORKERS] : []);
  pages = await startPages();
  browser = await startBrowser();
}, options);

after(async () => {
  if (rows.length) printTable('Reliable data', rows);
  await Promise.allSettled([browser?.stop(), pages?.stop?.(), ...links.map((link) => link.stop())]);
  await server?.stop();
  await within(20_000, 'the SDK to end', dispose());
}, options);

async function person(room, identity, { down } = {}) {
  const page = await browser.page(`${pages.http}/data.html`);
  await page.waitForFunction(() => window.data);
  let link;
  if (down) {
    link = await startLink({ down, up: {} });
    links.push(link);
    await link.carry(page);
  }
  const token = await joinToken(room, identity);
  await page.evaluate(([url, token]) => window.data.join(url, token), [server.ws, token]);
  return {
    identity,
    page,
    link,
    call: (name, ...args) => page.evaluate(([what, list]) => window.data[what](...list), [name, args]),
    got: (what) => page.evaluate((what) => window.data[what], what),
    leave: () => page.context().close(),
  };
}

async function room(name, receivers) {
  const ada = await person(name, 'ada');
  const people = [];
  for (const [identity, options] of Object.entries(receivers)) people.push(await person(name, identity, options));
  return [ada, ...people];
}

async function leave(people) {
  for (const one of people) await one.leave();
}

const memory = () => Number(readFileSync(`/proc/${server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]) / 1024;

test('files of 1 and 4 MB reach a fast and a slow receiver whole', options, async () => {
  const people = await room('files', { fast: {}, slow: { down: { rate_kbps: 1000, queue_ms: 250, delay_ms: 20 } } });
  const [ada, fast, slow] = people;
  for (const bytes of [1_000_000, 4_000_000]) {
    const sent = await ada.call('sendFile', bytes);
    for (const one of [fast, slow]) {
      const file = await until(`${one.identity} to get ${bytes} bytes`, async () => (await one.got('files')).find((file) => file.ended && file.begun >= sent.begun - 1000), 120_000);
      rows.push({ what: `${bytes} bytes by sendFile`, who: one.identity, ms: file.ended - sent.begun, whole: file.hash === sent.hash });
      assert.equal(file.hash, sent.hash, `${one.identity}: ${file.bytes ?? file.error} of ${bytes}`);
      assert.deepEqual(await one.got('events'), []);
      await one.call('forget');
    }
  }
  await leave(people);
});

test('200 packets of 15 kB and 3,000 of 1 kB reach both without a hole', options, async () => {
  const people = await room('packets', { fast: {}, slow: { down: { rate_kbps: 1000, queue_ms: 250, delay_ms: 20 } } });
  const [ada, fast, slow] = people;
  for (const [count, bytes] of [[200, 15_000], [3000, 1000]]) {
    const begun = Date.now();
    await ada.call('sendPackets', count, bytes);
    for (const one of [fast, slow]) {
      const all = async () => (await one.got('packets')).count === count;
      await until(`${one.identity} to get ${count} packets`, all, 90_000).catch(() => {});
      const got = await one.got('packets');
      rows.push({ what: `${count} packets of ${bytes}`, who: one.identity, ms: Date.now() - begun, whole: got.count === count && !got.hole });
      assert.equal(got.count, count, `${one.identity}: ${JSON.stringify(got)}`);
      assert.equal(got.hole, undefined);
      await one.call('forget');
    }
  }
  await leave(people);
});

test('a file reaches the Node SDK and one of it reaches a slow page', options, async () => {
  const [ada] = await room('node', {});
  const ben = new Room();
  const files = [];
  ben.registerByteStreamHandler('file', async (reader, { identity }) => {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const part of reader) {
      hash.update(part);
      bytes += part.length;
    }
    files.push({ from: identity, bytes, hash: hash.digest('hex') });
  });
  await within(30_000, 'ben to join', ben.connect(server.ws, await joinToken('node', 'ben')));
  const slow = await person('node', 'slow', { down: { rate_kbps: 1000, queue_ms: 250, delay_ms: 20 } });
  const sent = await ada.call('sendFile', 2_000_000);
  await until('ben to get the file', () => files.length);
  assert.deepEqual([files[0].hash, files[0].bytes], [sent.hash, 2_000_000]);
  await until('slow to get the file', async () => (await slow.got('files')).some((file) => file.hash === sent.hash), 90_000);

  const content = randomBytes(1_000_000);
  const writer = await ben.localParticipant.streamBytes({ topic: 'file', name: 'random.bin', totalSize: content.length });
  const begun = Date.now();
  for (let at = 0; at < content.length; at += 15_000) await writer.write(content.subarray(at, at + 15_000));
  await writer.close();
  const hash = createHash('sha256').update(content).digest('hex');
  for (const one of [ada, slow]) {
    await until(`${one.identity} to get the file of the Node SDK`, async () => (await one.got('files')).some((file) => file.hash === hash), 90_000);
    rows.push({ what: '1 MB by the Node SDK', who: one.identity, ms: Date.now() - begun, whole: true });
  }
  await ben.disconnect();
  await leave([ada, slow]);
});

// This test takes minutes.
const large = { ...options, skip: !MEGABYTES && 'only where DATA_MEGABYTES is set' };

test('megabytes to a fast, a slow and a stalled receiver', large, async () => {
  const bytes = MEGABYTES * 1_000_000;
  const alone = await room('alone', { fast: {} });
  const reference = await alone[0].call('sendFile', bytes);
  const whole = (one, sent) => async () => (await one.got('files')).find((file) => file.hash === sent.hash);
  const first = await until('the fast receiver to get all', whole(alone[1], reference), 300_000);
  await leave(alone);

  const people = await room('three', {
    fast: {},
    slow: { down: { rate_kbps: 200, queue_ms: 250, delay_ms: 20 } },
    stalled: {},
  });
  const [ada, fast, slow, stalled] = people;
  const before = memory();
  let most = before;
  const watching = setInterval(() => (most = Math.max(most, memory())), 100);
  const blocked = stalled.call('block', 20_000);
  const sent = await ada.call('sendFile', bytes);
  const file = await until('the fast receiver to get all', whole(fast, sent), 300_000);
  const [took, usual] = [file.ended - sent.begun, first.ended - reference.begun];
  progress(`${took} ms beside a slow and a stalled one, ${usual} ms alone; memory ${before.toFixed(0)} to ${most.toFixed(0)} MB`);
  await blocked;
  for (const one of [slow, stalled]) {
    // Either every byte arrives, or the client is told to start a new session and does.
    const end = await until(`${one.identity} to get all or to begin anew`, async () =>
      (await whole(one, sent)()) ? 'whole' : (await one.got('events')).some(({ what }) => what === 'reconnected') && 'began anew', 400_000);
    rows.push({ what: `${MEGABYTES} MB`, who: one.identity, ms: Date.now() - sent.begun, whole: end });
  }
  clearInterval(watching);
  rows.push({ what: `${MEGABYTES} MB`, who: 'fast', ms: took, whole: true }, { what: `${MEGABYTES} MB alone`, who: 'fast', ms: usual, whole: true });
  assert.ok(took < usual * 1.5 + 3000, `${took} ms, alone ${usual}`);
  assert.ok(most - before < 150, `${before} to ${most} MB`);
  // A client that started a new session receives data again.
  await slow.call('forget');
  await ada.call('sendPackets', 3, 100);
  await until('the slow one to get what is sent later', async () => (await slow.got('packets')).count >= 3);
  await leave(people);
});
