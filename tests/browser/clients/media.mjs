// Media for clients without an encoder, and checks of what they received. ffmpeg encodes and decodes the files; the
// video is the time code of the pages.

import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COLUMNS, decode, encode, ROWS } from '../pages/timecode.js';

const FRAMES_PER_SECOND = 15;
const SECONDS = 4;
export const SOUND_RATE = 48_000;
/** Pixels per block in the scaled-down frame from which codes are read. */
const BLOCK = 6;

/** Creates a folder for files; `stop` removes it. */
export async function mediaFolder() {
  const folder = await mkdtemp(join(tmpdir(), 'anytime-media-'));
  return { folder, stop: () => rm(folder, { recursive: true, force: true }) };
}

/** Path -> promise of the file, since several participants of one program may request the same file at once. */
const made = new Map();

function once(path, make) {
  if (!made.has(path)) made.set(path, make().then(() => path));
  return made.get(path);
}

/**
 * VP8 in IVF: a loop of time codes with a key frame every second. Grain makes the encoder use the full rate. Resolves
 * to the path.
 */
export function videoFile(folder, sender, { width = 320, height = 180, kbps = 120, fps = FRAMES_PER_SECOND, grain = 0 } = {}) {
  const path = join(folder, `${sender}-${width}-${kbps}-${fps}.ivf`);
  return once(path, () => encodeVideo(path, sender, { width, height, kbps, fps, grain }));
}

function encodeVideo(path, sender, { width, height, kbps, fps, grain }) {
  const frames = Array.from({ length: fps * SECONDS }, (_, i) => grey(width, height, encode(sender, Math.round((i * 1_000) / fps)), grain));
  const input = ['-f', 'rawvideo', '-pix_fmt', 'gray', '-s', `${width}x${height}`, '-r', String(fps), '-i', '-'];
  const coder = ['-c:v', 'libvpx', '-pix_fmt', 'yuv420p', '-deadline', 'realtime', '-cpu-used', '8', '-auto-alt-ref', '0', '-lag-in-frames', '0'];
  const rate = ['-g', String(fps), '-b:v', `${kbps}k`, '-minrate', `${kbps}k`, '-maxrate', `${kbps}k`, '-bufsize', `${kbps}k`];
  return ffmpeg([...input, ...coder, ...rate, path], Buffer.concat(frames));
}

/** Bitrate of the frames in such a file, in kbit/s. */
export async function rateOf(path, fps = FRAMES_PER_SECOND) {
  const { size } = await stat(path);
  return ((size - 32 - 12 * fps * SECONDS) * 8) / (SECONDS * 1_000);
}

/** Opus in Ogg, one packet per page: a tone. Resolves to the path. */
export function soundFile(folder, tone) {
  const path = join(folder, `${tone}.ogg`);
  const input = ['-f', 'lavfi', '-i', `sine=frequency=${tone}:sample_rate=${SOUND_RATE}:duration=${SECONDS}`];
  return once(path, () => ffmpeg([...input, '-ac', '2', '-c:a', 'libopus', '-b:a', '32k', '-vbr', 'off', '-page_duration', '20000', path]));
}

/** Time codes in a video file, one per frame; undefined for a frame without one. */
export async function codesIn(path) {
  const [width, height] = [COLUMNS * BLOCK, ROWS * BLOCK];
  const scaled = ['-vf', `scale=${width}:${height}:flags=area`, '-pix_fmt', 'gray', '-f', 'rawvideo', '-fps_mode', 'passthrough', '-'];
  const pixels = await ffmpeg(['-i', path, ...scaled]);
  const size = width * height;
  return Array.from({ length: Math.floor(pixels.length / size) }, (_, i) => codeIn(pixels.subarray(i * size, (i + 1) * size), width, height));
}

/** Time code in grey pixels; undefined if there is none. */
export function codeIn(grey, width, height) {
  const bits = [];
  for (let row = 0; row < ROWS; row += 1) {
    for (let column = 0; column < COLUMNS; column += 1) {
      const x = Math.floor(((column + 0.5) * width) / COLUMNS);
      const y = Math.floor(((row + 0.5) * height) / ROWS);
      bits.push(grey[y * width + x] > 128 ? 1 : 0);
    }
  }
  return decode(bits);
}

/** Share of the energy of a file's audio that lies at one frequency. */
export async function toneIn(path, frequency) {
  const bytes = await ffmpeg(['-i', path, '-ac', '1', '-ar', String(SOUND_RATE), '-f', 's16le', '-']);
  const samples = new Float64Array(Math.floor(bytes.length / 2));
  for (let i = 0; i < samples.length; i += 1) samples[i] = bytes.readInt16LE(i * 2) / 32_768;
  // The last tenths of a second, since the beginning may be the silence before the tone.
  return share(samples.subarray(-SOUND_RATE * 0.3), frequency);
}

/** Share of a signal's energy at one frequency (Goertzel). */
export function share(samples, frequency) {
  const coefficient = 2 * Math.cos((2 * Math.PI * frequency) / SOUND_RATE);
  let [s1, s2, energy] = [0, 0, 0];
  for (const sample of samples) {
    [s1, s2] = [sample + coefficient * s1 - s2, s1];
    energy += sample * sample;
  }
  if (energy < 1e-3) return 0;
  return (2 * (s1 * s1 + s2 * s2 - coefficient * s1 * s2)) / (samples.length * energy);
}

/** A grey frame that shows a code, with noise of `grain` levels. */
export function grey(width, height, bits, grain = 0) {
  const pixels = Buffer.alloc(width * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const bit = bits[Math.floor((y * ROWS) / height) * COLUMNS + Math.floor((x * COLUMNS) / width)];
      pixels[y * width + x] = (bit ? 215 : 40) + (grain && (Math.random() - 0.5) * grain);
    }
  }
  return pixels;
}

function ffmpeg(args, input) {
  return new Promise((resolve, reject) => {
    const all = ['-hide_banner', '-loglevel', 'error', '-y', ...args];
    const child = execFile('ffmpeg', all, { encoding: 'buffer', maxBuffer: 1 << 28 }, (error, out, trouble) => {
      if (error) reject(new Error(`ffmpeg ${args.join(' ')}: ${trouble.toString() || error.message}`));
      else resolve(out);
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
