// One participant: publishes a time code as video and a tone as audio, and records the time codes and tones of the
// others.

import { Recorder } from './recorder.js';
import { texture } from './texture.js';
import { age, draw, now, read, TIME_RANGE } from './timecode.js';

const { Room, RoomEvent, Track, VideoPreset } = window.LivekitClient;

const FRAMES_PER_SECOND = 15;
/** Simulcast layers below the full size. The rates are low, because the blocks of a time code need few bits. */
const LAYERS = [
  { width: 320, height: 180, maxBitrate: 80_000 },
  { width: 640, height: 360, maxBitrate: 200_000 },
];
const audio = new AudioContext();
const scratch = document.createElement('canvas').getContext('2d', { willReadFrequently: true });

/** All events in order: `{ what, who, at }`, where `at` is this page's clock. */
const events = [];
/** identity -> what is known about that participant's video and audio. */
const remotes = new Map();
let room;
let me;
let connectStarted = 0;
let recorder;

function note(what, who) {
  events.push({ what, who, at: performance.now() });
}

function remote(identity) {
  let entry = remotes.get(identity);
  if (!entry) {
    entry = { frames: [], firstPicture: undefined, firstTone: undefined, video: undefined, screen: undefined, publication: undefined };
    remotes.set(identity, entry);
  }
  return entry;
}

function generate(options) {
  // The canvas is not in the document, where it would be painted a second time for nothing.
  const canvas = document.createElement('canvas');
  canvas.width = options.width;
  canvas.height = options.height;
  const context = canvas.getContext('2d');
  const drawn = [];
  const cover = options.texture ? texture(options.texture) : () => {};
  const tick = () => {
    draw(context, options.sender, options.hue);
    cover(context);
    drawn.push(performance.now());
    if (drawn.length > 600) drawn.shift();
  };
  tick();
  const fps = options.fps ?? FRAMES_PER_SECOND;
  setInterval(tick, 1000 / fps);
  const oscillator = audio.createOscillator();
  oscillator.frequency.value = options.tone;
  const destination = audio.createMediaStreamDestination();
  const gain = audio.createGain();
  gain.gain.value = options.silent ? 0 : 0.4;
  oscillator.connect(gain);
  oscillator.start();
  if (options.rightTone) {
    // A different tone on the right channel makes true stereo.
    const right = audio.createOscillator();
    right.frequency.value = options.rightTone;
    const channels = audio.createChannelMerger(2);
    gain.connect(channels, 0, 0);
    right.connect(channels, 0, 1);
    channels.connect(destination);
    right.start();
  } else {
    gain.connect(destination);
  }
  return {
    video: canvas.captureStream(fps).getVideoTracks()[0],
    audio: destination.stream.getAudioTracks()[0],
    gain: gain.gain,
    drawn,
  };
}

/** Records every decoded frame of a video element. */
function watch(video, entry) {
  const frame = (_, metadata) => {
    if (!video.isConnected) return;
    const code = read(video, scratch);
    const at = performance.now();
    if (code && entry.firstPicture === undefined) entry.firstPicture = at;
    entry.frames.push({ at, width: metadata.width, height: metadata.height, code, latency: code && age(code.time) });
    if (entry.frames.length > 6000) entry.frames.shift();
    video.requestVideoFrameCallback(frame);
  };
  video.requestVideoFrameCallback(frame);
}

/** Records the time at which the loudest frequency is first loud enough to be the tone. */
function listen(track, entry) {
  const source = audio.createMediaStreamSource(new MediaStream([track.mediaStreamTrack]));
  const analyser = audio.createAnalyser();
  analyser.fftSize = 4096;
  analyser.smoothingTimeConstant = 0;
  source.connect(analyser);
  entry.spectrum = analyser;
  const splitter = audio.createChannelSplitter(2);
  source.connect(splitter);
  entry.channels = [0, 1].map((channel) => {
    const one = audio.createAnalyser();
    one.fftSize = 4096;
    splitter.connect(one, channel);
    return one;
  });
  const timer = setInterval(() => {
    if (entry.spectrum !== analyser) return clearInterval(timer);
    const { level } = peak(analyser);
    if (level > -50 && entry.firstTone === undefined) entry.firstTone = performance.now();
  }, 20);
}

function peak(analyser) {
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  let loudest = 0;
  for (let i = 1; i < bins.length; i += 1) if (bins[i] > bins[loudest]) loudest = i;
  return { frequency: (loudest * audio.sampleRate) / analyser.fftSize, level: bins[loudest] };
}

function subscribed(track, publication, participant) {
  note('subscribed', `${participant.identity} ${publication.source}`);
  const entry = remote(participant.identity);
  const element = track.attach();
  if (track.kind === Track.Kind.Audio) {
    // The browser decodes a remote track only if an element plays it.
    element.muted = true;
    listen(track, entry);
    return;
  }
  const screen = publication.source === Track.Source.ScreenShare;
  element.muted = true;
  element.style.width = `${me.tile.width}px`;
  element.style.height = `${me.tile.height}px`;
  document.getElementById('remotes').append(element);
  if (screen) {
    entry.screen = element;
    return;
  }
  entry.video = element;
  entry.publication = publication;
  watch(element, entry);
}

window.call = {
  events,

  prepare(options) {
    me = { tile: { width: 160, height: 90 }, ...options };
    me.media = generate(options);
    return audio.resume().then(() => audio.state);
  },

  /** Changes options of the next join; video and tone stay as they are. */
  reconsider(options) {
    Object.assign(me, options);
  },

  /** Joins and publishes. Returns times in milliseconds since the call to connect. */
  async join(url, token) {
    remotes.clear();
    document.getElementById('remotes').replaceChildren();
    room = new Room({
      adaptiveStream: me.adaptiveStream ?? false,
      dynacast: me.dynacast ?? false,
      singlePeerConnection: me.singlePeerConnection ?? true,
      stopLocalTrackOnUnpublish: false,
      disconnectOnPageLeave: false,
    });
    room
      .on(RoomEvent.TrackSubscribed, subscribed)
      .on(RoomEvent.TrackUnsubscribed, (track, publication, who) => {
        note('unsubscribed', `${who.identity} ${publication.source}`);
        for (const element of track.detach()) element.remove();
      })
      .on(RoomEvent.TrackMuted, (publication, who) => note('muted', `${who.identity} ${publication.source}`))
      .on(RoomEvent.TrackUnmuted, (publication, who) => note('unmuted', `${who.identity} ${publication.source}`))
      .on(RoomEvent.ParticipantConnected, (who) => note('joined', who.identity))
      .on(RoomEvent.ParticipantDisconnected, (who) => {
        note('left', who.identity);
        remotes.delete(who.identity);
      })
      .on(RoomEvent.ActiveSpeakersChanged, (speakers) => note('speaking', speakers.map(({ identity }) => identity).join(' ')))
      .on(RoomEvent.ConnectionQualityChanged, (quality, who) => note('quality', `${who.identity} ${quality}`))
      .on(RoomEvent.Reconnecting, () => note('reconnecting'))
      .on(RoomEvent.SignalReconnecting, () => note('resuming'))
      .on(RoomEvent.Reconnected, () => note('reconnected'))
      .on(RoomEvent.Disconnected, (reason) => note('disconnected', reason))
      .on(RoomEvent.DataReceived, (payload, who, kind, topic) =>
        note('data', `${who?.identity} ${topic} ${new TextDecoder().decode(payload)}`),
      );
    // Clients before 2.9 have no text streams.
    room.registerTextStreamHandler?.('lk.chat', async (reader, who) => note('chat', `${who.identity} ${await reader.readAll()}`));

    window.connections.length = 0;
    connectStarted = performance.now();
    await room.connect(url, token, { peerConnectionTimeout: 30_000 });
    const connected = performance.now() - connectStarted;
    if (me.onlyWatches) return { connected };
    if (me.nameRed) askForRed();
    window.videoEncodings = me.encodings;
    const fps = me.fps ?? FRAMES_PER_SECOND;
    await Promise.all([
      me.onlySpeaks || room.localParticipant.publishTrack(me.media.video.clone(), {
        source: Track.Source.Camera,
        simulcast: true,
        videoCodec: me.codec ?? 'vp8',
        backupCodec: me.backupCodec ?? false,
        backupCodecPolicy: me.backupCodecPolicy,
        // The blocks need few bits. With the client's default rates, the delays of a busy machine look like a congested
        // network, and the browser then leaves out the upper layers for half a minute.
        videoEncoding: { maxBitrate: me.maxBitrate ?? 450_000, maxFramerate: fps },
        videoSimulcastLayers: (me.layers ?? LAYERS).map((layer) => new VideoPreset(layer.width, layer.height, layer.maxBitrate, fps)),
        // On a busy machine the encoder would reduce every layer's size, and layers could not be identified by their
        // width.
        degradationPreference: 'maintain-resolution',
      }),
      room.localParticipant.publishTrack(me.media.audio.clone(), { source: Track.Source.Microphone, dtx: false, red: me.red, forceStereo: Boolean(me.rightTone) }),
    ]);
    return { connected, published: performance.now() - connectStarted };
  },

  /**
   * Time until the first frame is decoded between two connections inside this page, without a server. Measured right
   * before a join, it shows how much of the join's time the machine takes.
   */
  async loopback() {
    const [near, far] = [new RTCPeerConnection(), new RTCPeerConnection()];
    const video = document.createElement('video');
    video.muted = true;
    video.autoplay = true;
    document.getElementById('remotes').append(video);
    const began = performance.now();
    const picture = new Promise((resolve) => video.requestVideoFrameCallback(() => resolve(performance.now() - began)));
    far.ontrack = ({ track }) => {
      if (track.kind === 'video') video.srcObject = new MediaStream([track]);
    };
    near.onicecandidate = ({ candidate }) => candidate && void far.addIceCandidate(candidate);
    far.onicecandidate = ({ candidate }) => candidate && void near.addIceCandidate(candidate);
    near.addTrack(me.media.video);
    near.addTrack(me.media.audio);
    await near.setLocalDescription();
    await far.setRemoteDescription(near.localDescription);
    await far.setLocalDescription();
    await near.setRemoteDescription(far.localDescription);
    const took = await picture;
    near.close();
    far.close();
    video.remove();
    return took;
  },

  /** Records everything about the video and audio from `identity` until `recorded` is called. */
  record(identity) {
    recorder = new Recorder(() => remote(identity), () => window.connections);
  },

  recorded() {
    return recorder.end();
  },

  async leave() {
    await room.disconnect();
  },

  /** Turns the tone into syllables of 180 ms every 240 ms, with a pause every two seconds; or into silence. */
  speak(speaks) {
    const { gain } = me.media;
    gain.cancelScheduledValues(0);
    gain.setValueAtTime(0, audio.currentTime);
    if (!speaks) return;
    for (let at = 0; at < 120; at += 0.24) {
      gain.setValueAtTime(at % 2 < 1.7 ? 0.4 : 0, audio.currentTime + at);
      gain.setValueAtTime(0, audio.currentTime + at + 0.18);
    }
  },

  /** What was seen and heard of each other participant. */
  view() {
    const since = (at) => (at === undefined ? undefined : at - connectStarted);
    return Object.fromEntries(
      [...remotes].map(([identity, entry]) => {
        const readable = entry.frames.filter((frame) => frame.code);
        const last = readable.at(-1);
        return [
          identity,
          {
            firstPicture: since(entry.firstPicture),
            firstTone: since(entry.firstTone),
            frames: entry.frames.length,
            readable: readable.length,
            senders: [...new Set(readable.map((frame) => frame.code.sender))],
            time: last?.code.time,
            latency: last?.latency,
            width: entry.frames.at(-1)?.width,
            height: entry.frames.at(-1)?.height,
            tone: entry.spectrum && peak(entry.spectrum),
            channels: entry.channels?.map(peak),
          },
        ];
      }),
    );
  },

  /** Time codes of the last `count` decoded frames. */
  codes(identity, count) {
    return remote(identity).frames.slice(-count).flatMap((frame) => (frame.code ? [frame.code.time] : []));
  },

  /** Decoding time of the last frame from `identity`, by this page's clock, and the tone heard from there. */
  latest(identity) {
    const entry = remote(identity);
    return { now: performance.now(), picture: entry.frames.at(-1)?.at, tone: entry.spectrum && peak(entry.spectrum) };
  },

  /** Number of media sections of each of this page's connections, from its local description. */
  sections() {
    const alive = window.connections.filter((connection) => connection.connectionState !== 'closed');
    return alive.map((connection) => (connection.localDescription?.sdp.match(/^m=/gm) ?? []).length);
  },

  requestQuality(identity, quality) {
    remote(identity).publication.setVideoQuality(quality);
  },

  requestRate(identity, framesPerSecond) {
    remote(identity).publication.setVideoFPS(framesPerSecond);
  },

  /**
   * Requests another frame size and watches the effect, all by this page's clock: when the first frame of the wanted
   * width was decoded, the longest time without a frame, and the longest stall of this page itself in that time.
   */
  async change(identity, size, wanted, watchMs) {
    const entry = remote(identity);
    let stall = 0;
    let tick = performance.now();
    const timer = setInterval(() => {
      stall = Math.max(stall, performance.now() - tick - 10);
      tick = performance.now();
    }, 10);
    const began = performance.now();
    const from = entry.frames.at(-1)?.width;
    if (size.element) {
      entry.video.style.width = `${size.width}px`;
      entry.video.style.height = `${size.height}px`;
    } else {
      entry.publication.setVideoDimensions(size);
    }
    const fresh = () => entry.frames.filter((frame) => frame.at >= began - 150);
    const reached = () => fresh().find((frame) => frame.at >= began && frame.width === wanted);
    const end = began + 15_000;
    while (!reached() && performance.now() < end) await pause(10);
    await pause(watchMs);
    clearInterval(timer);
    const frames = fresh();
    let gap = 0;
    let gapAt = 0;
    for (let i = 1; i < frames.length; i += 1) {
      const between = frames[i].at - frames[i - 1].at;
      if (between > gap) [gap, gapAt] = [between, frames[i].at - began];
    }
    const readable = frames.filter((frame) => frame.code);
    const codeGap = readable.reduce(
      (most, frame, i) => (i === 0 ? 0 : Math.max(most, (frame.code.time - readable[i - 1].code.time + TIME_RANGE) % TIME_RANGE)),
      0,
    );
    const first = reached();
    return { from, to: wanted, took: first && first.at - began, gap, gapAt, codeGap, stall, window: [began, performance.now()].map(toShared) };
  },

  /** Longest time without a drawing of this page's own video, in a window of the shared clock. */
  drawingGap([from, to]) {
    const times = me.media.drawn.map(toShared).filter((at) => at > from - 200 && at < to);
    return times.reduce((most, at, i) => (i === 0 ? 0 : Math.max(most, at - times[i - 1])), 0);
  },

  async mute(source, muted) {
    const { track } = publicationOf(source);
    await (muted ? track.mute() : track.unmute());
  },

  /** Unpublishes a track and publishes the same track again, as the client itself does in some cases. */
  async publishAgain(source) {
    const { track, options } = publicationOf(source);
    await room.localParticipant.unpublishTrack(track, false);
    const again = await room.localParticipant.publishTrack(track, { ...options, source });
    return again.trackSid;
  },

  /** Does what the client does when encryption is switched on during a call. */
  republishAll() {
    return room.localParticipant.republishAllTracks();
  },

  /** Replaces the camera by another device with the same video. */
  async replaceCamera() {
    const { track, options } = publicationOf(Track.Source.Camera);
    await room.localParticipant.unpublishTrack(track, true);
    const again = await room.localParticipant.publishTrack(me.media.video.clone(), { ...options, source: Track.Source.Camera });
    return again.trackSid;
  },

  /** Shares a screen like a user; where the browser has no screen to share, a drawn one. */
  async shareScreen() {
    try {
      await room.localParticipant.setScreenShareEnabled(true, { audio: false });
      return 'getDisplayMedia';
    } catch (error) {
      await window.call.share(me.sender);
      return `canvas (${error.message})`;
    }
  },

  async stopScreen() {
    await room.localParticipant.setScreenShareEnabled(false);
  },

  screen(identity) {
    const video = remote(identity).screen;
    return video?.isConnected && video.videoWidth > 0 ? { width: video.videoWidth, height: video.videoHeight } : undefined;
  },

  /** Runs a scenario that the published client can simulate, such as `signal-reconnect`. */
  simulate(scenario) {
    return room.simulateScenario(scenario);
  },

  state() {
    return room.state;
  },

  room: () => room,
  me: () => me,

  sid() {
    return room.localParticipant.sid;
  },

  sendText(text) {
    return room.localParticipant.sendText(text, { topic: 'lk.chat' }).then(() => true);
  },

  sendData(text, topic, reliable) {
    return room.localParticipant.publishData(new TextEncoder().encode(text), { topic, reliable });
  },

  /** The simulcast layers that this page sends. */
  async layers() {
    const layers = [];
    for (const report of await reports()) {
      for (const entry of report.values()) {
        if (entry.type === 'outbound-rtp' && entry.kind === 'video' && entry.rid) {
          const { rid, active, frameWidth, frameHeight, framesSent, keyFramesEncoded } = entry;
          layers.push({ rid, active, frameWidth, frameHeight, framesSent, keyFramesEncoded });
        }
      }
    }
    return layers.sort((a, b) => (a.frameWidth ?? 0) - (b.frameWidth ?? 0));
  },

  /** The streams in both directions, with the codec that the browser reports for each. */
  async streams() {
    const found = [];
    for (const report of await reports()) {
      for (const entry of report.values()) {
        if (entry.type !== 'outbound-rtp' && entry.type !== 'inbound-rtp') continue;
        const { kind, rid, active, scalabilityMode, frameWidth, framesSent, framesDecoded, fecPacketsReceived } = entry;
        found.push({
          out: entry.type === 'outbound-rtp',
          codec: report.get(entry.codecId)?.mimeType,
          packets: entry.packetsSent ?? entry.packetsReceived,
          bytes: entry.bytesSent ?? entry.bytesReceived,
          ...{ kind, rid, active, scalabilityMode, frameWidth, framesSent, framesDecoded, fecPacketsReceived },
        });
      }
    }
    return found;
  },

  /** Publishes the camera in a second codec, as the client does when a receiver lacks the first codec. */
  async publishSecondCodec(codec) {
    const { track, options } = publicationOf(Track.Source.Camera);
    try {
      await room.localParticipant.publishAdditionalCodecForTrack(track, codec, options);
      return 'published';
    } catch (error) {
      return error.message;
    }
  },

  /** Cipher and network path of every connected connection. */
  async transports() {
    const found = [];
    for (const report of await reports()) {
      for (const entry of report.values()) {
        if (entry.type !== 'transport' || entry.dtlsState !== 'connected') continue;
        const pair = report.get(entry.selectedCandidatePairId);
        const local = pair && report.get(pair.localCandidateId);
        const far = pair && report.get(pair.remoteCandidateId);
        found.push({
          srtpCipher: entry.srtpCipher,
          dtlsCipher: entry.dtlsCipher,
          tlsVersion: entry.tlsVersion,
          local: local?.protocol,
          remote: far?.protocol,
          remotePort: far?.port,
          roundTripMs: pair?.currentRoundTripTime * 1000,
        });
      }
    }
    return found;
  },

  connectionCount: () => window.connections.filter((connection) => connection.connectionState === 'connected').length,
  now,
};

/** Names RED as the codec of the microphone. The published client has no option for this; other clients do it. */
function askForRed() {
  const { client } = room.engine;
  const send = client.sendAddTrack.bind(client);
  client.sendAddTrack = (request) => {
    if (request.source === 2) request.simulcastCodecs = request.constructor.fromJson({ simulcastCodecs: [{ codec: 'red' }] }).simulcastCodecs;
    return send(request);
  };
}

function reports() {
  const alive = window.connections.filter((connection) => connection.connectionState !== 'closed');
  return Promise.all(alive.map((connection) => connection.getStats()));
}

function toShared(at) {
  return performance.timeOrigin + at;
}

/** Clients before 2.0 have another name for this method. */
function publicationOf(source) {
  return room.localParticipant.getTrackPublication?.(source) ?? room.localParticipant.getTrack(source);
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
