// Operates the call page as a user does, by roles and labels. Screenshots are written to `test-output/`.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PAGES } from './files.mjs';
import { until } from './limits.mjs';

const OUTPUT = fileURLToPath(new URL('../../../test-output', import.meta.url));
const SCENES = {
  ada: { wall: ['#f3d9b8', '#e0a878'], window: '#9fd0e6', shirt: '#2f6f62', skin: '#e9b48c', hair: '#4a2c20' },
  ben: { wall: ['#b9cfe0', '#7f9fbf'], window: '#f6dfae', shirt: '#d0643b', skin: '#8d5a3b', hair: '#1d1715' },
  cleo: { wall: ['#d9c7e6', '#a98bc4'], window: '#c6e4d2', shirt: '#3b4a8c', skin: '#f2c9ab', hair: '#b5622c' },
};

/** Takes a screenshot, after a pause for colours and positions that change over some frames. */
export async function shot(page, name) {
  mkdirSync(OUTPUT, { recursive: true });
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(OUTPUT, `${name}.png`) });
}

export const button = (page, name) => page.getByRole('button', { name });
export const tile = (page, name) => page.getByRole('article', { name });

/** Opens a page whose camera shows a drawing of the person `who`. */
export async function personPage(browser, who, url, more) {
  const page = await browser.page(undefined, more);
  await page.addInitScript({ path: join(PAGES, 'scene.js') });
  await page.addInitScript((scene) => window.drawScene(scene), SCENES[who]);
  if (url) await page.goto(url);
  return page;
}

export async function enter(page, name) {
  await page.getByLabel('Your name').fill(name);
  await button(page, /Join/).click();
}

/** Waits until video is shown: a visible element has decoded a frame and its time advances. Works in both browsers. */
export async function shows(page, name) {
  const isShown = (label) =>
    [...document.querySelectorAll('article')]
      .filter((tile) => tile.getAttribute('aria-label') === label)
      .some((tile) => [...tile.querySelectorAll('video')].some((video) => video.checkVisibility() && video.videoWidth > 0 && video.currentTime > 0));
  await until(`the picture of ${name}`, () => page.evaluate(isShown, name));
}
