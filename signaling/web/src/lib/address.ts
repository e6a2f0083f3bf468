// The room is part of the address, so that the address is the invitation. The page may be served below a path.

import type { VideoCodec } from 'livekit-client';

export function roomFromAddress(search: string): string {
  return cleanRoom(new URLSearchParams(search).get('room') ?? '');
}

/** `page` is the address of the page, whatever room it is in. */
export function inviteLink(page: string, room: string): string {
  const link = new URL('.', page);
  link.search = `?room=${encodeURIComponent(room)}`;
  return link.href;
}

/** Where the page's server gives out tokens. */
export function tokenEndpoint(page: string): string {
  return new URL('v1/token', page).href;
}

/**
 * What to connect to, by what the server says of itself. It does not see the path and the scheme that a proxy in front of
 * it adds: of the page's own host the page knows better, for it was just reached there.
 */
export function serverAddress(page: string, told: string): string {
  const base = new URL('.', page);
  const server = new URL(told);
  if (server.host !== base.host || server.pathname !== '/') return told;
  base.protocol = base.protocol === 'https:' ? 'wss:' : 'ws:';
  return base.href.replace(/\/$/, '');
}

/** Where the server says whether a token is let in: a failed WebSocket does not tell a page why. */
export function validateAddress(server: string, token: string): string {
  const url = new URL(server.replace(/^ws/, 'http'));
  url.pathname = `${url.pathname.replace(/\/$/, '')}/rtc/validate`;
  url.searchParams.set('access_token', token);
  return url.href;
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
