// Fills a room with participants, by running `loadtest fill` as a child process. Each participant has a microphone and
// a camera, which sends one VP8 key frame repeatedly, and receives nothing.
//
//   LOADTEST_BIN  the program (default: the debug build of this workspace)

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { within } from './limits.mjs';

const DEFAULT_BINARY = fileURLToPath(new URL('../../../target/debug/loadtest', import.meta.url));

export async function startCrowd(server, room, people, { fps = 2 } = {}) {
  const binary = process.env.LOADTEST_BIN ?? DEFAULT_BINARY;
  if (!existsSync(binary)) throw new Error(`no crowd at ${binary}: build the package loadtest, or set LOADTEST_BIN`);
  const folder = mkdtempSync(join(tmpdir(), 'crowd-'));
  const frame = join(folder, 'frame.vp8');
  writeFileSync(frame, keyFrame(join(folder, 'frame.ivf')));
  const args = ['fill', '--url', server.ws, '--room', room, '--people', String(people), '--frame', frame, '--fps', String(fps)];
  const child = spawn(binary, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const joined = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the crowd ended: ${code}`)));
    createInterface({ input: child.stdout }).once('line', resolve);
  });
  await within(120_000, `${people} people to join`, joined);
  return {
    async stop() {
      process.off('exit', kill);
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin.end();
      await within(20_000, 'the crowd to end', ended).catch(kill);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** One VP8 key frame of 64 x 36 pixels. */
function keyFrame(file) {
  const source = ['-f', 'lavfi', '-i', 'color=c=teal:s=64x36:r=1:d=1', '-frames:v', '1', '-c:v', 'libvpx', '-b:v', '20k', '-y', file];
  const made = spawnSync('ffmpeg', ['-loglevel', 'error', ...source], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`ffmpeg: ${made.stderr ?? made.error}`);
  const ivf = readFileSync(file);
  // IVF format: a file header of 32 bytes, then for each frame a header of 12 bytes with its length and time.
  return ivf.subarray(44, 44 + ivf.readUInt32LE(32));
}
