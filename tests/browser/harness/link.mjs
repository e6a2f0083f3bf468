// Emulates a bad link between pages and the server, by running `loadtest link` as a child process.
//
//   LOADTEST_BIN  the program (default: the debug build of this workspace)

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { EVENT_MS, within } from './limits.mjs';

const DEFAULT_BINARY = fileURLToPath(new URL('../../../target/debug/loadtest', import.meta.url));

/**
 * Starts a link. `down` is the direction towards the page. `reports` collects the traffic statistics of every 100 ms.
 */
export async function startLink({ down = {}, up = {}, seed = 1 } = {}) {
  const binary = process.env.LOADTEST_BIN ?? DEFAULT_BINARY;
  if (!existsSync(binary)) throw new Error(`no link at ${binary}: build the package loadtest, or set LOADTEST_BIN`);
  const child = spawn(binary, ['link', '--order', JSON.stringify({ down, up }), '--seed', String(seed)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const reports = [];
  const ready = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the link ended: ${code}`)));
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = JSON.parse(text);
      if (line.listen) resolve(line.listen);
      else if (line.error) throw new Error(`the link refused an order: ${line.error}`);
      else reports.push(line);
    });
  });
  const address = await within(EVENT_MS, 'the link to listen', ready);
  const order = (what) => child.stdin.write(`${JSON.stringify(what)}\n`);
  return {
    address,
    reports,
    /** Changes the given properties. Returns the time of the change, on the clock that all processes share. */
    change(what) {
      order(what);
      return Date.now();
    },
    /** Sends the media of a page through this link, from the page's next connection on. */
    async carry(page) {
      await page.exposeFunction('linkTo', (to) => order({ to }));
      await page.evaluate((link) => {
        window.link = link;
      }, address);
    },
    async stop() {
      process.off('exit', kill);
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin.end();
      await within(5_000, 'the link to end', ended).catch(kill);
    },
  };
}
