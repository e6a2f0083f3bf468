// The server under test.
//
//   ANYTIME_BIN   the binary to start (default: the debug build of this workspace)
//   ANYTIME_ARGS  more arguments for it, separated by spaces
//   ANYTIME_URL   test this running server instead, e.g. http://127.0.0.1:7880, with the keys of --dev
//   ANYTIME_LOG   show what the started server writes

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { AccessToken } from 'livekit-server-sdk';
import { progress, SERVER_START_MS, until } from './limits.mjs';

export const API_KEY = 'devkey';
export const API_SECRET = 'secret';

/** Number of characters of the server's output that are stored. */
const MOST_OUTPUT = 1 << 20;
const DEFAULT_BINARY = fileURLToPath(new URL('../../../target/debug/anytime', import.meta.url));

/** Whether the tested server is a running one, given by URL. It may have neither `/v1/token` nor the call page. */
export const FOREIGN = Boolean(process.env.ANYTIME_URL);

/**
 * Starts the server, or waits for the running one. Resolves to `{ http, ws, metrics, stop, … }`, where addresses have
 * no trailing slash; all but `http`, `ws` and `stop` exist only for a server started here.
 */
export async function startServer(extra = []) {
  if (process.env.ANYTIME_URL) {
    const http = process.env.ANYTIME_URL.replace(/\/$/, '');
    await until(`an answer from ${http}`, () => answers(http), SERVER_START_MS);
    return { http, ws: http.replace(/^http/, 'ws'), stop: async () => {} };
  }
  const binary = process.env.ANYTIME_BIN ?? DEFAULT_BINARY;
  if (!existsSync(binary)) throw new Error(`no server at ${binary}: build it, or set ANYTIME_BIN or ANYTIME_URL`);

  const port = await freePort();
  // Servers of parallel tests must not share a default port; 0 selects any free port.
  const apart = ['--port', String(port), '--udp-port', '0', '--metrics-address', '127.0.0.1:0'];
  const args = ['serve', '--dev', ...apart, ...extra, ...words(process.env.ANYTIME_ARGS)];
  progress(`starting anytime ${args.join(' ')}`);
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let written = '';
  let lines = 0;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      if (process.env.ANYTIME_LOG) process.stderr.write(text);
      written = (written + text).slice(-MOST_OUTPUT);
      lines += text.split('\n').length - 1;
    });
  }
  let ended;
  child.once('exit', (code, signal) => (ended = `exit ${code ?? signal}`));
  child.once('error', (error) => (ended = error.message));
  // Prevents an interrupted test run from leaving a server behind.
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);

  const http = `http://127.0.0.1:${port}`;
  try {
    await until('the server to answer', async () => ended ?? (await answers(http)), SERVER_START_MS);
    if (ended) throw new Error(`the server ended while starting: ${ended}`);
  } catch (error) {
    kill();
    throw new Error(`${error.message}\n${written}`);
  }
  return {
    http,
    ws: `ws://127.0.0.1:${port}`,
    metrics: written.match(/(http:\/\/\S+)\/metrics/)?.[1],
    pid: child.pid,
    output: () => written,
    /** Log lines of the server. */
    logged: () => written.split('\n').filter((line) => / (ERROR|WARN|INFO) /.test(line)),
    /** Number of lines that the server has written. */
    lines: () => lines,
    async stop() {
      process.off('exit', kill);
      child.kill('SIGTERM');
      await until('the server to end', () => ended, 5_000).catch(kill);
    },
  };
}

/** Join token, made with the published server SDK. */
export async function joinToken(room, identity, { name = identity, grant = {}, ttl = '10m' } = {}) {
  const token = new AccessToken(API_KEY, API_SECRET, { identity, name, ttl });
  token.addGrant({ roomJoin: true, room, ...grant });
  return token.toJwt();
}

/** What the server decided for a participant, and why; undefined if the server provides no such data. */
export async function decisions(server, room, identity) {
  const response = await fetch(`${server.metrics}/debug/participants/${room}/${identity}`).catch(() => undefined);
  return response?.ok ? response.json() : undefined;
}

/** A free port. The caller needs the number before the server is up. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answers(http) {
  try {
    return (await fetch(http, { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false;
  }
}

function words(text) {
  return (text ?? '').split(' ').filter(Boolean);
}
