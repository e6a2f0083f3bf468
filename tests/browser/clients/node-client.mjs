// Participants of the published Node SDK, moved by lines of JSON: see clients/program.mjs. A program of its own, so that
// nothing of a test's waits for its native library.

import { createHash, randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import {
  AudioFrame,
  AudioSource,
  AudioStream,
  dispose,
  LocalAudioTrack,
  LocalVideoTrack,
  Room,
  RoomEvent,
  TrackKind,
  TrackPublishOptions,
  TrackSource,
  VideoBufferType,
  VideoFrame,
  VideoSource,
  VideoStream,
} from '@livekit/rtc-node';
import { encode, now } from '../pages/timecode.js';
import { codeIn, grey, share, SOUND_RATE } from './media.mjs';

const CAMERA = { width: 320, height: 180 };
const SCREEN = { width: 480, height: 270 };
const FRAMES_PER_SECOND = 15;
/** Codes and sound that are kept to be asked for. */
const KEPT = 24;
const WINDOW = SOUND_RATE * 0.3;
const SOURCES = {
  [TrackSource.SOURCE_CAMERA]: 'camera',
  [TrackSource.SOURCE_MICROPHONE]: 'microphone',
  [TrackSource.SOURCE_SCREENSHARE]: 'screen_share',
};

const people = new Map();

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, as, do: what, ...more } = JSON.parse(line);
    if (!people.has(as)) people.set(as, participant(as));
    const one = people.get(as);
    // In turn for one, side by side for several.
    one.turn = one.turn
      .then(() => one[what](more))
      .then((ok) => say({ id, ok: ok ?? null }), (error) => say({ id, error: error.message }));
  })
  .on('close', async () => {
    await Promise.allSettled([...people.values()].map((one) => one.leave()));
    await dispose();
    process.exit(0);
  });

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function participant(identity) {
  const remotes = new Map();
  const data = new Map();
  let room;
  let camera;
  let microphone;
  let screen;
  const note = (event, who = '') => say({ event, as: identity, who });

  return {
    turn: Promise.resolve(),

    async join({ url, token, single }) {
      room = new Room();
      room
        .on(RoomEvent.TrackSubscribed, (track, publication, who) => {
          const name = `${who.identity} ${SOURCES[publication.source]}`;
          note('subscribed', name);
          const entry = { frames: 0, codes: [], sound: new Float64Array(WINDOW), filled: 0 };
          remotes.set(name, entry);
          if (track.kind === TrackKind.KIND_VIDEO) void watch(track, entry);
          else void listen(track, entry);
        })
        .on(RoomEvent.TrackUnsubscribed, (_, publication, who) => note('unsubscribed', `${who.identity} ${SOURCES[publication.source]}`))
        .on(RoomEvent.ParticipantConnected, (who) => note('joined', who.identity))
        .on(RoomEvent.ParticipantDisconnected, (who) => note('left', who.identity))
        .on(RoomEvent.Reconnecting, () => note('reconnecting'))
        .on(RoomEvent.Reconnected, () => note('reconnected'))
        .on(RoomEvent.Disconnected, (reason) => note('disconnected', String(reason)))
        .on(RoomEvent.DataReceived, (payload, who, _, topic) => {
          const name = `${who?.identity} ${topic}`;
          const entry = data.get(name) ?? { pieces: 0, hash: createHash('sha256') };
          data.set(name, entry);
          entry.pieces += 1;
          entry.hash.update(payload);
        });
      await room.connect(url, token, { autoSubscribe: true, dynacast: false, singlePeerConnection: single });
    },

    async publish({ sender, tone }) {
      const video = picture(sender, CAMERA);
      const audio = sound(tone);
      camera = { track: LocalVideoTrack.createVideoTrack('camera', video), source: TrackSource.SOURCE_CAMERA };
      microphone = { track: LocalAudioTrack.createAudioTrack('microphone', audio), source: TrackSource.SOURCE_MICROPHONE };
      for (const each of [camera, microphone]) await publish(each);
    },

    async republish() {
      for (const each of [camera, microphone]) {
        await room.localParticipant.unpublishTrack(each.publication.sid, false);
        await publish(each);
      }
    },

    async share({ sender }) {
      screen = { source: TrackSource.SOURCE_SCREENSHARE, video: picture(sender, SCREEN) };
      screen.track = LocalVideoTrack.createVideoTrack('screen', screen.video);
      await publish(screen);
    },

    async unshare() {
      clearInterval(screen.video.timer);
      await room.localParticipant.unpublishTrack(screen.publication.sid);
      await screen.video.close();
    },

    async send({ topic, pieces, size, lossy }) {
      const hash = createHash('sha256');
      for (let i = 0; i < pieces; i += 1) {
        const piece = randomBytes(size);
        hash.update(piece);
        await room.localParticipant.publishData(piece, { reliable: !lossy, topic });
      }
      return hash.digest('hex');
    },

    data({ from, topic }) {
      const entry = data.get(`${from} ${topic}`);
      return { pieces: entry?.pieces ?? 0, hash: entry?.hash.copy().digest('hex') };
    },

    tracks: () => ({ tracks: Object.fromEntries([...remotes].map(([name, { frames }]) => [name, { frames }])) }),
    codes: ({ from, source }) => remotes.get(`${from} ${source}`)?.codes ?? [],
    tone({ from, frequency }) {
      const { sound: heard } = remotes.get(`${from} microphone`) ?? {};
      return heard ? share(heard, frequency) : 0;
    },
    sid: () => room.localParticipant.sid,
    leave: () => room?.disconnect(),
  };

  async function publish(each) {
    each.publication = await room.localParticipant.publishTrack(each.track, new TrackPublishOptions({ source: each.source }));
  }
}

function picture(sender, { width, height }) {
  const source = new VideoSource(width, height);
  const size = width * height;
  const data = new Uint8Array(size + size / 2).fill(128);
  const draw = () => {
    data.set(grey(width, height, encode(sender, now())));
    source.captureFrame(new VideoFrame(data, width, height, VideoBufferType.I420));
  };
  draw();
  source.timer = setInterval(draw, 1_000 / FRAMES_PER_SECOND);
  return source;
}

function sound(tone) {
  const source = new AudioSource(SOUND_RATE, 1);
  const samples = SOUND_RATE / 50;
  let phase = 0;
  void (async () => {
    while (!source.closed) {
      const data = new Int16Array(samples);
      for (let i = 0; i < samples; i += 1) {
        data[i] = 12_000 * Math.sin(phase);
        phase += (2 * Math.PI * tone) / SOUND_RATE;
      }
      // The source takes its time: this is what paces the loop.
      await source.captureFrame(new AudioFrame(data, SOUND_RATE, 1, samples)).catch(() => {});
    }
  })();
  return source;
}

async function watch(track, entry) {
  for await (const { frame } of new VideoStream(track)) {
    const { data, width, height } = frame.type === VideoBufferType.I420 ? frame : frame.convert(VideoBufferType.I420);
    entry.frames += 1;
    entry.codes.push(codeIn(data, width, height) ?? null);
    if (entry.codes.length > KEPT) entry.codes.shift();
  }
}

async function listen(track, entry) {
  for await (const frame of new AudioStream(track, SOUND_RATE, 1)) {
    entry.frames += 1;
    const { sound: heard } = entry;
    heard.copyWithin(0, frame.data.length);
    heard.set(Float64Array.from(frame.data, (sample) => sample / 32_768), WINDOW - frame.data.length);
  }
}
