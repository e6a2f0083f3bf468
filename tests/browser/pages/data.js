// A participant that sends and receives reliable data, without media.

const { Room, RoomEvent } = window.LivekitClient;
let room;
const events = [];
const packets = { count: 0, bytes: 0 };
const files = [];

async function sha(bytes) {
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function random(bytes) {
  const all = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += 65_536) crypto.getRandomValues(all.subarray(at, Math.min(bytes, at + 65_536)));
  return all;
}

window.data = {
  events,
  packets,
  files,

  async join(url, token, options = {}) {
    room = new Room({ singlePeerConnection: options.singlePeerConnection ?? true, disconnectOnPageLeave: false });
    room
      .on(RoomEvent.Reconnecting, () => events.push({ what: 'reconnecting', at: Date.now() }))
      .on(RoomEvent.SignalReconnecting, () => events.push({ what: 'resuming', at: Date.now() }))
      .on(RoomEvent.Reconnected, () => events.push({ what: 'reconnected', at: Date.now() }))
      .on(RoomEvent.Disconnected, (reason) => events.push({ what: 'disconnected', reason, at: Date.now() }))
      .on(RoomEvent.DataReceived, (payload, who) => {
        packets.count += 1;
        packets.bytes += payload.length;
        const number = new DataView(payload.buffer, payload.byteOffset).getUint32(0);
        if (number !== packets.count - 1) packets.hole ??= { at: packets.count, number, who: who?.identity };
      });
    room.registerByteStreamHandler('file', async (reader, who) => {
      const file = { from: who.identity, begun: Date.now() };
      files.push(file);
      try {
        const parts = await reader.readAll();
        const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
        parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
        Object.assign(file, { bytes: all.length, hash: await sha(all), ended: Date.now() });
      } catch (error) {
        Object.assign(file, { error: String(error), ended: Date.now() });
      }
    });
    await room.connect(url, token);
  },

  /** Sends random bytes as a file. Resolves to their hash and the time that the client took. */
  async sendFile(bytes) {
    const content = random(bytes);
    const begun = Date.now();
    await room.localParticipant.sendFile(new File([content], 'random.bin'), { topic: 'file', mimeType: 'application/octet-stream' });
    return { hash: await sha(content), begun, ms: Date.now() - begun };
  },

  async sendPackets(count, bytes) {
    for (let number = 0; number < count; number += 1) {
      const payload = new Uint8Array(bytes);
      new DataView(payload.buffer).setUint32(0, number);
      await room.localParticipant.publishData(payload, { reliable: true });
    }
  },

  forget() {
    packets.count = 0;
    packets.bytes = 0;
    delete packets.hole;
    files.length = 0;
    events.length = 0;
  },

  /** Blocks this page's main thread for `ms` milliseconds. */
  block(ms) {
    const end = Date.now() + ms;
    while (Date.now() < end);
  },
};
