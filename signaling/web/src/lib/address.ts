// The room is part of the address, so that the address is the invitation.

import type { VideoCodec } from 'livekit-client';

export function roomFromAddress(search: string): string {
  return cleanRoom(new URLSearchParams(search).get('room') ?? '');
}

export function inviteLink(origin: string, room: string): string {
  return `${origin}/?room=${encodeURIComponent(room)}`;
}

export function codecFromAddress(search: string): VideoCodec {
  const asked = new URLSearchParams(search).get('codec')?.toLowerCase();
  return CODECS.find((codec) => codec === asked) ?? 'vp8';
}

/** The address of the call, every other parameter kept. */
export function addressOfRoom(search: string, room: string): string {
  const parameters = new URLSearchParams(search);
  parameters.set('room', room);
  return `?${parameters.toString()}`;
}

/** What a person types or pastes, within what the server takes as a room name. */
export function cleanRoom(input: string): string {
  return input.trim().replace(/\s+/g, '-').slice(0, LONGEST_ROOM);
}

/** A name nobody else is likely to choose: 24 x 24 x 900 of them. */
export function newRoom(random: () => number = Math.random): string {
  const pick = (words: readonly string[]) => words[Math.floor(random() * words.length)] ?? '';
  return `${pick(MOODS)}-${pick(PLACES)}-${100 + Math.floor(random() * 900)}`;
}

const CODECS: readonly VideoCodec[] = ['vp8', 'vp9', 'h264', 'av1'];
const LONGEST_ROOM = 128;
const MOODS =
  'amber brisk bright calm clear coral early easy fair gentle golden green kind late lively lucky merry mild noble open quiet ready sunny warm'.split(' ');
const PLACES =
  'alley bay bridge brook cabin cove dune field garden grove harbor hill island lake lane meadow mill orchard park porch ridge shore terrace valley'.split(' ');
