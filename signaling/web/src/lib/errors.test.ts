import { ConnectionError, DisconnectReason, NegotiationError, PublishTrackError } from 'livekit-client';
import { describe, expect, test } from 'vitest';
import { deviceProblem, endProblem, joinProblem, JoinRefused, JoinTimeout } from './errors';

describe('a device that does not open', () => {
  test.each([
    ['camera', 'NotAllowedError', 'Camera not allowed'],
    ['microphone', 'NotAllowedError', 'Microphone not allowed'],
    ['screen', 'NotAllowedError', 'Screen sharing was not allowed'],
    ['camera', 'NotFoundError', 'No camera found'],
    ['microphone', 'OverconstrainedError', 'No microphone found'],
    ['camera', 'NotReadableError', 'Camera is busy'],
    ['camera', 'SomethingNew', 'Camera did not start'],
  ] as const)('%s with %s', (device, name, title) => {
    const error = Object.assign(new Error('why'), { name });
    expect(deviceProblem(device, error)).toMatchObject({ kind: 'device', title });
  });

  test.each([
    [new PublishTrackError('failed to publish track, insufficient permissions', 403), /not allowed/],
    [new PublishTrackError('publishing rejected as engine not connected within timeout', 408), /did not take it/],
    [new NegotiationError('negotiation timed out'), /did not take it/],
  ])('%s comes from the call', (error, detail) => {
    const told = deviceProblem('camera', error);
    expect(told.title).toBe('Camera did not get into the call');
    expect(told.detail).toMatch(detail);
  });

  test('an address without https has no devices at all', () => {
    const error = new TypeError("Cannot read properties of undefined (reading 'getUserMedia')");
    expect(deviceProblem('camera', error).detail).toMatch(/https/);
  });
});

describe('a call that cannot be joined', () => {
  const endpoint = (status: number, body = '') =>
    new Error(`Error generating token from endpoint /v1/token: received ${status} / ${body}`);

  test.each([
    ['the endpoint refuses', endpoint(401), 'refused'],
    ['the endpoint forbids', endpoint(403), 'refused'],
    ['the endpoint is broken', endpoint(500), 'unreachable'],
    ['the endpoint is behind a proxy without a server', endpoint(502), 'unreachable'],
    ['the service has no place', endpoint(503), 'busy'],
    ['who may come in cannot be asked', endpoint(503, '{"error":{"code":"identity_provider_unavailable","message":"no answer"}}'), 'busy'],
    ['the join is refused for want of a place', new JoinRefused(503, 'the directory of rooms does not answer'), 'busy'],
    ['the join is refused since the room is full', new JoinRefused(429, 'the room is full'), 'room-full'],
    ['the join is refused for haste', new JoinRefused(429, 'too many requests'), 'busy'],
    ['the join is refused by name', new JoinRefused(401, 'the token has expired'), 'refused'],
    ['nobody has opened the room', new JoinRefused(404, 'requested room does not exist'), 'closed'],
    ['nobody has opened the room, as the client tells it', ConnectionError.notAllowed('requested room does not exist', 404), 'closed'],
    ['the network is gone', new TypeError('Failed to fetch'), 'unreachable'],
    ['the server is silent', new JoinTimeout(), 'unreachable'],
    ['the token is not valid', ConnectionError.notAllowed('invalid token', 401), 'refused'],
    ['nobody listens', ConnectionError.serverUnreachable('Failed to fetch'), 'unreachable'],
    ['media cannot pass', ConnectionError.timeout('peer connection'), 'unreachable'],
    ['the room is full', ConnectionError.internal('room is full'), 'room-full'],
    ['somebody else has the identity', ConnectionError.leaveRequest('left', DisconnectReason.DUPLICATE_IDENTITY), 'replaced'],
    ['anything else', new Error('odd'), 'other'],
    ['not even an error', 'odd', 'other'],
  ])('%s', (_, error, kind) => {
    expect(joinProblem(error).kind).toBe(kind);
  });

  test('a bad request tells what the server said', () => {
    const detail = (body: string) => joinProblem(endpoint(400, body)).detail;
    expect(detail('{"error":{"code":"no_room","message":"say which room","field":"room_name"}}')).toBe('Say which room.');
    expect(detail('{"error":{"code":"too_long","message":"participant_name is 300 bytes long, the limit is 256","field":"participant_name"}}')).toBe('Your name is too long.');
    expect(detail('room_name is odd')).toBe('room_name is odd.');
    // Bodies that are not for people: a proxy's HTML page, JSON of another server, an empty body.
    for (const body of ['<html><body>Bad Request</body></html>', '{"detail":[{"loc":["body"]}]}', '{"error":{"message":7}}', '']) {
      expect(detail(body)).toBe('Check the room and your name.');
    }
  });

  test.each([
    ['a busy service', endpoint(503, '{"error":{"code":"overloaded","message":"x"}}')],
    ['an unknown error', new Error('cannot read x_y of <undefined>')],
    ['an error inside the client', ConnectionError.internal('Encountered unknown websocket error: {}')],
    ['a server without identity provider', endpoint(503, '{"error":{"code":"no_identity_provider","message":"identity_provider.issuer"}}')],
  ])('%s is told in words', (_, error) => {
    const { title, detail } = joinProblem(error);
    expect(`${title} ${detail}`).not.toMatch(/[{}_<>]/);
    expect(detail).toMatch(/\.$/);
  });
});

describe('a call that ended', () => {
  test('leaving is not a problem', () => {
    expect(endProblem(DisconnectReason.CLIENT_INITIATED)).toBeUndefined();
  });

  test.each([
    [DisconnectReason.DUPLICATE_IDENTITY, 'replaced'],
    [DisconnectReason.PARTICIPANT_REMOVED, 'removed'],
    [DisconnectReason.ROOM_DELETED, 'closed'],
    [DisconnectReason.SERVER_SHUTDOWN, 'lost'],
    [DisconnectReason.JOIN_FAILURE, 'lost'],
    [DisconnectReason.MEDIA_FAILURE, 'lost'],
    [undefined, 'lost'],
  ])('reason %s', (reason, kind) => {
    expect(endProblem(reason)?.kind).toBe(kind);
  });
});
