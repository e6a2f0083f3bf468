// Two participants of the published Node SDK, which uses native libwebrtc: one connection each, no browser.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { dispose, LocalAudioTrack, LocalVideoTrack, Room, RoomEvent, TrackKind, TrackPublishOptions, TrackSource } from '@livekit/rtc-node';
import { share } from './clients/media.mjs';
import { listen, picture, sound, watch } from './clients/node-media.mjs';
import { progress, TEST_MS, until, within } from './harness/limits.mjs';
import { joinToken, startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';
import { startWire } from './harness/wire.mjs';

const ROOM = `node-${process.pid}`;
const CAMERA = { width: 640, height: 360 };
const JOIN_MS = 30_000;
const options = { timeout: TEST_MS };
let server, wire, ada, ben;

before(async () => {
  server = await startServer();
  wire = await startWire(server.http);
  ada = participant('ada', { sender: 1, tone: 520 });
  ben = participant('ben', { sender: 2, tone: 940 });
}, options);

after(async () => {
  for (const person of [ada, ben]) await person?.stop();
  await wire?.stop();
  await server?.stop();
  // Otherwise the native library keeps the process alive.
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
  let sources = [];

  me.join = async () => {
    const room = new Room();
    me.room = room;
    me.seen.clear();
    me.heard.clear();
    room.on(RoomEvent.TrackSubscribed, (track, _, who) => {
      const others = { ada, ben }[who.identity];
      const count = tally(track.kind === TrackKind.KIND_VIDEO ? me.seen : me.heard, who.identity);
      if (track.kind === TrackKind.KIND_VIDEO) void watch(track, (code) => count(code?.sender === others.sender));
      else void listen(track, (heard) => count(share(heard, others.tone) > 0.7));
    });
    room.on(RoomEvent.DataReceived, (payload, who, _, topic) => me.data.push(`${who?.identity} ${topic} ${new TextDecoder().decode(payload)}`));
    room.registerTextStreamHandler('lk.chat', async (reader, who) => me.data.push(`${who.identity} chat ${await reader.readAll()}`));
    const token = await joinToken(ROOM, identity);
    me.began = performance.now();
    await room.connect(wire.ws, token, { autoSubscribe: true, dynacast: false });

    const video = picture(look.sender, CAMERA);
    const audio = sound(look.tone);
    sources = [video, audio];
    const publish = (track, source) => room.localParticipant.publishTrack(track, new TrackPublishOptions({ source }));
    await publish(LocalVideoTrack.createVideoTrack('camera', video.source), TrackSource.SOURCE_CAMERA);
    await publish(LocalAudioTrack.createAudioTrack('microphone', audio), TrackSource.SOURCE_MICROPHONE);
  };

  me.leave = async () => {
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
