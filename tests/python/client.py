"""Participants of the published Python SDK, controlled by lines of JSON: see tests/browser/clients/program.mjs."""

import asyncio
import hashlib
import json
import os
import sys
import time

import numpy as np
from livekit import rtc

SOUND_RATE = 48_000
FRAMES_PER_SECOND = 15
CAMERA = (320, 180)
SCREEN = (480, 270)
# Layout of a time code: see tests/browser/pages/timecode.js.
COLUMNS, ROWS = 8, 4
TIME_RANGE = 1 << 20
# Numbers of time codes and of audio samples that are stored per track.
KEPT = 24
WINDOW = SOUND_RATE * 3 // 10

SOURCES = {
    rtc.TrackSource.SOURCE_CAMERA: "camera",
    rtc.TrackSource.SOURCE_MICROPHONE: "microphone",
    rtc.TrackSource.SOURCE_SCREENSHARE: "screen_share",
}


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def checksum(value):
    crc = 0xFF
    for shift in (16, 8, 0):
        crc ^= (value >> shift) & 0xFF
        for _ in range(8):
            crc = ((crc << 1) ^ 0x07) & 0xFF if crc & 0x80 else (crc << 1) & 0xFF
    return crc


def encode(sender, at):
    value = sender << 20 | at
    return [(value >> i) & 1 for i in range(23, -1, -1)] + [(checksum(value) >> i) & 1 for i in range(7, -1, -1)]


def decode(bits):
    value = int("".join(map(str, bits[:24])), 2)
    if int("".join(map(str, bits[24:])), 2) != checksum(value):
        return None
    return {"sender": value >> 20, "time": value & (TIME_RANGE - 1)}


class Picture:
    """Video source that shows time codes until it is stopped."""

    def __init__(self, sender, size):
        self.sender, (self.width, self.height) = sender, size
        self.source = rtc.VideoSource(self.width, self.height)
        self.column = np.arange(self.width) * COLUMNS // self.width
        self.row = np.arange(self.height) * ROWS // self.height
        self.data = np.full(self.width * self.height * 3 // 2, 128, np.uint8)
        self.task = asyncio.create_task(self.run())

    async def run(self):
        while True:
            bits = np.array(encode(self.sender, int(time.time() * 1000) % TIME_RANGE)).reshape(ROWS, COLUMNS)
            light = bits[np.ix_(self.row, self.column)]
            self.data[: self.width * self.height] = np.where(light, 215, 40).ravel()
            frame = rtc.VideoFrame(self.width, self.height, rtc.VideoBufferType.I420, self.data.tobytes())
            self.source.capture_frame(frame)
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def stop(self):
        self.task.cancel()
        await self.source.aclose()


async def play(source, tone):
    samples, at = SOUND_RATE // 50, 0
    while True:
        wave = 12_000 * np.sin(2 * np.pi * tone * (at + np.arange(samples)) / SOUND_RATE)
        at += samples
        # The source takes as long as the audio lasts, which paces the loop.
        await source.capture_frame(rtc.AudioFrame(wave.astype(np.int16).tobytes(), SOUND_RATE, 1, samples))


class Remote:
    """What is received of one track."""

    def __init__(self, track):
        self.frames, self.codes, self.sound = 0, [], np.zeros(WINDOW)
        video = track.kind == rtc.TrackKind.KIND_VIDEO
        self.task = asyncio.create_task(self.watch(track) if video else self.listen(track))

    async def watch(self, track):
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.I420):
            frame = event.frame
            grey = np.frombuffer(frame.data, np.uint8, frame.width * frame.height).reshape(frame.height, frame.width)
            rows = ((np.arange(ROWS) + 0.5) * frame.height / ROWS).astype(int)
            columns = ((np.arange(COLUMNS) + 0.5) * frame.width / COLUMNS).astype(int)
            self.frames += 1
            self.codes = (self.codes + [decode((grey[np.ix_(rows, columns)] > 128).astype(int).ravel())])[-KEPT:]

    async def listen(self, track):
        async for event in rtc.AudioStream(track, sample_rate=SOUND_RATE, num_channels=1):
            self.frames += 1
            heard = np.frombuffer(event.frame.data, np.int16) / 32_768
            self.sound = np.concatenate([self.sound, heard])[-WINDOW:]

    def tone(self, frequency):
        """Share of the audio's energy at one frequency."""
        energy = float(np.sum(self.sound**2))
        if energy < 1e-3:
            return 0
        wave = np.exp(-2j * np.pi * frequency * np.arange(WINDOW) / SOUND_RATE)
        return 2 * float(abs(np.dot(self.sound, wave)) ** 2) / (WINDOW * energy)


class Participant:
    def __init__(self, identity):
        self.identity, self.queue = identity, asyncio.Queue()
        self.remotes, self.data_streams, self.room = {}, {}, None
        self.worker = asyncio.create_task(self.work())

    async def work(self):
        # Commands to one participant run one after the other, those to different participants in parallel.
        while True:
            asked = await self.queue.get()
            try:
                ok = await getattr(self, asked.pop("do"))(asked)
                say({"id": asked["id"], "ok": ok})
            except Exception as error:  # the test evaluates it
                say({"id": asked["id"], "error": f"{type(error).__name__}: {error}"})

    def note(self, event, who=""):
        say({"event": event, "as": self.identity, "who": who})

    async def join(self, asked):
        self.room = room = rtc.Room()

        @room.on("track_subscribed")
        def _(track, publication, who):
            name = f"{who.identity} {SOURCES[publication.source]}"
            self.note("subscribed", name)
            self.remotes[name] = Remote(track)

        @room.on("track_unsubscribed")
        def _(_track, publication, who):
            self.note("unsubscribed", f"{who.identity} {SOURCES[publication.source]}")

        @room.on("data_received")
        def _(packet):
            name = f"{packet.participant and packet.participant.identity} {packet.topic}"
            pieces, digest = self.data_streams.get(name, (0, hashlib.sha256()))
            digest.update(packet.data)
            self.data_streams[name] = (pieces + 1, digest)

        room.on("participant_connected", lambda who: self.note("joined", who.identity))
        room.on("participant_disconnected", lambda who: self.note("left", who.identity))
        room.on("reconnecting", lambda: self.note("reconnecting"))
        room.on("reconnected", lambda: self.note("reconnected"))
        room.on("disconnected", lambda reason: self.note("disconnected", str(reason)))
        await room.connect(asked["url"], asked["token"], rtc.RoomOptions(single_peer_connection=asked.get("single")))

    async def publish(self, asked):
        self.picture = Picture(asked["sender"], CAMERA)
        sound = rtc.AudioSource(SOUND_RATE, 1)
        self.sound = asyncio.create_task(play(sound, asked["tone"]))
        self.published = [
            [rtc.LocalVideoTrack.create_video_track("camera", self.picture.source), rtc.TrackSource.SOURCE_CAMERA],
            [rtc.LocalAudioTrack.create_audio_track("microphone", sound), rtc.TrackSource.SOURCE_MICROPHONE],
        ]
        for each in self.published:
            each[2:] = [await self.publish_one(*each[:2])]

    async def publish_one(self, track, source):
        return await self.room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=source))

    async def republish(self, _):
        for each in self.published:
            await self.room.local_participant.unpublish_track(each[2].sid)
            each[2] = await self.publish_one(*each[:2])

    async def share(self, asked):
        self.screen = Picture(asked["sender"], SCREEN)
        track = rtc.LocalVideoTrack.create_video_track("screen", self.screen.source)
        self.screen_publication = await self.publish_one(track, rtc.TrackSource.SOURCE_SCREENSHARE)

    async def unshare(self, _):
        await self.room.local_participant.unpublish_track(self.screen_publication.sid)
        await self.screen.stop()

    async def send(self, asked):
        digest = hashlib.sha256()
        for _ in range(asked["pieces"]):
            piece = os.urandom(asked["size"])
            digest.update(piece)
            await self.room.local_participant.publish_data(piece, reliable=not asked["lossy"], topic=asked["topic"])
        return digest.hexdigest()

    async def data(self, asked):
        pieces, digest = self.data_streams.get(f"{asked['from']} {asked['topic']}", (0, hashlib.sha256()))
        return {"pieces": pieces, "hash": digest.hexdigest()}

    async def tracks(self, _):
        return {"tracks": {name: {"frames": remote.frames} for name, remote in self.remotes.items()}}

    async def codes(self, asked):
        remote = self.remotes.get(f"{asked['from']} {asked['source']}")
        return remote.codes if remote else []

    async def tone(self, asked):
        remote = self.remotes.get(f"{asked['from']} microphone")
        return remote.tone(asked["frequency"]) if remote else 0

    async def sid(self, _):
        return self.room.local_participant.sid

    async def leave(self, _):
        await self.room.disconnect()


async def main():
    people = {}
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        asked = json.loads(line)
        identity = asked["as"]
        if identity not in people:
            people[identity] = Participant(identity)
        people[identity].queue.put_nowait(asked)
    # The test has ended.
    for one in people.values():
        if one.room:
            await asyncio.wait_for(one.room.disconnect(), 5)
    # The native library has threads of its own, which must not delay the exit.
    os._exit(0)


asyncio.run(main())
