// Tested clients: the rows of docs/compatibility.md. Versions are read from the installed packages.

import { readFileSync } from 'node:fs';
import { pagePerson } from './page.mjs';

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const version = (name) => JSON.parse(read(`../node_modules/${name}/package.json`)).version;
const GO = read('../../go/go.mod').match(/server-sdk-go\/v2 v(\S+)/)[1];
const PYTHON = read('../../python/requirements.txt').match(/^livekit==(\S+)/m)[1];

const ONE = 'one connection';
const TWO = 'two connections';
const CHROMIUM = 'Chromium';
const FIREFOX = 'Firefox';

const page = (name, browser, mode, options) => ({
  client: `livekit-client ${version(name)}, ${browser}`,
  mode,
  open: async ({ browsers, pages }, who) => pagePerson(await browsers(browser), pages, who, { ...options, client: name, singlePeerConnection: mode === ONE }),
});

const program = (kind, client, mode) => ({
  client,
  mode,
  open: async ({ programs }, who) => (await programs(kind)).person(who, { single: mode === ONE }),
});

export const ROWS = [
  page('livekit-client', CHROMIUM, ONE),
  page('livekit-client', CHROMIUM, TWO),
  page('livekit-client-2.0', CHROMIUM, TWO, { quiet: true }),
  page('livekit-client-1.15', CHROMIUM, TWO),
  page('livekit-client', FIREFOX, ONE),
  page('livekit-client', FIREFOX, TWO),
  program('node', `Node SDK ${version('@livekit/rtc-node')}`, ONE),
  program('node', `Node SDK ${version('@livekit/rtc-node')}`, TWO),
  program('python', `Python SDK ${PYTHON}`, ONE),
  program('python', `Python SDK ${PYTHON}`, TWO),
  program('go', `Go SDK ${GO}`, ONE),
  program('go', `Go SDK ${GO}`, TWO),
];
