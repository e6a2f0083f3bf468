// The call page as used by a person, operated by roles and labels, so this also tests what a screen reader finds.
// Screenshots are written to `test-output/`.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { button, enter, personPage, shot, shows, tile } from './harness/call-page.mjs';
import { CALL_PAGE } from './harness/files.mjs';
import { startFront } from './harness/front.mjs';
import { progress, TEST_MS, until } from './harness/limits.mjs';
import { FOREIGN, startServer } from './harness/server.mjs';
import { startWire } from './harness/wire.mjs';

/** A running server may still store the participants of an earlier run, so the room is a new one. */
const ROOM = FOREIGN ? `garden-${process.pid}` : 'garden';
const PHONE = { width: 360, height: 740 };
const options = { timeout: TEST_MS };
let server, site, wire, browser, ada, ben;

before(async () => {
  server = await startServer();
  if (FOREIGN) assert.ok(existsSync(CALL_PAGE), 'the call page is built: npm run build in signaling/web');
  site = FOREIGN ? await startFront(server) : server;
  wire = await startWire(site.http);
  // A name other than the loopback address, so that the browser does not treat the page as a secure context.
  browser = await startBrowser(['--host-resolver-rules=MAP call.test 127.0.0.1']);
}, options);

after(async () => {
  await browser?.stop();
  await wire?.stop();
  if (site !== server) await site?.stop();
  await server?.stop();
}, options);

const view = (page, name) => page.locator(`main[data-view=${name}]`);
const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

test('the door shows the own picture and takes a name', options, async () => {
  const foreign = [];
  ada = await personPage(browser, 'ada');
  ada.on('request', (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (/^(http|ws)/.test(protocol) && hostname !== '127.0.0.1') foreign.push(request.url());
  });
  await ada.goto(`${site.http}/?room=${ROOM}`);
  await ada.getByText(`You are invited to ${ROOM}`).waitFor();
  const preview = ada.getByLabel('Your camera');
  await until('the preview', () => preview.evaluate((element) => element.videoWidth > 0));
  assert.equal(await ada.getByLabel('Room', { exact: true }).inputValue(), ROOM);
  await ada.getByText('Devices').click();
  assert.ok((await ada.getByLabel('Camera', { exact: true }).last().locator('option').count()) > 0);
  await ada.getByText('Devices').click();
  await ada.getByLabel('Your name').fill('Ada Lovelace');
  await ada.emulateMedia({ colorScheme: 'light' });
  await shot(ada, 'door-light');
  await ada.emulateMedia({ colorScheme: 'dark' });
  await shot(ada, 'door-dark');
  await ada.emulateMedia({ colorScheme: 'light' });
  assert.deepEqual(foreign, [], 'nothing is fetched from elsewhere');
});

test('two people meet', options, async () => {
  await enter(ada, 'Ada Lovelace');
  await shows(ada, 'Ada Lovelace (you)');
  ben = await personPage(browser, 'ben', `${site.http}/?room=${ROOM}`);
  await enter(ben, 'Ben');
  await Promise.all([shows(ada, 'Ben'), shows(ben, 'Ada Lovelace')]);
  await ada.getByText('Ben joined').waitFor();
  await shot(ada, 'call-light');
  await ada.emulateMedia({ colorScheme: 'dark' });
  await shot(ada, 'call-dark');
  await ada.emulateMedia({ colorScheme: 'light' });
});

test('the microphone and the camera are switched, by button and by key', options, async () => {
  const muted = tile(ben, 'Ada Lovelace').getByRole('img', { name: 'Microphone off' });
  await button(ada, 'Microphone').click();
  await muted.waitFor();
  assert.equal(await button(ada, 'Microphone').getAttribute('aria-pressed'), 'false');
  await ada.keyboard.press('m');
  await muted.waitFor({ state: 'detached' });

  await ada.keyboard.press('v');
  await tile(ben, 'Ada Lovelace').locator('video').waitFor({ state: 'detached' });
  await ada.keyboard.press('v');
  await shows(ben, 'Ada Lovelace');
});

test('the chat is written and read', options, async () => {
  await ben.keyboard.press('c');
  await ben.getByLabel('Message to everyone').fill('Shall we start? https://example.org/agenda');
  await ben.keyboard.press('Enter');
  await ada.getByText('Ben: Shall we start?').waitFor();
  await button(ada, 'Chat, 1 unread').click();
  assert.equal(await ada.getByRole('link', { name: 'https://example.org/agenda' }).getAttribute('rel'), 'noopener noreferrer');
  // In a text field a shortcut letter must be ordinary input.
  await ada.getByLabel('Message to everyone').pressSequentially('mmm, give me a moment');
  await button(ada, 'Send').click();
  await ben.getByRole('log', { name: 'Messages' }).getByText('mmm, give me a moment').waitFor();
  assert.equal(await button(ada, 'Microphone').getAttribute('aria-pressed'), 'true');
});

test('the figures of a tile tell layer, size, rate, loss and round trip', options, async () => {
  await ada.getByLabel('Message to everyone').press('Escape');
  await ada.keyboard.press('o');
  const overlay = tile(ada, 'Ben').locator('.overlay');
  const text = await until('all figures', async () => {
    const shown = await overlay.innerText();
    return /Layer\s+[qhf] · VP8/.test(shown) && /Size\s+\d+ × \d+/.test(shown) && /bit\/s/.test(shown) && /Loss\s+[\d.]+ %/.test(shown) && /Round trip\s+\d+ ms/.test(shown) && shown;
  });
  progress(text.replace(/\s+/g, ' '));
  await ada.keyboard.press('c');
  await shot(ada, 'call-figures-chat');
  await ada.keyboard.press('Escape');
  await ada.getByLabel('Message to everyone').waitFor({ state: 'detached' });
});

test('the speaker view, the pin and the screen share', options, async () => {
  await ada.locator('body').click({ position: { x: 2, y: 200 } });
  await ada.keyboard.press('g');
  await view(ada, 'speaker').waitFor();
  await shot(ada, 'call-speaker');
  await ada.keyboard.press('g');
  await button(ada, 'Show Ben large').focus();
  await ada.keyboard.press('Enter');
  await ada.locator('[data-large=true]').and(tile(ada, 'Ben')).waitFor();
  await ada.keyboard.press('Enter');
  await view(ada, 'grid').waitFor();

  await button(ben, 'Share the screen').click();
  await ada.getByText('Ben is sharing a screen').waitFor();
  await shows(ada, 'Ben’s screen');
  await shot(ada, 'call-screen');
  await button(ben, 'Share the screen').click();
  await tile(ada, 'Ben’s screen').waitFor({ state: 'detached' });
});

test('the invite link brings somebody to the same room', options, async () => {
  await ada.context().grantPermissions(['clipboard-read', 'clipboard-write', 'camera', 'microphone']);
  await button(ada, 'Invite').click();
  await ada.getByText('Invite link copied').waitFor();
  assert.equal(await ada.evaluate(() => navigator.clipboard.readText()), `${site.http}/?room=${ROOM}`);
});

test('the keyboard reaches everything and shows where it is', options, async () => {
  await ada.locator('body').click({ position: { x: 2, y: 200 } });
  const reached = new Set();
  for (let i = 0; i < 25; i += 1) {
    await ada.keyboard.press('Tab');
    const focus = await ada.evaluate(() => {
      const element = document.activeElement;
      return { name: element.getAttribute('aria-label') ?? element.textContent.trim(), outline: getComputedStyle(element).outlineWidth };
    });
    if (focus.name) {
      reached.add(focus.name);
      assert.notEqual(focus.outline, '0px', `${focus.name} shows the focus`);
    }
  }
  for (const name of ['Microphone', 'Camera', 'Share the screen', 'Chat', 'More', 'Leave']) assert.ok(reached.has(name), `${name} is reached: ${[...reached]}`);
  await ada.keyboard.press('?');
  await ada.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await ada.keyboard.press('Escape');
});

test('everything fits a phone', options, async () => {
  const phone = await personPage(browser, 'cleo', `${site.http}/?room=${ROOM}`, { viewport: PHONE, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  await phone.getByLabel('Your name').fill('Cleo');
  await until('the preview', () => phone.getByLabel('Your camera').evaluate((element) => element.videoWidth > 0));
  await shot(phone, 'phone-door');
  assert.equal(await overflow(phone), 0);
  await enter(phone, 'Cleo');
  await Promise.all([shows(phone, 'Ben'), shows(phone, 'Ada Lovelace')]);
  assert.equal(await overflow(phone), 0);
  await shot(phone, 'phone-call');
  await shows(ada, 'Cleo');
  await ada.evaluate(() => document.activeElement.blur());
  await shot(ada, 'call-three');
  await button(phone, 'More').click();
  await phone.getByLabel('The speaker large').check();
  const paper = () => phone.evaluate(() => getComputedStyle(document.querySelector('.call')).backgroundColor);
  const light = await paper();
  await phone.getByLabel('Dark colours').check();
  await until('dark colours', async () => (await paper()) !== light);
  await shot(phone, 'phone-more');
  assert.equal(await overflow(phone), 0);
  await phone.keyboard.press('Escape');
  await shot(phone, 'phone-speaker-dark');
  await button(phone, /^Chat/).click();
  await shot(phone, 'phone-chat');
  await button(phone, 'Close the chat').click();
  await button(phone, 'Leave').click();
  await phone.getByText('You are out').waitFor();
  await ada.getByText('Cleo left').waitFor();
  await phone.context().close();
});

test('the chosen colours stay after a reload', options, async () => {
  const page = await browser.page(`${site.http}/`);
  await page.emulateMedia({ colorScheme: 'light' });
  const paper = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await paper();
  await button(page, 'Dark colours').click();
  const dark = await until('another background', async () => (await paper()) !== light && paper());
  await page.reload();
  await button(page, 'Light colours').waitFor();
  assert.equal(await paper(), dark);
  await button(page, 'Light colours').click();
  await until('the first background again', async () => (await paper()) === light);
  await page.context().close();
});

test('leaving takes one back to the door', options, async () => {
  await button(ben, 'Leave').click();
  await ben.getByRole('heading', { name: 'You are out' }).waitFor();
  await ada.getByText('Ben left').waitFor();
  await tile(ada, 'Ben').waitFor({ state: 'detached' });
});

test('errors are told in plain words', options, async (t) => {
  await t.test('the token is refused', async () => {
    const page = await browser.page(`${site.http}/?room=${ROOM}`);
    await page.route('**/v1/token', (route) => route.fulfill({ status: 401, body: 'expired' }));
    await enter(page, 'Mallory');
    await page.getByRole('alert').getByText('The server did not let you in').waitFor();
    await shot(page, 'error-refused');
    // Name, room and preview are preserved for another attempt.
    assert.equal(await page.getByLabel('Your name').inputValue(), 'Mallory');
    await page.unroute('**/v1/token');
    await button(page, /Join/).click();
    await shows(page, 'Mallory (you)');
    await page.context().close();
  });

  await t.test('the token has expired when it is used', async () => {
    const page = await browser.page(`${site.http}/?room=${ROOM}`);
    await page.route('**/v1/token', async (route) => {
      const answer = await route.fetch();
      const body = await answer.json();
      await route.fulfill({ response: answer, json: { ...body, participant_token: `${body.participant_token.slice(0, -6)}AAAAAA` } });
    });
    await enter(page, 'Mallory');
    await page.getByRole('alert').getByText('The server did not let you in').waitFor();
    await page.context().close();
  });

  await t.test('the camera is refused', async () => {
    const page = await browser.page();
    await page.addInitScript(() => {
      const original = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = (asked) =>
        asked.video ? Promise.reject(new DOMException('Permission denied', 'NotAllowedError')) : original(asked);
    });
    await page.goto(`${site.http}/?room=${ROOM}`);
    await page.getByText('Camera not allowed').waitFor();
    await shot(page, 'error-camera');
    await enter(page, 'Dora');
    await tile(page, 'Dora (you)').waitFor();
    await page.context().close();
  });

  await t.test('the page is not on https', async () => {
    const page = await browser.page(`${site.http.replace('127.0.0.1', 'call.test')}/?room=${ROOM}`, { permissions: [] });
    await page.getByText('Camera is not available here').waitFor();
    await page.route('**/v1/token', async (route) => {
      const answer = await route.fetch({ url: `${site.http}/v1/token` });
      await route.fulfill({ response: answer });
    });
    await enter(page, 'Gil');
    await shows(page, 'Ada Lovelace');
    assert.deepEqual(page.failures, []);
    await page.context().close();
  });

  await t.test('the server is gone before the call', async () => {
    const page = await browser.page(`${wire.http}/?room=${ROOM}`);
    wire.cut();
    await enter(page, 'Eve');
    await page.getByRole('alert').getByText('The server cannot be reached').waitFor();
    wire.mend();
    await page.context().close();
  });

  await t.test('the server goes away during the call, and comes back', async () => {
    const page = await browser.page(`${wire.http}/?room=${ROOM}`);
    // Signaling passes through the wire that can be cut; the token endpoint would name the server itself.
    await page.route('**/v1/token', async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), server_url: wire.ws } });
    });
    await enter(page, 'Fritz');
    await shows(page, 'Ada Lovelace');
    wire.cut();
    await page.getByRole('status').getByText(/reconnecting/i).waitFor();
    await shot(page, 'error-reconnecting');
    wire.mend();
    await page.getByText('Connected again').waitFor();
    await page.getByRole('status').getByText(/reconnecting/i).waitFor({ state: 'detached' });
    await page.context().close();
  });
});

test('no page threw an error', options, () => {
  assert.deepEqual([...ada.failures, ...ben.failures], []);
});
