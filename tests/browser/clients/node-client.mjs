// Participants of the published Node SDK, controlled by lines of JSON: see clients/program.mjs. A separate program, so
// that the test process does not wait for the native library.

import { createHash, randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { dispose, LocalAudioTrack, LocalVideoTrack, Room, RoomEvent, TrackKind, TrackPublishOptions, TrackSource } from '@livekit/rtc-node';
import { share } from './media.mjs';
import { listen, picture, sound, watch } from './node-media.mjs';

const CAMERA = { width: 320, height: 180 };
const SCREEN = { width: 480, height: 270 };
/** Number of time codes that are stored per track. */
const KEPT = 24;
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
    // Commands to one participant run one after the other, those to different participants in parallel.
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
          const entry = { frames: 0, codes: [], sound: undefined };
          remotes.set(name, entry);
          if (track.kind === TrackKind.KIND_VIDEO) {
            void watch(track, (code) => {
              entry.frames += 1;
              entry.codes.push(code ?? null);
              if (entry.codes.length > KEPT) entry.codes.shift();
            });
          } else {
            void listen(track, (heard) => {
              entry.frames += 1;
              entry.sound = heard;
            });
          }
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
      camera = { track: LocalVideoTrack.createVideoTrack('camera', video.source), source: TrackSource.SOURCE_CAMERA };
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
      screen.track = LocalVideoTrack.createVideoTrack('screen', screen.video.source);
      await publish(screen);
    },

    async unshare() {
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
