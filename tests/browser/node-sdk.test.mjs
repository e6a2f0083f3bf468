// Two participants of the published Node SDK, which is native libwebrtc: one connection each, no browser.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
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
import { progress, TEST_MS, until, within } from './harness/limits.mjs';
import { joinToken, startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';
import { startWire } from './harness/wire.mjs';

const ROOM = `node-${process.pid}`;
const WIDTH = 640;
const HEIGHT = 360;
const RATE = 48_000;
const JOIN_MS = 30_000;
const options = { timeout: TEST_MS };
let server, wire, ada, ben;

before(async () => {
  server = await startServer();
  wire = await startWire(server.http);
  // Left and right half differ, so that a picture which is merely some colour does not pass.
  ada = participant('ada', { left: [200, 30, 30], right: [30, 30, 200], tone: 520 });
  ben = participant('ben', { left: [30, 180, 30], right: [220, 220, 40], tone: 940 });
}, options);

after(async () => {
  for (const person of [ada, ben]) await person?.stop();
  await wire?.stop();
  await server?.stop();
  // Without it the native library keeps the process alive.
  await within(20_000, 'the SDK to end', dispose());
}, options);

test('two native clients join over one connection each', options, async () => {
  for (const person of [ada, ben]) await within(JOIN_MS, `${person.identity} to join`, person.join());
  const doors = wire.requests.map((line) => line.split(' ')[1].split('?')[0]);
  progress(`asked for ${doors.join(', ')}`);
  assert.ok(doors.every((door) => door === '/rtc/v1'), 'nobody fell back to two connections');
  assert.ok(wire.requests.every((line) => line.includes('join_request=')), 'the offer came with the request');
});

test('each sees the other\'s picture and hears the other\'s tone', options, async () => {
  for (const [person, other] of [[ada, ben], [ben, ada]]) {
    await until(`${person.identity} to see ${other.identity}`, () => person.seen.get(other.identity)?.matching >= 30);
    await until(`${person.identity} to hear ${other.tone} Hz`, () => person.heard.get(other.identity)?.matching >= 10);
  }
  printTable(
    'From the second participant\'s connect to the first picture and sound (ms)',
    [[ada, ben], [ben, ada]].map(([person, other]) => ({
      who: `${person.identity} meets ${other.identity}`,
      picture: person.seen.get(other.identity).first - ben.began,
      sound: person.heard.get(other.identity).first - ben.began,
    })),
  );
});

test('packets and text pass in both directions', options, async () => {
  for (const [person, other] of [[ada, ben], [ben, ada]]) {
    for (const reliable of [true, false]) {
      const text = `packet of ${person.identity}, reliable ${reliable}`;
      await person.room.localParticipant.publishData(new TextEncoder().encode(text), { reliable, topic: 'test' });
      await until(`${other.identity} to get "${text}"`, () => other.data.includes(`${person.identity} test ${text}`));
    }
    await person.room.localParticipant.sendText(`hello from ${person.identity}`, { topic: 'lk.chat' });
    await until(`${other.identity} to read the chat`, () => other.data.includes(`${person.identity} chat hello from ${person.identity}`));
  }
});

test('leaving is seen, and coming back too', options, async () => {
  await ben.leave();
  await until('ada to see ben leave', () => ada.room.remoteParticipants.size === 0);
  ada.seen.clear();
  await within(JOIN_MS, 'ben to join again', ben.join());
  await until('ada to see ben again', () => ada.seen.get('ben')?.matching >= 15);
  await until('ben to see ada again', () => ben.seen.get('ada')?.matching >= 15);
});

function participant(identity, look) {
  const me = { identity, ...look, seen: new Map(), heard: new Map(), data: [], room: undefined };
  const timers = new Set();
  let sources = [];

  me.join = async () => {
    const room = new Room();
    me.room = room;
    me.seen.clear();
    me.heard.clear();
    room.on(RoomEvent.TrackSubscribed, (track, _, who) => {
      const others = { ada, ben }[who.identity];
      if (track.kind === TrackKind.KIND_VIDEO) void watch(track, others, tally(me.seen, who.identity));
      else void listen(track, others, tally(me.heard, who.identity));
    });
    room.on(RoomEvent.DataReceived, (payload, who, _, topic) => me.data.push(`${who?.identity} ${topic} ${new TextDecoder().decode(payload)}`));
    room.registerTextStreamHandler('lk.chat', async (reader, who) => me.data.push(`${who.identity} chat ${await reader.readAll()}`));
    const token = await joinToken(ROOM, identity);
    me.began = performance.now();
    await room.connect(wire.ws, token, { autoSubscribe: true, dynacast: false });

    const video = new VideoSource(WIDTH, HEIGHT);
    const audio = new AudioSource(RATE, 1);
    sources = [video, audio];
    const publish = (track, source) => room.localParticipant.publishTrack(track, new TrackPublishOptions({ source }));
    await publish(LocalVideoTrack.createVideoTrack('camera', video), TrackSource.SOURCE_CAMERA);
    await publish(LocalAudioTrack.createAudioTrack('microphone', audio), TrackSource.SOURCE_MICROPHONE);
    const frame = picture(look);
    timers.add(setInterval(() => video.captureFrame(frame), 1000 / 15));
    void play(audio, look.tone, () => !audio.closed);
  };

  me.leave = async () => {
    for (const timer of timers) clearInterval(timer);
    timers.clear();
    await within(20_000, `${identity} to leave`, me.room.disconnect());
    for (const source of sources) await source.close();
  };

  me.stop = () => (me.room?.isConnected ? me.leave() : undefined);
  return me;
}

function tally(map, identity) {
  const entry = { matching: 0, first: undefined };
  map.set(identity, entry);
  return (matches) => {
    if (!matches) return;
    entry.matching += 1;
    entry.first ??= performance.now();
  };
}

function picture({ left, right }) {
  const data = new Uint8Array(WIDTH * HEIGHT * 4);
  for (let i = 0; i < WIDTH * HEIGHT; i += 1) data.set([...(i % WIDTH < WIDTH / 2 ? left : right), 255], i * 4);
  return new VideoFrame(data, WIDTH, HEIGHT, VideoBufferType.RGBA);
}

async function watch(track, from, count) {
  for await (const { frame } of new VideoStream(track)) {
    const rgba = frame.convert(VideoBufferType.RGBA);
    const at = (x) => [...rgba.data.subarray((Math.floor(rgba.height / 2) * rgba.width + Math.floor(x * rgba.width)) * 4).subarray(0, 3)];
    count(alike(at(0.25), from.left) && alike(at(0.75), from.right));
  }
}

function alike(a, b) {
  return a.every((value, i) => Math.abs(value - b[i]) < 40);
}

async function play(source, tone, on) {
  const samples = RATE / 50;
  let phase = 0;
  while (on()) {
    const data = new Int16Array(samples);
    for (let i = 0; i < samples; i += 1) {
      data[i] = 12_000 * Math.sin(phase);
      phase += (2 * Math.PI * tone) / RATE;
    }
    // The source takes its time: this is what paces the loop.
    await source.captureFrame(new AudioFrame(data, RATE, 1, samples)).catch(() => {});
  }
}

async function listen(track, from, count) {
  const window = new Float64Array(RATE / 10);
  let filled = 0;
  for await (const frame of new AudioStream(track, RATE, 1)) {
    for (const sample of frame.data) {
      window[filled] = sample / 32_768;
      filled += 1;
      if (filled < window.length) continue;
      filled = 0;
      count(share(window, from.tone) > 0.7);
    }
  }
}

/** How much of a signal's energy lies at one frequency (Goertzel). */
function share(samples, frequency) {
  const coefficient = 2 * Math.cos((2 * Math.PI * frequency) / RATE);
  let [s1, s2, energy] = [0, 0, 0];
  for (const sample of samples) {
    [s1, s2] = [sample + coefficient * s1 - s2, s1];
    energy += sample * sample;
  }
  if (energy < 1e-3) return 0;
  return (2 * (s1 * s1 + s2 * s2 - coefficient * s1 * s2)) / (samples.length * energy);
}
