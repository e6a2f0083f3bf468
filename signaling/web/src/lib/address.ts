// URLs of the page. The room is part of the URL, so that the URL is the invitation. The page may be served below a
// path.

import type { VideoCodec } from 'livekit-client';

export function roomFromAddress(search: string): string {
  return cleanRoom(new URLSearchParams(search).get('room') ?? '');
}

/** Invitation URL for `room`. `page` is the URL of the page, in any room. */
export function inviteLink(page: string, room: string): string {
  const link = new URL('.', page);
  link.search = `?room=${encodeURIComponent(room)}`;
  return link.href;
}

/** URL of the token endpoint of the page's server. */
export function tokenEndpoint(page: string): string {
  return new URL('v1/token', page).href;
}

/**
 * URL to connect to, given the URL that the server reports. The server does not know the path and scheme that a proxy
 * in
 * front of it adds. So if the reported URL has the page's host and no path, the page's own path and scheme are used.
 */
export function serverAddress(page: string, told: string): string {
  const base = new URL('.', page);
  const server = new URL(told);
  if (server.host !== base.host || server.pathname !== '/') return told;
  base.protocol = base.protocol === 'https:' ? 'wss:' : 'ws:';
  return base.href.replace(/\/$/, '');
}

/** URL at which the server tells why it refuses a token, because a browser does not report why a WebSocket failed. */
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

/** Query string for the room; all other parameters are kept. */
export function addressOfRoom(search: string, room: string): string {
  const parameters = new URLSearchParams(search);
  parameters.set('room', room);
  return `?${parameters.toString()}`;
}

/** Turns typed or pasted text into a room name that the server accepts. */
export function cleanRoom(input: string): string {
  return input.trim().replace(/\s+/g, '-').slice(0, LONGEST_ROOM);
}

/** Random room name, one of 24 x 24 x 900, so that two calls are unlikely to share one. */
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
