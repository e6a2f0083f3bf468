// From a name and a room to a connected call.

import {
  Room,
  ScreenSharePresets,
  TokenSource,
  VideoPresets,
  type LocalAudioTrack,
  type LocalVideoTrack,
  type VideoCodec,
} from 'livekit-client';
import { JoinTimeout } from '../lib/errors';

export interface Entry {
  roomName: string;
  name: string;
  codec: VideoCodec;
  /** Tracks of the preview, handed over so that the devices need not be opened a second time. */
  camera: LocalVideoTrack | undefined;
  microphone: LocalAudioTrack | undefined;
  speakerId: string;
}

export async function enterRoom(entry: Entry): Promise<Room> {
  const { serverUrl, participantToken } = await tokens.fetch(
    { roomName: entry.roomName, participantName: entry.name, participantIdentity: newIdentity(entry.name) },
    // The source would hand out the token of an earlier attempt, with that attempt's identity.
    true,
  );
  const room = new Room({
    // Ask for the pixels that the screen has, not for those the layout counts in.
    adaptiveStream: { pixelDensity: 'screen' },
    dynacast: true,
    videoCaptureDefaults: { resolution: VideoPresets.h720.resolution },
    publishDefaults: {
      videoCodec: entry.codec,
      simulcast: true,
      screenShareEncoding: ScreenSharePresets.h1080fps15.encoding,
    },
    ...(entry.speakerId ? { audioOutput: { deviceId: entry.speakerId } } : {}),
  });
  try {
    await withinTime(room.connect(serverUrl, participantToken));
    await withinTime(
      Promise.all([
        entry.microphone && room.localParticipant.publishTrack(entry.microphone),
        entry.camera && room.localParticipant.publishTrack(entry.camera),
      ]),
    );
  } catch (error) {
    // The tracks belong to the preview again, which still shows them.
    await room.disconnect(false);
    throw error;
  }
  return room;
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

const tokens = TokenSource.endpoint('/v1/token');

/** The client keeps retrying some failures without end; a person does not. */
const LONGEST_WAIT_MS = 20_000;
