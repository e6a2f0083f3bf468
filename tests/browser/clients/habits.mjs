// Actions that every client must be able to do with a partner: the columns of docs/compatibility.md. Each function
// rejects with an error that says what was missing.

import assert from 'node:assert/strict';
import { until } from '../harness/limits.mjs';

/** Forty for the table; otherwise a few more than sessions once had sections and sources for. */
const SHARES = process.env.COMPATIBILITY ? 40 : 20;
/** About 1 MB in each direction, in pieces that fit into one message. */
const PIECES = 70;
const PIECE_BYTES = 15_000;

/** Column -> action. `partner` is in the room and publishes; `wire` is the TCP connection of the client's signaling. */
export const HABITS = {
  async connect({ client, partner, wire, room }) {
    const from = await partner.mark();
    await client.join(wire.ws, room);
    await partner.saw('joined', client.identity, from);
  },

  async publish({ client, partner }) {
    await client.publish();
    await Promise.all([partner.sees(client), partner.hears(client)]);
  },

  async receive({ client, partner }) {
    await Promise.all([client.sees(partner), client.hears(partner)]);
  },

  async data({ client, partner }) {
    for (const [one, other] of [[client, partner], [partner, client]]) {
      const sent = await one.send('much', PIECES, PIECE_BYTES);
      const got = await until(`${other.identity} to get ${PIECES} pieces`, async () => {
        const all = await other.data(one.identity, 'much');
        return all.pieces >= PIECES && all;
      });
      assert.deepEqual(got, { ...got, pieces: PIECES, hash: sent }, `what ${other.identity} got is what ${one.identity} sent`);
      await one.send('lossy', 1, 500, true);
      await until(`${other.identity} to get a lossy message`, async () => (await other.data(one.identity, 'lossy')).pieces === 1);
    }
  },

  /**
   * The signal connection breaks. The session continues, and nobody sees anybody leave. New connections are accepted at
   * once, since the Go SDK starts a new session if its first attempt fails.
   */
  async resume({ client, partner, wire }) {
    const sid = await client.sid();
    const marks = [await client.mark(), await partner.mark()];
    const asked = wire.requests.length;
    wire.snap();
    await until(`${client.identity} to come back`, async () =>
      client.quiet ? wire.requests.length > asked : (await client.events()).slice(marks[0]).some(({ what }) => what === 'reconnected'),
    );
    assert.equal(await client.sid(), sid, 'the session is another');
    await Promise.all([client.sees(partner), partner.sees(client), client.hears(partner), partner.hears(client)]);
    await client.send('after', 1, 500);
    await until('a message after the resume', async () => (await partner.data(client.identity, 'after')).pieces === 1);
    const gone = (await partner.events()).slice(marks[1]).filter(({ what }) => what === 'left' || what === 'joined');
    assert.deepEqual(gone, [], `${partner.identity} saw somebody go or come`);
  },

  /** Unpublishes the same tracks on both sides and publishes them again. */
  async republish({ client, partner }) {
    for (const [one, other] of [[client, partner], [partner, client]]) {
      const from = await other.mark();
      await one.republish();
      for (const source of ['camera', 'microphone']) await other.saw('subscribed', `${one.identity} ${source}`, from);
      await Promise.all([other.sees(one), other.hears(one)]);
    }
  },

  /** Shares a screen repeatedly, with a new track each time, which the partner must see each time. */
  async shares(meeting) {
    const { client, partner } = meeting;
    for (let i = 1; i <= SHARES; i += 1) {
      meeting.stage = `share ${i}`;
      const from = await partner.mark();
      await client.share();
      await partner.saw('subscribed', `${client.identity} screen_share`, from);
      await until(`${partner.identity} to see ${client.identity}'s screen`, () => partner.screen(client));
      await client.unshare();
      await partner.saw('unsubscribed', `${client.identity} screen_share`, from);
    }
    await Promise.all([client.sees(partner), partner.sees(client)]);
  },
};
