// Messages for every failure that a person may encounter: what happened, and what to do about it.
// Nothing here uses the DOM: the functions turn an error into a `Problem`.

import { ConnectionError, ConnectionErrorReason, DisconnectReason, LivekitError, PublishTrackError } from 'livekit-client';

export interface Problem {
  kind:
    | 'device'
    | 'refused'
    | 'unreachable'
    | 'room-full'
    | 'busy'
    | 'replaced'
    | 'removed'
    | 'closed'
    | 'lost'
    | 'other';
  title: string;
  detail: string;
}

export type Device = 'camera' | 'microphone' | 'screen' | 'speaker';

/** The join timed out, because the server did not respond in time. */
export class JoinTimeout extends Error {
  override readonly name = 'JoinTimeout';
}

/** The server refused the join, with an HTTP status and usually a sentence for people. */
export class JoinRefused extends Error {
  override readonly name = 'JoinRefused';
  constructor(
    readonly status: number,
    readonly text: string,
  ) {
    super(text);
  }
}

export function deviceProblem(device: Device, error: unknown): Problem {
  const name = error instanceof Error ? error.name : '';
  const the = device === 'screen' ? 'the screen' : `the ${device}`;
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return device === 'screen'
        ? problem('device', 'Screen sharing was not allowed', 'Nothing is shared. Press the button again to choose what to share.')
        : problem(
            'device',
            `${sentence(device)} not allowed`,
            `Your browser blocks ${the} for this page. Allow it in the address bar and try again, or join without it.`,
          );
    case 'NotFoundError':
    case 'DevicesNotFoundError':
    case 'OverconstrainedError':
      return problem('device', `No ${device} found`, `Plug one in or choose another, or join without it.`);
    case 'NotReadableError':
    case 'TrackStartError':
    case 'AbortError':
      return problem('device', `${sentence(device)} is busy`, `Another program may be using ${the}. Close it and try again.`);
    case 'TypeError':
      return problem(
        'device',
        `${sentence(device)} is not available here`,
        'Browsers give access to it only on a secure (https) address.',
      );
    default:
      // A `LivekitError` comes from the call, not from the device: the browser did open the device.
      return error instanceof LivekitError
        ? problem('device', `${sentence(device)} did not get into the call`, notTaken(error))
        : problem('device', `${sentence(device)} did not start`, 'The browser could not open it. Choose another, or restart the browser.');
  }
}

function notTaken(error: LivekitError): string {
  return error instanceof PublishTrackError && error.status === 403 ? 'You are not allowed to use it here.' : 'The server did not take it. Try again in a moment.';
}

export function joinProblem(error: unknown): Problem {
  if (error instanceof JoinTimeout) {
    return problem('unreachable', 'The server does not answer', 'It took the call and then went silent. Try again in a moment.');
  }
  const { status, text } = answerOf(error);
  if (/room is full|max(imum)? participants|participant limit/i.test(text)) return roomFull();
  if (/room does not exist/i.test(text)) {
    return problem('closed', 'There is no such call', 'It is over, or nobody has opened it yet. Check the name of the room.');
  }
  if (status === 401 || status === 403) return refused();
  if (status === 503) return serviceBusy(text);
  if (status === 429) return problem('busy', 'Too many attempts', 'Wait a minute, then try again.');
  if (status === 400 || status === 413) {
    return problem('other', 'The server did not accept the request', said(text) ?? 'Check the room and your name.');
  }

  if (error instanceof ConnectionError) {
    switch (error.reason) {
      case ConnectionErrorReason.NotAllowed:
        return refused();
      case ConnectionErrorReason.ServerUnreachable:
      case ConnectionErrorReason.WebSocket:
        return unreachable();
      case ConnectionErrorReason.Timeout:
        return problem(
          'unreachable',
          'No media connection',
          'The server answers, but sound and picture cannot get through. A firewall may block UDP.',
        );
      case ConnectionErrorReason.LeaveRequest:
        return leaveProblem(error.context as DisconnectReason | undefined);
      case ConnectionErrorReason.ServiceNotFound:
        return problem('unreachable', 'No call service here', 'This address answers, but not as a call server.');
      default:
        return notJoined();
    }
  }
  // `fetch` reports every network failure as a TypeError, with a message that differs between browsers.
  if (error instanceof TypeError || (status !== undefined && status >= 500)) return unreachable();
  return notJoined();
}

/** Problem that ended an established call; undefined if the person left. */
export function endProblem(reason: DisconnectReason | undefined): Problem | undefined {
  return reason === DisconnectReason.CLIENT_INITIATED ? undefined : leaveProblem(reason);
}

function leaveProblem(reason: DisconnectReason | undefined): Problem {
  switch (reason) {
    case DisconnectReason.DUPLICATE_IDENTITY:
      return problem('replaced', 'You joined from somewhere else', 'This page left the call because the same person came in again.');
    case DisconnectReason.PARTICIPANT_REMOVED:
      return problem('removed', 'You were removed from the call', 'Somebody with the right to do so ended your visit.');
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return problem('closed', 'The call has ended', 'The room was closed for everyone.');
    case DisconnectReason.SERVER_SHUTDOWN:
      return problem('lost', 'The server is restarting', 'The call was cut off. Join again in a moment.');
    case DisconnectReason.JOIN_FAILURE:
      return problem('lost', 'The call could not be set up', 'Sound and picture did not connect in time. Try again.');
    case DisconnectReason.MEDIA_FAILURE:
      return problem('lost', 'Sound and picture were cut off', 'The server heard nothing from this page for a while. Check your network and join again.');
    default:
      return problem('lost', 'The connection was lost', 'We could not get back to the server. Check your network and join again.');
  }
}

function refused(): Problem {
  return problem('refused', 'The server did not let you in', 'Your invitation has expired or is not valid for this room. Ask for a new one.');
}

function roomFull(): Problem {
  return problem('room-full', 'The room is full', 'Wait until somebody leaves, or open another room.');
}

function unreachable(): Problem {
  return problem('unreachable', 'The server cannot be reached', 'It may be down, or your network is. Check the connection and try again.');
}

function problem(kind: Problem['kind'], title: string, detail: string): Problem {
  return { kind, title, detail };
}

function serviceBusy(text: string): Problem {
  if (fieldsOf(text).code === 'no_identity_provider') {
    return problem('other', 'Nobody can join from this page', 'The server is not set up to invite people here. Join from the chat app.');
  }
  return problem('busy', 'The service is busy', 'It cannot take you in right now. Try again in a minute.');
}

// A generic message, because internal error messages are for the console, not for people.
function notJoined(): Problem {
  return problem('other', 'The call could not be joined', 'Something went wrong on the way. Try again.');
}

/** Status and body of the server's response, if there was one; otherwise the error's message. */
function answerOf(error: unknown): { status: number | undefined; text: string } {
  if (error instanceof JoinRefused) return { status: error.status, text: error.text };
  const text = messageOf(error);
  if (error instanceof ConnectionError) return { status: typeof error.status === 'number' ? error.status : undefined, text };
  // The token source reports an error response only inside its message: "… received 401 / body".
  const found = /received (\d{3}) \/([\s\S]*)/.exec(text);
  return found ? { status: Number(found[1]), text: (found[2] ?? '').trim() } : { status: undefined, text };
}

/** Sentence for people from a response body. Our server's bodies are JSON; a proxy's may be anything. */
function said(body: string): string | undefined {
  const { code, field, message } = fieldsOf(body);
  const known = code === 'too_long' ? TOO_LONG[field ?? ''] : undefined;
  const text = (known ?? message ?? body).trim();
  // An HTML page of a proxy, or JSON that is not for people.
  if (!text || text.length > LONGEST_SENTENCE || /^[<{[]/.test(text)) return undefined;
  // A sentence that begins with a field name is not capitalized.
  const whole = /^\w*_/.test(text) ? text : sentence(text);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}

/** Fields of our server's error responses: `{"error":{"code":…,"message":…,"field":…}}`. */
function fieldsOf(body: string): Partial<Record<'code' | 'field' | 'message', string>> {
  try {
    const { error } = JSON.parse(body) as { error?: unknown };
    if (typeof error !== 'object' || error === null) return {};
    const texts = Object.entries(error as Record<string, unknown>).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
    return Object.fromEntries(texts);
  } catch {
    return {};
  }
}

const TOO_LONG: Readonly<Record<string, string>> = {
  participant_name: 'Your name is too long.',
  name: 'Your name is too long.',
  room_name: 'The name of the room is too long.',
  room: 'The name of the room is too long.',
};
const LONGEST_SENTENCE = 300;

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function sentence(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
