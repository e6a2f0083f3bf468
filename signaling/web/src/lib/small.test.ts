import { expect, test } from 'vitest';
import { addressOfRoom, cleanRoom, codecFromAddress, inviteLink, newRoom, roomFromAddress, serverAddress, tokenEndpoint, validateAddress } from './address';
import { clock, hueOf, initials, linkParts } from './people';

test('the invitation brings one to the same room', () => {
  for (const room of ['tea', 'a b', 'Grüße/50%', '会议']) {
    const link = inviteLink('https://call.example/?room=other&codec=av1#x', cleanRoom(room));
    expect(roomFromAddress(new URL(link).search)).toBe(cleanRoom(room));
    expect(link).toMatch(/^https:\/\/call\.example\/\?room=[^&]+$/);
  }
});

test('a page below a path stays there', () => {
  const page = 'https://chat.example/calls/?room=tea';
  expect(inviteLink(page, 'tea')).toBe('https://chat.example/calls/?room=tea');
  expect(inviteLink('https://chat.example/calls/index.html?room=tea', 'tea')).toBe('https://chat.example/calls/?room=tea');
  expect(tokenEndpoint(page)).toBe('https://chat.example/calls/v1/token');
});

test.each([
  ['the page, which knows the path', 'https://chat.example/calls/?room=tea', 'wss://chat.example', 'wss://chat.example/calls'],
  ['the page, which knows the scheme', 'https://chat.example/', 'ws://chat.example', 'wss://chat.example'],
  ['the page, with its port', 'http://127.0.0.1:8080/a/b/?room=tea', 'ws://127.0.0.1:8080', 'ws://127.0.0.1:8080/a/b'],
  ['another host', 'https://chat.example/calls/', 'wss://media.example', 'wss://media.example'],
  ['another port', 'http://127.0.0.1:8080/calls/', 'ws://127.0.0.1:7880', 'ws://127.0.0.1:7880'],
  ['a path of its own', 'https://chat.example/calls/', 'wss://chat.example/media', 'wss://chat.example/media'],
])('the server is reached at %s', (_, page, told, expected) => {
  expect(serverAddress(page, told)).toBe(expected);
});

test('why nobody comes in is asked at the server', () => {
  expect(validateAddress('wss://media.example', 'a.b')).toBe('https://media.example/rtc/validate?access_token=a.b');
  expect(validateAddress('ws://127.0.0.1:7880/calls/', 'a.b')).toBe('http://127.0.0.1:7880/calls/rtc/validate?access_token=a.b');
});

test('other parameters of the address stay', () => {
  expect(addressOfRoom('?codec=av1&room=old', 'new room')).toBe('?codec=av1&room=new+room');
});

test('only known codecs are taken from the address', () => {
  expect(['?codec=VP9', '?codec=av1', '?codec=flv', ''].map(codecFromAddress)).toEqual(['vp9', 'av1', 'vp8', 'vp8']);
});

test('a new room has a name that survives cleaning', () => {
  for (const value of [0, 0.5, 0.999]) {
    const room = newRoom(() => value);
    expect(room).toMatch(/^[a-z]+-[a-z]+-\d{3}$/);
    expect(cleanRoom(room)).toBe(room);
  }
});

test('initials of all kinds of names', () => {
  expect(['Ada Lovelace', 'ben', ' Élodie  de la Tour ', '李 小龙', ''].map(initials)).toEqual(['AL', 'B', 'ÉT', '李小', '?']);
});

test('a hue is stable and on the circle', () => {
  expect(hueOf('ada-1')).toBe(hueOf('ada-1'));
  for (const who of ['', 'ada', 'x'.repeat(300)]) expect(hueOf(who)).toBeLessThan(360);
});

test('the clock of a call', () => {
  expect([0, 59, 61, 3_599, 3_600, 36_061].map(clock)).toEqual(['0:00', '0:59', '1:01', '59:59', '1:00:00', '10:01:01']);
});

test('links are found and nothing else is', () => {
  expect(linkParts('see https://a.example/x?y=1, then (http://b.example).')).toEqual([
    { text: 'see ', link: false },
    { text: 'https://a.example/x?y=1', link: true },
    { text: ', then (', link: false },
    { text: 'http://b.example', link: true },
    { text: ').', link: false },
  ]);
  expect(linkParts('javascript:alert(1) <a href="x">')).toEqual([{ text: 'javascript:alert(1) <a href="x">', link: false }]);
  expect(linkParts('')).toEqual([]);
});
