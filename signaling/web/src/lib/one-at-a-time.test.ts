import { expect, test } from 'vitest';
import { oneAtATime } from './one-at-a-time';

function work() {
  let finish: () => void = () => undefined;
  let fail: (error: Error) => void = () => undefined;
  const done = new Promise<void>((resolve, reject) => {
    finish = resolve;
    fail = reject;
  });
  return { done, finish, fail };
}

test('a slow camera holds up no microphone, and is not switched twice', async () => {
  const seen: string[][] = [];
  const run = oneAtATime<string>((busy) => seen.push([...busy]));
  const [camera, microphone] = [work(), work()];
  let begun = 0;
  const counted = (one: Promise<void>) => () => {
    begun += 1;
    return one;
  };
  const first = run('camera', counted(camera.done));
  const again = run('camera', counted(camera.done));
  const other = run('microphone', counted(microphone.done));
  expect(begun).toBe(2);
  microphone.finish();
  await Promise.all([again, other]);
  camera.finish();
  await first;
  expect(seen).toEqual([['camera'], ['camera', 'microphone'], ['camera'], []]);
});

test('what fails is no longer busy', async () => {
  const seen: number[] = [];
  const run = oneAtATime<string>((busy) => seen.push(busy.size));
  const camera = work();
  const first = run('camera', () => camera.done);
  camera.fail(new Error('no camera'));
  await expect(first).rejects.toThrow('no camera');
  expect(seen).toEqual([1, 0]);
});
