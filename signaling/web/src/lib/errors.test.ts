import { ConnectionError, DisconnectReason } from 'livekit-client';
import { describe, expect, test } from 'vitest';
import { deviceProblem, endProblem, joinProblem, JoinTimeout } from './errors';

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
    ['the node has no place', endpoint(503), 'room-full'],
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
    expect(joinProblem(endpoint(400, 'room_name is too long')).detail).toBe('room_name is too long');
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
    [undefined, 'lost'],
  ])('reason %s', (reason, kind) => {
    expect(endProblem(reason)?.kind).toBe(kind);
  });
});
