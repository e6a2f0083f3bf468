// Authentication. Every invalid token is refused with an HTTP status before the WebSocket upgrade, at every endpoint.

import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { ClientInfo, ConnectionSettings, JoinRequest, WrappedJoinRequest } from '@livekit/protocol';
import { decodeJwt } from 'jose';
import { TokenSource } from 'livekit-client';
import { startFront } from './harness/front.mjs';
import { progress, TEST_MS } from './harness/limits.mjs';
import { API_KEY, API_SECRET, FOREIGN, startServer } from './harness/server.mjs';

const options = { timeout: TEST_MS };
const NOW = Math.floor(Date.now() / 1000);
/** The protocol allows a leeway of 60 s. A token that is this far outside its validity is invalid by any clock. */
const FAR = 3_600;
let server, front;

before(async () => {
  server = await startServer();
  front = FOREIGN ? await startFront(server) : server;
}, options);

after(async () => {
  if (front !== server) await front?.stop();
  await server?.stop();
}, options);

const JOIN_REQUEST = Buffer.from(
  new WrappedJoinRequest({
    joinRequest: new JoinRequest({
      clientInfo: new ClientInfo({ protocol: 17, sdk: 1 }),
      connectionSettings: new ConnectionSettings({ autoSubscribe: true }),
    }).toBinary(),
  }).toBinary(),
).toString('base64url');

const DOORS = [
  { path: '/rtc/v1', query: `&join_request=${JOIN_REQUEST}`, upgrade: true },
  { path: '/rtc/v1/validate', query: `&join_request=${JOIN_REQUEST}`, upgrade: false },
  { path: '/rtc', query: '&sdk=js&protocol=16&version=2.0.0&auto_subscribe=1', upgrade: true },
  { path: '/rtc/validate', query: '&sdk=js&protocol=16&version=2.0.0&auto_subscribe=1', upgrade: false },
];

test('a good token opens every door', options, async () => {
  for (const door of DOORS) {
    for (const header of [false, true]) {
      const status = await knock(door, token(), header);
      assert.equal(status, door.upgrade ? 101 : 200, `${door.path}, ${header ? 'header' : 'query'}`);
    }
  }
});

test('every bad token is refused before the upgrade', options, async () => {
  const bad = [...badTokens()];
  assert.ok(bad.length >= 250, `there are ${bad.length} bad tokens`);
  assert.equal(new Set(bad.map(([, value]) => value)).size, bad.length, 'no two of them are the same');
  progress(`${bad.length} bad tokens at ${DOORS.length} doors`);
  const wrong = [];
  for (const door of DOORS) {
    for (const [what, value, expected = 401] of bad) {
      const status = await knock(door, value, false).catch((error) => error.code ?? error.message);
      if (status !== expected) wrong.push(`${door.path}: ${what}: ${status}, not ${expected}`);
    }
    // The header can also carry the token, and takes precedence over the query.
    for (const [what, value, expected = 401] of bad.filter(([, each]) => /^[\x21-\x7e]*$/.test(each)).slice(0, 60)) {
      const status = await knock(door, value, true).catch((error) => error.code ?? error.message);
      if (status !== expected) wrong.push(`${door.path}: header: ${what}: ${status}, not ${expected}`);
    }
  }
  assert.deepEqual(wrong.slice(0, 40), [], `${wrong.length} tokens were answered otherwise`);
});

test('the server is well after all this', options, async () => {
  assert.equal(await knock(DOORS[0], token(), false), 101);
});

test('the token endpoint works with the published client', options, async () => {
  const source = TokenSource.endpoint(`${front.http}/v1/token`);
  const { serverUrl, participantToken } = await source.fetch({
    roomName: 'token-room',
    participantName: 'Ada L.',
    participantIdentity: 'ada',
  });
  assert.match(serverUrl, /^wss?:\/\//);
  const claims = decodeJwt(participantToken);
  assert.equal(claims.sub, 'ada');
  assert.equal(claims.name, 'Ada L.');
  assert.equal(claims.video.room, 'token-room');
  assert.equal(claims.video.roomJoin, true);
  assert.equal(await knock(DOORS[0], participantToken, false), 101);
});

test('the token endpoint carries metadata and attributes', { ...options, skip: FOREIGN && 'the stand-in endpoint knows names only' }, async () => {
  const { participantToken } = await TokenSource.endpoint(`${front.http}/v1/token`).fetch({
    roomName: 'token-room',
    participantIdentity: 'ben',
    participantMetadata: '{"seat":4}',
    participantAttributes: { team: 'blue' },
  });
  const claims = decodeJwt(participantToken);
  assert.equal(claims.metadata, '{"seat":4}');
  assert.deepEqual(claims.attributes, { team: 'blue' });
});

/** HTTP status of the answer; 101 for an upgrade. */
function knock(door, value, inHeader) {
  const { hostname, port } = new URL(server.http);
  const query = inHeader ? `?x=1${door.query}` : `?access_token=${encodeURIComponent(value)}${door.query}`;
  const headers = inHeader ? { authorization: `Bearer ${value}` } : {};
  if (door.upgrade) {
    Object.assign(headers, {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    });
  }
  return new Promise((resolve, reject) => {
    const asked = request({ host: hostname, port, path: door.path + query, headers, timeout: 10_000 });
    asked.on('response', (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asked.on('upgrade', (_, socket) => {
      socket.destroy();
      resolve(101);
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer within 10 s')));
    asked.on('error', reject);
    asked.end();
  });
}

function claims(change = {}) {
  const all = {
    iss: API_KEY,
    sub: 'mallory',
    nbf: NOW - 10,
    exp: NOW + 600,
    video: { roomJoin: true, room: 'token-room' },
    ...change,
  };
  // A claim with the value `undefined` is removed.
  return JSON.parse(JSON.stringify(all));
}

function part(value) {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

function token(payload = claims(), header = {}, { secret = API_SECRET, hash = 'sha256' } = {}) {
  const body = `${part({ alg: 'HS256', typ: 'JWT', ...header })}.${part(payload)}`;
  return `${body}.${createHmac(hash, secret).update(body).digest('base64url')}`;
}

/** Yields `[what, token, expected status]`; the status is 401 if absent. */
function* badTokens() {
  const good = token();
  const [head, payload, signature] = good.split('.');

  // Not signed with the secret of the named key.
  for (const secret of ['', 'Secret', 'secret ', ' secret', 'secre', 'secrets', 'devkey', 'x'.repeat(32), 'x'.repeat(4096)]) {
    yield [`signed with ${JSON.stringify(secret.slice(0, 12))}`, token(claims(), {}, { secret })];
  }
  for (const iss of [undefined, null, '', 'DEVKEY', 'devkey ', 'devkey\0', 'unknown', 7, ['devkey'], { key: 'devkey' }, '../devkey', '*']) {
    yield [`issuer ${JSON.stringify(iss)}`, token(claims({ iss }))];
  }
  yield ['key id in the header instead of the issuer', token(claims({ iss: undefined }), { kid: API_KEY })];

  // Other algorithms, with any signature.
  for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null, 0, 'hs256', 'HS256 ', 'HS512256', 'EdDSA', 'RS256', 'PS256', 'ES256', 'dir', 'A128KW']) {
    yield [`alg ${JSON.stringify(alg)} with the right MAC`, token(claims(), { alg })];
    const body = `${part({ alg, typ: 'JWT' })}.${payload}`;
    yield [`alg ${JSON.stringify(alg)} without a signature`, `${body}.`];
    yield [`alg ${JSON.stringify(alg)} with a foreign signature`, `${body}.${signature}`];
  }
  for (const [alg, hash] of [['HS384', 'sha384'], ['HS512', 'sha512']]) {
    yield [`properly signed ${alg}`, token(claims(), { alg }, { hash })];
  }
  for (const [alg, hash] of [['HS256', 'sha384'], ['HS256', 'sha512'], ['HS256', 'sha1'], ['HS256', 'md5']]) {
    yield [`${alg} signed by HMAC-${hash}`, token(claims(), { alg }, { hash })];
  }
  yield* foreignKeys();

  // Outside the validity period.
  for (const exp of [0, 1, -1, NOW - FAR, NOW - 2 * FAR, NOW - 86_400, 1e-9, -1e300]) {
    yield [`expired at ${exp}`, token(claims({ exp, nbf: undefined }))];
  }
  for (const exp of [undefined, null, '', 'never', String(NOW + 600), true, [], {}, [NOW + 600]]) {
    yield [`exp ${JSON.stringify(exp)}`, token(claims({ exp }))];
  }
  for (const nbf of [NOW + FAR, NOW + 2 * FAR, NOW + 86_400 * 365, 9e15]) {
    yield [`valid only from ${nbf}`, token(claims({ nbf, exp: nbf + 600 }))];
  }
  for (const nbf of ['soon', {}, [], true, String(NOW)]) yield [`nbf ${JSON.stringify(nbf)}`, token(claims({ nbf }))];

  // Truncated, extended and mixed tokens.
  for (let length = 0; length < good.length; length += 5) yield [`cut to ${length} bytes`, good.slice(0, length)];
  for (const [what, value] of [
    ['no signature', `${head}.${payload}`],
    ['empty signature', `${head}.${payload}.`],
    ['empty payload', `${head}..${signature}`],
    ['empty header', `.${payload}.${signature}`],
    ['dots only', '..'],
    ['one dot', '.'],
    ['four parts', `${good}.${signature}`],
    ['five parts, like an encrypted token', `${head}.${payload}.${signature}.${payload}.${signature}`],
    ['leading dot', `.${good}`],
    ['trailing dot', `${good}.`],
    ['a space inside', `${head}. ${payload}.${signature}`],
    ['a null byte inside', `${head}.${payload}\0.${signature}`],
    ['a line break inside', `${head}.${payload}.\n${signature}`],
    ['not base64', '!!!.???.***'],
    ['text', 'let me in'],
    ['"Bearer" in the query', `Bearer ${good}x`],
    ['a very long one', 'a'.repeat(8_000)],
    ['many dots', '.'.repeat(2_000)],
    ['other letters', 'ключ.токен.подпись'],
    ['header and payload swapped', `${payload}.${head}.${signature}`],
    ['payload of another token', `${head}.${part(claims({ sub: 'admin' }))}.${signature}`],
    ['header of another token', `${part({ typ: 'JWT', alg: 'HS256' })}.${payload}.${signature}`],
    ['signature in upper case', `${head}.${payload}.${signature.toUpperCase()}`],
    ['signature in hexadecimal', `${head}.${payload}.${Buffer.from(signature, 'base64url').toString('hex')}`],
    ['signature twice', `${head}.${payload}.${signature}${signature}`],
    ['signature of zeros', `${head}.${payload}.${Buffer.alloc(32).toString('base64url')}`],
  ]) {
    yield [what, value];
  }
  for (let i = 0; i < 32; i += 1) {
    const mac = Buffer.from(signature, 'base64url');
    mac[i] ^= 1 << (i % 8);
    yield [`signature with byte ${i} changed`, `${head}.${payload}.${mac.toString('base64url')}`];
  }
  for (let i = 0; i < payload.length; i += 12) {
    const other = payload[i] === 'A' ? 'B' : 'A';
    yield [`payload with letter ${i} changed`, `${head}.${payload.slice(0, i)}${other}${payload.slice(i + 1)}.${signature}`];
  }

  // Correctly signed payloads that are not a valid set of claims.
  for (const body of ['', '{', 'null', 'true', '42', '"text"', '[]', '{}', '{"video":', '[{"video":{"roomJoin":true}}]', '\ufeff{}', '{"a":1}{"b":2}']) {
    const raw = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(body)}`;
    yield [`payload ${JSON.stringify(body)}`, `${raw}.${createHmac('sha256', API_SECRET).update(raw).digest('base64url')}`];
  }
  for (const raw of ['', '{', 'null', '[]', '"HS256"', '{"typ":"JWT"}', '{"alg":"HS256"']) {
    const body = `${part(raw)}.${payload}`;
    yield [`header ${JSON.stringify(raw)}`, `${body}.${createHmac('sha256', API_SECRET).update(body).digest('base64url')}`];
  }

  // A critical header (`crit`) that the verifier does not understand must lead to refusal.
  for (const crit of [['exp'], ['b64'], ['x-policy'], [], 'exp', ['alg'], null, 1]) {
    yield [`crit ${JSON.stringify(crit)}`, token(claims(), { crit, b64: true, exp: NOW + 600, 'x-policy': 1 })];
  }
  yield ['an unencoded payload', token(claims(), { b64: false, crit: ['b64'] })];

  // Grants that do not allow joining.
  for (const video of [
    undefined,
    null,
    {},
    [],
    'roomJoin',
    true,
    { room: 'token-room' },
    { roomJoin: false, room: 'token-room' },
    { roomJoin: null, room: 'token-room' },
    { roomJoin: 'true', room: 'token-room' },
    { roomJoin: 1, room: 'token-room' },
    { roomCreate: true, room: 'token-room' },
    { roomAdmin: true, room: 'token-room' },
    { roomList: true },
    { ingressAdmin: true, room: 'token-room' },
    { agent: true, room: 'token-room' },
    { recorder: true, room: 'token-room' },
    // Claim names are case-sensitive: matching them without case accepts tokens that another verifier refuses.
    { RoomJoin: true, room: 'token-room' },
    { ROOMJOIN: true, room: 'token-room' },
    { roomjoin: true, room: 'token-room' },
    { room_join: true, room: 'token-room' },
    { roomJoin: false, RoomJoin: true, room: 'token-room' },
    { 'roomJoin ': true, room: 'token-room' },
    { roomJoin: true, room: 7 },
    { roomJoin: true, room: ['token-room'] },
    { roomJoin: true, room: { name: 'token-room' } },
  ]) {
    yield [`grant ${JSON.stringify(video)}`, token(claims({ video }))];
  }
  for (const name of ['Video', 'VIDEO', 'videos', 'grant', 'grants']) {
    yield [`grant under "${name}"`, token(claims({ video: undefined, [name]: { roomJoin: true, room: 'token-room' } }))];
  }
  for (const sub of [7, true, ['mallory'], { id: 'mallory' }]) yield [`subject ${JSON.stringify(sub)}`, token(claims({ sub }))];
  for (const name of ['ISS', 'Iss']) yield [`issuer under "${name}"`, token(claims({ iss: undefined, [name]: API_KEY }))];
  for (const name of ['EXP', 'Exp', 'expires']) yield [`expiry under "${name}"`, token(claims({ exp: undefined, [name]: NOW + 600 }))];

  // Correctly signed and allowed to join, but without identity or room: the request is invalid, not the authorization.
  yield ['no identity', token(claims({ sub: undefined })), 400];
  yield ['empty identity', token(claims({ sub: '' })), 400];
  yield ['identity under "Sub"', token(claims({ sub: undefined, Sub: 'mallory' })), 400];
  yield ['no room', token(claims({ video: { roomJoin: true } })), 400];
  yield ['empty room', token(claims({ video: { roomJoin: true, room: '' } })), 400];
  yield ['room under "Room"', token(claims({ video: { roomJoin: true, Room: 'token-room' } })), 400];
}

/** Tokens signed with an attacker's key pairs, with the key itself included in the header. */
function* foreignKeys() {
  const kinds = [
    ['RS256', 'rsa', { modulusLength: 2048 }],
    ['ES256', 'ec', { namedCurve: 'P-256' }],
    ['EdDSA', 'ed25519', {}],
  ];
  for (const [alg, kind, parameters] of kinds) {
    const { publicKey, privateKey } = generateKeyPairSync(kind, parameters);
    const jwk = publicKey.export({ format: 'jwk' });
    const pem = publicKey.export({ format: 'pem', type: 'spki' });
    const signed = (header) => {
      const body = `${part({ alg, typ: 'JWT', ...header })}.${part(claims())}`;
      const how = alg === 'ES256' ? { key: privateKey, dsaEncoding: 'ieee-p1363' } : privateKey;
      return `${body}.${sign(alg === 'EdDSA' ? null : 'sha256', Buffer.from(body), how).toString('base64url')}`;
    };
    yield [`${alg} of a stranger`, signed({})];
    yield [`${alg} of a stranger who brings the key`, signed({ jwk })];
    yield [`${alg} of a stranger who names an address`, signed({ jku: 'http://127.0.0.1:9/keys', kid: 'k' })];
    yield [`HS256 with the ${alg} public key as the secret`, token(claims(), { jwk }, { secret: pem })];
    if (kind === 'rsa') yield ['HS256 with the key offered in the header', token(claims(), { jwk: { kty: 'oct', k: 'eA' } }, { secret: 'x' })];
  }
}
