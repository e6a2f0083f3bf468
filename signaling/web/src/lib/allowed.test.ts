import { expect, test } from 'vitest';
import { allowed, newsOf, refusal } from './allowed';

const all = { microphone: true, camera: true, screen: true };
const none = { microphone: false, camera: false, screen: false };

test.each([
  ['everything', { canPublish: true, canPublishSources: [] }, all],
  ['nothing', { canPublish: false, canPublishSources: [] }, none],
  ['nothing, whatever sources are named', { canPublish: false, canPublishSources: [1, 2] }, none],
  ['sound only', { canPublish: true, canPublishSources: [2] }, { ...none, microphone: true }],
  ['camera and screen', { canPublish: true, canPublishSources: [1, 3, 4] }, { ...all, microphone: false }],
  ['nothing known', undefined, none],
])('a token that allows %s', (_, permission, expected) => {
  expect(allowed(permission)).toEqual(expected);
});

test('what is not allowed is said in words', () => {
  expect(refusal('camera', none)).toMatch(/watch and listen/);
  expect(refusal('camera', { ...all, camera: false })).toMatch(/your camera/);
  expect(refusal('screen', { ...all, screen: false })).toMatch(/share a screen/);
});

test('only what is unusual, or changes, is told', () => {
  expect(newsOf(undefined, all)).toBeUndefined();
  expect(newsOf(all, all)).toBeUndefined();
  expect(newsOf(undefined, none)).toMatch(/watch and listen/);
  expect(newsOf(undefined, { ...all, camera: false })).toBe('You may not use your camera in this call.');
  expect(newsOf(all, { ...none, microphone: true })).toBe('You may not use your camera or share a screen in this call.');
  expect(newsOf(none, all)).toBe('You may now use your microphone, use your camera and share a screen.');
});
