import { expect, test } from 'vitest';
import { putBack } from './draft';

test.each([
  ['hello', '', 'hello'],
  ['hello', '  ', 'hello'],
  ['hello', 'and ', 'hello and '],
])('%j comes back before %j', (message, typed, field) => {
  expect(putBack(message, typed)).toBe(field);
});
