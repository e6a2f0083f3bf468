// A page of `pages/call.html` with the methods of a participant of `clients/program.mjs`.

import { openPerson } from '../harness/participants.mjs';
import { until } from '../harness/limits.mjs';

const FRESH = 12;
/** Resolution of the page's spectrum in Hz. */
const HERTZ = 25;

/** Options are those of the page: `client`, `singlePeerConnection`, and so on. */
export async function pagePerson(browser, pages, who, options = {}) {
  const page = await openPerson(browser, pages, who, { width: 640, height: 360, onlyWatches: true, ...options });
  const { call, identity } = page;
  const view = async (other) => (await call('view'))[other.identity];
  return {
    ...page,
    /** Whether the client reports no resume event, as livekit-client 2.0. */
    quiet: options.quiet,
    mark: async () => (await page.events()).length,
    async join(url, room) {
      const joined = await page.join(url, room);
      await call('collect');
      return joined;
    },
    publish: () => call('publish'),
    republish: () => call('republish'),
    share: () => call('share', who.sender),
    unshare: () => call('unshare'),
    send: (topic, pieces, size, lossy = false) => call('sendPieces', topic, pieces, size, lossy),
    data: (from, topic) => call('arrivedFrom', from, topic),
    sid: () => call('sid'),
    leave: () => call('leave'),
    async sees(other) {
      const before = (await view(other))?.readable ?? 0;
      const seen = await until(`${identity} to see ${other.identity}`, async () => {
        const now = await view(other);
        return now?.readable >= before + FRESH && now;
      });
      if (seen.senders.some((sender) => sender !== other.sender)) throw new Error(`${identity} sees ${seen.senders} for ${other.identity}`);
    },
    hears: (other) =>
      until(`${identity} to hear ${other.tone} Hz of ${other.identity}`, async () => {
        const tone = (await view(other))?.tone;
        return tone && Math.abs(tone.frequency - other.tone) < HERTZ && tone.level > -50;
      }),
    /** What the page received of each source, and its sections. */
    received: () => page.page.evaluate(() => window.receivedSources()),
    screen: async (other) => Boolean(await call('screen', other.identity)),
  };
}
