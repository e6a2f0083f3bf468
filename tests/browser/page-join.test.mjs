// Joining through the call page: what a token allows, devices switched during the join, slow devices and networks,
// refusals, and a page that is served below a path. Operated by roles and labels; screenshots are written to
// `test-output/`.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TrackSource } from 'livekit-server-sdk';
import { startBrowser } from './harness/browser.mjs';
import { button, enter, personPage, shot, shows, tile } from './harness/call-page.mjs';
import { startFront } from './harness/front.mjs';
import { TEST_MS, until } from './harness/limits.mjs';
import { startProxy } from './harness/proxy.mjs';
import { FOREIGN, joinToken, startServer } from './harness/server.mjs';

const ROOM = `porch-${process.pid}`;
const options = { timeout: TEST_MS };
let server, site, browser, ada;

before(async () => {
  server = await startServer();
  site = FOREIGN ? await startFront(server) : server;
  browser = await startBrowser();
  ada = await personPage(browser, 'ada', `${site.http}/?room=${ROOM}`);
  await enter(ada, 'Ada');
  await shows(ada, 'Ada (you)');
}, options);

after(async () => {
  await browser?.stop();
  if (site !== server) await site?.stop();
  await server?.stop();
}, options);

/** A page before joining, whose token has the given grant. */
async function guestPage(who, name, grant) {
  const page = await personPage(browser, who);
  await page.route('**/v1/token', async (route) => {
    const token = await joinToken(ROOM, `${name.toLowerCase()}-${process.pid}`, { name, grant });
    await route.fulfill({ status: 201, json: { server_url: server.ws, participant_token: token } });
  });
  await page.addInitScript(countDevices);
  await page.goto(`${site.http}/?room=${ROOM}`);
  await until('the preview', () => page.getByLabel('Your camera').evaluate((element) => element.videoWidth > 0));
  return page;
}

/** Records every track that a device returns, so that a test can tell whether the camera is on. */
function countDevices() {
  const given = [];
  const devices = navigator.mediaDevices;
  const original = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (asked) => {
    await window.hold?.(asked);
    const stream = await original(asked);
    given.push(...stream.getTracks());
    return stream;
  };
  window.live = (kind) => given.filter((track) => track.kind === kind && track.readyState === 'live').length;
}

const pressed = (page, name) => button(page, name).getAttribute('aria-pressed');
const disabled = (page, name) => button(page, name).getAttribute('aria-disabled');
const live = (page, kind) => page.evaluate((which) => window.live(which), kind);

/** Withholds the token from the page until the returned function is called. */
async function held(page) {
  let letGo;
  const gate = new Promise((resolve) => (letGo = resolve));
  await page.route('**/v1/token', async (route) => {
    await gate;
    await route.fallback();
  });
  return letGo;
}

test('whoever may only watch comes in with devices on, and is told', options, async () => {
  const page = await guestPage('cleo', 'Vera', { canPublish: false });
  await enter(page, 'Vera');
  await shows(page, 'Ada');
  await page.getByRole('log', { name: 'Events' }).getByText('You may watch and listen in this call').waitFor();
  for (const name of ['Microphone', 'Camera', 'Share the screen']) {
    assert.deepEqual([name, await disabled(page, name), await pressed(page, name)], [name, 'true', 'false']);
  }
  await until('the devices to be closed', async () => (await live(page, 'video')) + (await live(page, 'audio')) === 0);
  await shot(page, 'call-watch-only');
  await page.getByText('You may watch and listen').waitFor({ state: 'detached' });
  // The button can be focused, and explains why it is disabled.
  await button(page, 'Camera').focus();
  await page.keyboard.press('Enter');
  await page.getByText('You may watch and listen').waitFor();
  assert.equal(await pressed(page, 'Camera'), 'false');
  assert.deepEqual(page.failures, []);
  await page.context().close();
});

test('whoever may send sound only comes in with that', options, async () => {
  const page = await guestPage('cleo', 'Sonja', { canPublishSources: [TrackSource.MICROPHONE] });
  await enter(page, 'Sonja');
  await shows(page, 'Ada');
  await page.getByText('You may not use your camera or share a screen in this call.').waitFor();
  assert.deepEqual([await pressed(page, 'Microphone'), await disabled(page, 'Microphone')], ['true', 'false']);
  assert.deepEqual([await pressed(page, 'Camera'), await disabled(page, 'Camera')], ['false', 'true']);
  await until('the camera to be closed', async () => (await live(page, 'video')) === 0);
  await tile(ada, 'Sonja').getByRole('img', { name: 'Microphone off' }).waitFor({ state: 'detached' });
  await page.context().close();
});

test('who may read the chat only is told so in its field', options, async () => {
  const page = await guestPage('cleo', 'Rolf', { canPublishData: false });
  await enter(page, 'Rolf');
  await shows(page, 'Ada');
  await button(page, /^Chat/).click();
  const field = page.getByLabel('Message to everyone');
  assert.equal(await field.getAttribute('placeholder'), 'You may read the chat, but not write in it.');
  assert.equal(await field.isEditable(), false);
  await page.context().close();
});

test('what is switched off while the call is being joined is off in it', options, async () => {
  const page = await guestPage('ben', 'Otto', {});
  const letGo = await held(page);
  await enter(page, 'Otto');
  await button(page, 'Joining…').waitFor();
  await button(page, 'Camera').click();
  await until('the camera to be closed', async () => (await live(page, 'video')) === 0);
  letGo();
  await button(page, 'Leave').waitFor();
  await until('the microphone', async () => (await pressed(page, 'Microphone')) === 'true');
  assert.equal(await pressed(page, 'Camera'), 'false');
  await tile(ada, 'Otto').waitFor();
  assert.equal(await tile(ada, 'Otto').locator('video').count(), 0);
  assert.equal(await live(page, 'video'), 0, 'the light is off');
  // The camera can also be switched on as usual.
  await button(page, 'Camera').click();
  await shows(ada, 'Otto');
  await page.context().close();
});

test('what is switched off while it is being published is off', options, async () => {
  const page = await guestPage('ben', 'Pia', {});
  // Lets the test hold back signaling. When the page asks the server to accept a track, the call already has it.
  await page.addInitScript(() => {
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
      if (window.holdSignal) return void window.holdSignal.push(() => send.call(this, data));
      return send.call(this, data);
    };
  });
  await page.reload();
  await until('the preview', () => page.getByLabel('Your camera').evaluate((element) => element.videoWidth > 0));
  await page.evaluate(() => (window.holdSignal = []));
  await enter(page, 'Pia');
  await until('something to send', () => page.evaluate(() => window.holdSignal.length > 0));
  await button(page, 'Camera').click();
  await until('the camera to be closed', async () => (await live(page, 'video')) === 0);
  await page.evaluate(() => {
    const waiting = window.holdSignal;
    window.holdSignal = undefined;
    waiting.forEach((go) => go());
  });
  await button(page, 'Leave').waitFor();
  assert.equal(await pressed(page, 'Camera'), 'false');
  await tile(ada, 'Pia').waitFor();
  assert.equal(await live(page, 'video'), 0, 'the light is off');
  await page.context().close();
});

test('what is switched on while the call is being joined is on in it', options, async () => {
  const page = await guestPage('ben', 'Nora', {});
  await button(page, 'Camera').click();
  const letGo = await held(page);
  await enter(page, 'Nora');
  await button(page, 'Joining…').waitFor();
  await button(page, 'Camera').click();
  // A slow camera must not delay the join either.
  await page.evaluate(() => (window.hold = () => new Promise((resolve) => setTimeout(resolve, 300))));
  letGo();
  await shows(ada, 'Nora');
  assert.equal(await pressed(page, 'Camera'), 'true');
  await page.context().close();
});

test('a camera that is slow to open does not hold up the microphone', options, async () => {
  const page = await guestPage('ben', 'Lena', {});
  await enter(page, 'Lena');
  await shows(ada, 'Lena');
  await button(page, 'Camera').click();
  await until('the camera to be off', async () => (await pressed(page, 'Camera')) === 'false');
  await page.evaluate(() => {
    const gate = new Promise((resolve) => (window.release = resolve));
    window.hold = (asked) => (asked.video ? gate : undefined);
  });
  await button(page, 'Camera').click();
  await page.locator('[aria-label=Camera][aria-busy=true]').waitFor();
  const muted = tile(ada, 'Lena').getByRole('img', { name: 'Microphone off' });
  await button(page, 'Microphone').click();
  await muted.waitFor();
  await button(page, 'Microphone').click();
  await muted.waitFor({ state: 'detached' });
  assert.equal(await button(page, 'Camera').getAttribute('aria-busy'), 'true', 'the camera is still opening');
  await page.evaluate(() => window.release());
  await shows(ada, 'Lena');
  await page.locator('[aria-label=Camera][aria-busy=false]').waitFor();
  await page.context().close();
});

test('text that is typed while a message is being sent stays', options, async () => {
  const page = await guestPage('ben', 'Mats', {});
  // Makes data channels appear full for as long as the test wants.
  await page.addInitScript(() => {
    const amount = Object.getOwnPropertyDescriptor(RTCDataChannel.prototype, 'bufferedAmount');
    const channels = new Set();
    Object.defineProperty(RTCDataChannel.prototype, 'bufferedAmount', {
      get() {
        channels.add(this);
        return window.full ? 1 << 30 : amount.get.call(this);
      },
    });
    window.drain = () => {
      window.full = false;
      for (const channel of channels) channel.dispatchEvent(new Event('bufferedamountlow'));
    };
  });
  await page.reload();
  await until('the preview', () => page.getByLabel('Your camera').evaluate((element) => element.videoWidth > 0));
  await enter(page, 'Mats');
  await shows(page, 'Ada');
  await button(ada, /^Chat/).click();
  const log = ada.getByRole('log', { name: 'Messages' });
  await button(page, /^Chat/).click();
  const field = page.getByLabel('Message to everyone');
  await field.fill('one');
  await field.press('Enter');
  await log.getByText('one', { exact: true }).waitFor();
  await page.evaluate(() => (window.full = true));
  await field.fill('two');
  await field.press('Enter');
  await until('the field to be free', async () => (await field.inputValue()) === '');
  await field.pressSequentially('three');
  // A draft survives closing the chat.
  await button(page, 'Close the chat').click();
  await button(page, /^Chat/).click();
  assert.equal(await field.inputValue(), 'three');
  await page.evaluate(() => window.drain());
  await log.getByText('two', { exact: true }).waitFor();
  assert.equal(await field.inputValue(), 'three', 'what was typed meanwhile is there');
  await field.press('Enter');
  await log.getByText('three', { exact: true }).waitFor();
  await button(ada, 'Close the chat').click();
  await page.context().close();
});

test('a join that is refused says why', options, async (t) => {
  const answers = [
    ['the service is busy', 503, { error: { code: 'identity_provider_unavailable', message: 'no answer' } }, 'The service is busy'],
    ['a request is wrong', 400, { error: { code: 'too_long', message: 'name: 300 bytes, 256 allowed', field: 'participant_name' } }, 'Your name is too long.'],
    ['a proxy answers', 503, '<html><body>503 Service Unavailable</body></html>', 'The service is busy'],
  ];
  for (const [what, status, body, words] of answers) {
    await t.test(what, async () => {
      const page = await browser.page(`${site.http}/?room=${ROOM}`);
      await page.route('**/v1/token', (route) => route.fulfill({ status, body: typeof body === 'string' ? body : JSON.stringify(body) }));
      await enter(page, 'Eve');
      const alert = page.getByRole('alert');
      await alert.getByText(words).waitFor();
      assert.doesNotMatch(await alert.innerText(), /[{}<>]|no place/i);
      await shot(page, `error-${what.replaceAll(' ', '-')}`);
      await page.context().close();
    });
  }

  await t.test('the room is full, until somebody leaves', { skip: FOREIGN }, async () => {
    const small = async (who) => {
      const page = await personPage(browser, who);
      await page.route('**/v1/token', async (route) => {
        const asked = route.request().postDataJSON();
        await route.continue({ postData: JSON.stringify({ ...asked, room_config: { max_participants: 1 } }) });
      });
      await page.goto(`${site.http}/?room=${ROOM}-small`);
      return page;
    };
    const first = await small('ben');
    await enter(first, 'Ben');
    await shows(first, 'Ben (you)');
    const second = await small('cleo');
    await enter(second, 'Cleo');
    // The browser gives a page no reason when a WebSocket is refused, so the page asks the server.
    await second.getByRole('alert').getByText('The room is full').waitFor();
    await shot(second, 'error-full');
    await button(first, 'Leave').click();
    await button(second, /Join/).click();
    await shows(second, 'Cleo (you)');
    await second.context().close();
    await first.context().close();
  });
});

test('the page works below a path', { ...options, skip: FOREIGN }, async (t) => {
  for (const [what, host] of [['a proxy that passes the host on', undefined], ['a proxy that says its own', new URL(server.http).host]]) {
    await t.test(what, async () => {
      const proxy = await startProxy(server, '/chat/calls/', host);
      t.after(() => proxy.stop());
      const page = await personPage(browser, 'ben');
      const problems = [];
      page.on('response', (response) => response.status() >= 400 && problems.push(`${response.status()} ${response.url()}`));
      page.on('requestfailed', (request) => problems.push(`failed ${request.url()}`));
      const sockets = [];
      page.on('websocket', (socket) => sockets.push(socket.url()));
      await page.goto(`${proxy.http}/?room=${ROOM}`);
      await enter(page, 'Ben');
      await Promise.all([shows(page, 'Ada'), shows(ada, 'Ben')]);
      await page.evaluate(() => document.fonts.ready);
      assert.ok(await page.evaluate(() => [...document.fonts].some((font) => font.status === 'loaded')), 'fonts came along');
      if (!host) assert.ok(sockets.every((url) => url.includes('/chat/calls/rtc')), `${sockets}`);
      await page.context().grantPermissions(['clipboard-read', 'clipboard-write', 'camera', 'microphone']);
      await button(page, 'Invite').click();
      await page.getByText('Invite link copied').waitFor();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${proxy.http}/?room=${ROOM}`);
      assert.deepEqual([proxy.strayed, problems], [[], []]);
      await page.context().close();
    });
  }
});

test('no page threw an error', options, () => {
  assert.deepEqual(ada.failures, []);
});
