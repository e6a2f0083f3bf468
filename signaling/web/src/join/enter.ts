// From a name and a room to a connected call.

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
  /** The devices of the preview, lent so that they need not be opened a second time. */
  camera: Lender<LocalVideoTrack>;
  microphone: Lender<LocalAudioTrack>;
  cameraId: string;
  microphoneId: string;
  speakerId: string;
}

/** A device as it is at the moment: joining takes a while, and it may be switched meanwhile. */
export interface Lender<T extends LocalTrack> {
  /** The open track, if the device is wanted. */
  take: () => T | undefined;
  /** Whether the person wants to be in the call with it, and nothing is known that speaks against it. */
  isWanted: () => boolean;
}

export async function enterRoom(entry: Entry): Promise<Room> {
  const page = document.baseURI;
  const { serverUrl, participantToken } = await TokenSource.endpoint(tokenEndpoint(page)).fetch(
    { roomName: entry.roomName, participantName: entry.name, participantIdentity: newIdentity(entry.name) },
    // The source would hand out the token of an earlier attempt, with that attempt's identity.
    true,
  );
  const server = serverAddress(page, serverUrl);
  const room = new Room({
    // Ask for the pixels that the screen has, not for those the layout counts in.
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
    // The tracks belong to the preview again, which still shows them.
    await room.disconnect(false);
    throw error;
  }
  return room;
}

/** A browser does not tell a page why a WebSocket failed. The server does, if it is asked. */
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

/** `ideal`, not `exact`: a remembered device that is no longer plugged in must not keep the default one closed. */
export function chosen(deviceId: string) {
  return deviceId ? { deviceId: { ideal: deviceId } } : {};
}

// Two tabs of one person are two participants: an identity that survived a copied tab would end the first one's call.
function newIdentity(name: string): string {
  const readable = name
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 40);
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return `${readable || 'guest'}-${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

/** The client keeps retrying some failures without end; a person does not. */
const LONGEST_WAIT_MS = 20_000;
const LONGEST_QUESTION_MS = 5_000;
