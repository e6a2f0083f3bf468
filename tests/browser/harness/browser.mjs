// One Chromium per test file, with one window per page.

import { chromium } from 'playwright-core';
import { BROWSER_START_MS, progress } from './limits.mjs';

const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream=fps=15',
  '--autoplay-policy=no-user-gesture-required',
  // Windows on one screen cover each other, and Chromium slows covered pages down.
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
  // A test's server listens on the loopback address only.
  '--allow-loopback-in-peer-connection',
];

export async function startBrowser(flags = []) {
  progress('starting Chromium');
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [...FLAGS, ...flags],
    ignoreDefaultArgs: ['--headless', '--hide-scrollbars', '--mute-audio'],
    timeout: BROWSER_START_MS,
  });
  return {
    /** Opens a page in its own window. Uncaught errors of the page are collected in `page.failures`. */
    async page(url, options = {}) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 760 }, permissions: ['camera', 'microphone'], ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(45_000);
      page.failures = [];
      page.on('pageerror', (error) => page.failures.push(error.message));
      if (process.env.ANYTIME_LOG) page.on('console', (message) => console.log(`  page: ${message.text()}`));
      if (url) await page.goto(url);
      return page;
    },
    async stop() {
      await browser.close();
    },
  };
}
