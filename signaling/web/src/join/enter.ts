// Joins a call: gets a token for a name and a room, connects and publishes.

import {
  ConnectionError,
  Room,
  ScreenSharePresets,
  TokenSource,
  VideoPresets,
  type LocalAudioTrack,
  type LocalTrack,
  type LocalVideoTrack,
  type VideoCodec,
} from 'livekit-client';
import { serverAddress, tokenEndpoint, validateAddress } from '../lib/address';
import { allowed } from '../lib/allowed';
import { JoinRefused, JoinTimeout } from '../lib/errors';

export interface Entry {
  roomName: string;
  name: string;
  codec: VideoCodec;
  /** Devices of the preview, lent to the call so that they need not be opened a second time. */
  camera: Lender<LocalVideoTrack>;
  microphone: Lender<LocalAudioTrack>;
  cameraId: string;
  microphoneId: string;
  speakerId: string;
}

/** Access to the current state of a device, which may be switched on or off while the call is being joined. */
export interface Lender<T extends LocalTrack> {
  /** Takes the open track; undefined if the device is not wanted or not open. */
  take: () => T | undefined;
  /** Whether the person wants to use the device in the call and no problem with it is known. */
  isWanted: () => boolean;
}

export async function enterRoom(entry: Entry): Promise<Room> {
  const page = document.baseURI;
  const { serverUrl, participantToken } = await TokenSource.endpoint(tokenEndpoint(page)).fetch(
    { roomName: entry.roomName, participantName: entry.name, participantIdentity: newIdentity(entry.name) },
    // Forces a new token. The source would otherwise return the token of an earlier attempt, with its identity.
    true,
  );
  const server = serverAddress(page, serverUrl);
  const room = new Room({
    // Requests video by physical pixels, not by CSS pixels.
    adaptiveStream: { pixelDensity: 'screen' },
    dynacast: true,
    videoCaptureDefaults: { resolution: VideoPresets.h720.resolution, ...chosen(entry.cameraId) },
    audioCaptureDefaults: chosen(entry.microphoneId),
    publishDefaults: {
      videoCodec: entry.codec,
      simulcast: true,
      screenShareEncoding: ScreenSharePresets.h1080fps15.encoding,
    },
    ...(entry.speakerId ? { audioOutput: { deviceId: entry.speakerId } } : {}),
  });
  try {
    await withinTime(room.connect(server, participantToken)).catch(async (error: unknown) => {
      throw (await refusalOf(server, participantToken, error)) ?? error;
    });
    const may = allowed(room.localParticipant.permissions);
    const publish = (track: LocalTrack | undefined) => track && room.localParticipant.publishTrack(track);
    await withinTime(
      Promise.all([may.microphone && publish(entry.microphone.take()), may.camera && publish(entry.camera.take())]),
    );
  } catch (error) {
    // The tracks are not stopped: they belong to the preview again, which still shows them.
    await room.disconnect(false);
    throw error;
  }
  return room;
}

/** Asks the server why it refused the connection, because a browser does not report why a WebSocket failed. */
async function refusalOf(server: string, token: string, error: unknown): Promise<JoinRefused | undefined> {
  if (!(error instanceof ConnectionError)) return undefined;
  try {
    const answer = await fetch(validateAddress(server, token), { signal: AbortSignal.timeout(LONGEST_QUESTION_MS) });
    return answer.ok ? undefined : new JoinRefused(answer.status, await answer.text());
  } catch {
    return undefined;
  }
}

async function withinTime<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new JoinTimeout()), LONGEST_WAIT_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Constraint for a device. `ideal`, not `exact`: if a stored device is unplugged, the default one is used. */
export function chosen(deviceId: string) {
  return deviceId ? { deviceId: { ideal: deviceId } } : {};
}

// A new identity for each join, so that two tabs of one person are two participants. If a duplicated tab kept the
// identity, it would end the call of the first tab.
function newIdentity(name: string): string {
  const readable = name
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 40);
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return `${readable || 'guest'}-${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

/** Maximum wait for connecting and for publishing, because the client library retries some failures without end. */
const LONGEST_WAIT_MS = 20_000;
const LONGEST_QUESTION_MS = 5_000;
