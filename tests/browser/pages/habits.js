// Everyday actions in a call: publishing again, sharing a screen repeatedly, sending much data. Every version of the
// published client that the tests use can do all of them.

import { draw } from './timecode.js';

const { RoomEvent, Track, VideoPreset } = window.LivekitClient;

/** Data that has arrived, by sender and topic. */
const arrived = new Map();
const screen = { canvas: undefined, track: undefined };

/** Hue of the shared screen's video, which distinguishes it from a camera. */
const SCREEN_HUE = 200;

Object.assign(window.call, {
  /** Collects the data that arrives from now on. */
  collect() {
    arrived.clear();
    window.call.room().on(RoomEvent.DataReceived, (payload, who, _, topic) => {
      const name = `${who?.identity} ${topic}`;
      if (!arrived.has(name)) arrived.set(name, []);
      arrived.get(name).push(payload.slice());
    });
  },

  async arrivedFrom(identity, topic) {
    const pieces = arrived.get(`${identity} ${topic}`) ?? [];
    return { pieces: pieces.length, hash: await hash(pieces) };
  },

  /** Sends random bytes in pieces as fast as the client accepts them. Resolves to their hash. */
  async sendPieces(topic, count, size, lossy) {
    const pieces = Array.from({ length: count }, () => crypto.getRandomValues(new Uint8Array(size)));
    for (const piece of pieces) await send(piece, topic, lossy);
    return hash(pieces);
  },

  /** Publishes the camera in two layers, and the microphone. */
  async publish() {
    const { localParticipant } = window.call.room();
    const { media, fps = 15 } = window.call.me();
    const camera = {
      source: Track.Source.Camera,
      simulcast: true,
      videoCodec: 'vp8',
      backupCodec: false,
      videoEncoding: { maxBitrate: 250_000, maxFramerate: fps },
      videoSimulcastLayers: [new VideoPreset(320, 180, 80_000, fps)],
    };
    await localParticipant.publishTrack(media.video.clone(), camera);
    await localParticipant.publishTrack(media.audio.clone(), { source: Track.Source.Microphone, dtx: false });
  },

  /** Unpublishes the camera and the microphone, and publishes the same tracks again. */
  async republish() {
    for (const source of [Track.Source.Camera, Track.Source.Microphone]) await window.call.publishAgain(source);
  },

  /** Shares a screen whose video names the sender. Each call uses a new track. */
  async share(sender, { simulcast = false } = {}) {
    if (!screen.canvas) {
      screen.canvas = document.createElement('canvas');
      [screen.canvas.width, screen.canvas.height] = [480, 270];
      const context = screen.canvas.getContext('2d');
      draw(context, sender, SCREEN_HUE);
      setInterval(() => draw(context, sender, SCREEN_HUE), 100);
    }
    screen.track = screen.canvas.captureStream(10).getVideoTracks()[0];
    await window.call.room().localParticipant.publishTrack(screen.track, { source: Track.Source.ScreenShare, simulcast });
  },

  async unshare() {
    await window.call.room().localParticipant.unpublishTrack(screen.track, true);
  },
});

function send(bytes, topic, lossy) {
  const { localParticipant } = window.call.room();
  // Before 2.0 the kind was a separate argument: 0 is reliable, 1 lossy.
  const old = !localParticipant.getTrackPublication;
  return old ? localParticipant.publishData(bytes, lossy ? 1 : 0, { topic }) : localParticipant.publishData(bytes, { topic, reliable: !lossy });
}

async function hash(pieces) {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', all));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
