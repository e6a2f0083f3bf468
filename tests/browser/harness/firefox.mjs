// One Firefox per test file, with the same interface as `browser.mjs`. It is controlled over WebDriver BiDi.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';
import { BROWSER_START_MS, progress, until } from './limits.mjs';

const PREFERENCES = {
  // A fake camera and microphone, without permission prompts.
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  // Audio may play without a user gesture.
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  // Pages in the background are not slowed down.
  'dom.min_background_timeout_value': 4,
  'dom.timeout.enable_budget_timer_throttling': false,
  // No updates and no telemetry.
  'app.update.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'toolkit.telemetry.enabled': false,
};

/** Starts a PulseAudio null sink, because Firefox runs no AudioContext without a sound device. */
async function startSoundDevice() {
  const folder = mkdtempSync(join(tmpdir(), 'anytime-sound-'));
  const socket = join(folder, 'socket');
  const modules = ['module-null-sink rate=48000', `module-native-protocol-unix auth-anonymous=1 socket=${socket}`];
  const child = spawn('pulseaudio', ['-n', '--daemonize=no', '--exit-idle-time=-1', '--use-pid-file=no', ...modules.flatMap((each) => ['-L', each])], {
    env: { ...process.env, HOME: folder, XDG_RUNTIME_DIR: folder },
    stdio: 'ignore',
  });
  let ended;
  child.once('exit', (code, signal) => (ended = `exit ${code ?? signal}`));
  child.once('error', (error) => (ended = error.message));
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  await until('a sound device', () => ended ?? existsSync(socket));
  if (ended) throw new Error(`pulseaudio: ${ended}`);
  return {
    server: `unix:${socket}`,
    stop() {
      process.off('exit', kill);
      kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function startFirefox() {
  progress('starting Firefox');
  const sound = await startSoundDevice();
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    env: { ...process.env, PULSE_SERVER: sound.server },
    extraPrefsFirefox: PREFERENCES,
    timeout: BROWSER_START_MS,
    // A protocol call may last as long as the longest wait inside a page.
    protocolTimeout: 180_000,
  });
  return {
    /**
     * Opens a page in its own window, since Firefox does not render video in a background tab. Uncaught errors of the
     * page are collected in `page.failures`.
     */
    async page(url) {
      const page = await browser.newPage({ type: 'window' });
      await page.setViewport({ width: 1280, height: 760 });
      page.setDefaultTimeout(45_000);
      page.failures = [];
      page.on('pageerror', (error) => page.failures.push(error.message));
      if (process.env.ANYTIME_LOG) page.on('console', (message) => console.log(`  Firefox: ${message.text()}`));
      if (url) await page.goto(url);
      return page;
    },
    async stop() {
      await browser.close();
      sound.stop();
    },
  };
}
