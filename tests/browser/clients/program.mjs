// Participants in a program in another language, which is controlled by lines of JSON. tests/go/main.go,
// tests/python/client.py and clients/node-client.mjs all accept the same commands.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { joinToken } from '../harness/server.mjs';
import { EVENT_MS, progress, until, within } from '../harness/limits.mjs';
import { codesIn, mediaFolder, soundFile, toneIn, videoFile } from './media.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Command of each program; environment variables override it. */
const COMMANDS = {
  go: () => [process.env.GO_CLIENT ?? at('../../../target/go-client')],
  python: () => [process.env.PYTHON ?? at('../../python/.venv/bin/python'), at('../../python/client.py')],
  node: () => [process.execPath, at('node-client.mjs')],
};

/** Number of new frames or packets that show that media flows; one or two may be left over from before. */
const FRESH = 12;

export async function startProgram(kind) {
  const [command, ...args] = COMMANDS[kind]();
  progress(`starting the ${kind} client`);
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', process.env.ANYTIME_LOG ? 'inherit' : 'pipe'] });
  const waiting = new Map();
  const people = new Map();
  const media = await mediaFolder();
  let said = '';
  let ended;
  child.stderr?.setEncoding('utf8').on('data', (text) => (said = (said + text).slice(-4_000)));
  const end = (why) => {
    ended ??= `${why}\n${said}`;
    for (const { reject } of waiting.values()) reject(new Error(`the ${kind} client: ${ended}`));
    waiting.clear();
  };
  child.once('error', (error) => end(error.message));
  child.once('exit', (code, signal) => end(`ended with ${code ?? signal}`));
  child.stdin.on('error', () => {});
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id, ok, error, event, as, who } = JSON.parse(line);
    if (event) return void people.get(as)?.push({ what: event, who, at: performance.now() });
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error === undefined) resolve?.(ok);
    else reject?.(new Error(error));
  });

  let last = 0;
  const ask = (as, what, more = {}) =>
    within(EVENT_MS, `${as} to ${what}`, new Promise((resolve, reject) => {
      if (ended) return void reject(new Error(`the ${kind} client: ${ended}`));
      const id = (last += 1);
      waiting.set(id, { resolve, reject });
      child.stdin.write(`${JSON.stringify({ id, as, do: what, ...more })}\n`);
    }));

  return {
    kind,
    ask,
    folder: media.folder,
    person: (who, options = {}) => person({ ask, folder: media.folder, people, kind }, who, options),
    async stop() {
      process.off('exit', kill);
      child.stdin.end();
      await until(`the ${kind} client to end`, () => ended, 15_000).catch(kill);
      await media.stop();
    },
  };
}

/** A participant of a call, with the same methods as a page's participant in `clients/page.mjs`. */
function person({ ask, folder, people, kind }, who, { single }) {
  const { identity } = who;
  const events = [];
  people.set(identity, events);
  const tell = (what, more) => ask(identity, what, more);
  const track = async (other, source) => (await tell('tracks')).tracks[`${other.identity} ${source}`];
  const files = { video: undefined, audio: undefined, screen: undefined };
  const me = {
    ...who,
    ask: tell,
    events: async () => events,
    mark: async () => events.length,
    join: async (url, room) => tell('join', { url, token: await joinToken(room, identity), single }),
    async publish() {
      files.video = await videoFile(folder, who.sender);
      files.audio = await soundFile(folder, who.tone);
      await tell('publish', { video: [files.video], audio: files.audio, sender: who.sender, tone: who.tone });
    },
    republish: () => tell('republish'),
    async share() {
      files.screen ??= await videoFile(folder, who.sender, { width: 480, height: 270 });
      await tell('share', { video: [files.screen], sender: who.sender });
    },
    unshare: () => tell('unshare'),
    send: (topic, pieces, size, lossy = false) => tell('send', { topic, pieces, size, lossy }),
    data: (from, topic) => tell('data', { from, topic }),
    sid: () => tell('sid'),
    leave: () => tell('leave'),
    saw: (what, whom, from = 0) =>
      until(`${identity} to note "${what} ${whom}"`, () => events.slice(from).find((event) => event.what === what && event.who === whom)),
    /** Resolves when new frames from `other` have arrived and show its code. */
    async sees(other, source = 'camera') {
      const before = (await track(other, source))?.frames ?? 0;
      const come = await until(`${identity} to see ${other.identity}'s ${source}`, async () => {
        const { frames } = (await track(other, source)) ?? { frames: 0 };
        return (frames < before || frames >= before + FRESH) && frames >= FRESH && frames;
      });
      return come && until(`${identity} to see ${other.identity} in the ${source}`, async () => showsOnly(await codes(other, source), other.sender));
    },
    /** Resolves when the tone from `other` is heard. */
    async hears(other) {
      const before = (await track(other, 'microphone'))?.frames ?? 0;
      await until(`${identity} to get sound of ${other.identity}`, async () => {
        const { frames } = (await track(other, 'microphone')) ?? { frames: 0 };
        return (frames < before || frames >= before + FRESH) && frames >= FRESH;
      });
      await until(`${identity} to hear ${other.tone} Hz of ${other.identity}`, async () => (await tone(other)) > 0.7);
    },
    /** Whether a frame of the shared screen has arrived. */
    screen: async (other) => (await track(other, 'screen_share'))?.frames > 0,
  };

  /** Go has no decoder: it writes the received packets to a file. The others decode, and answer with the codes. */
  async function codes(other, source) {
    if (kind !== 'go') return tell('codes', { from: other.identity, source });
    const path = join(folder, `${identity}-${other.identity}.ivf`);
    const packets = await tell('dump', { from: other.identity, source, path });
    return packets > 0 ? codesIn(path) : [];
  }

  async function tone(other) {
    if (kind !== 'go') return tell('tone', { from: other.identity, frequency: other.tone });
    const path = join(folder, `${identity}-${other.identity}.ogg`);
    const packets = await tell('dump', { from: other.identity, source: 'microphone', path });
    return packets > FRESH ? toneIn(path, other.tone) : 0;
  }
  return me;
}

/** Whether codes advance and name only one sender. The first frames may arrive before the encoder has settled. */
function showsOnly(codes, sender) {
  const readable = codes.filter(Boolean);
  if (readable.some((code) => code.sender !== sender)) throw new Error(`a picture of sender ${readable.find((code) => code.sender !== sender).sender}, not ${sender}`);
  return readable.length >= FRESH / 2 && new Set(readable.map((code) => code.time)).size >= FRESH / 2;
}
