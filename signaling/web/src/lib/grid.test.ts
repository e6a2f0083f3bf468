import { describe, expect, test } from 'vitest';
import { placeGrid, placeSpeaker, type Box, type Rect } from './grid';

const DESK = { width: 1248, height: 620 };
const PHONE = { width: 336, height: 620 };
const OPTIONS = { gap: 10, minTileWidth: 150 };

describe('the grid', () => {
  test.each([
    [1, DESK, 1],
    [2, DESK, 2],
    [4, DESK, 2],
    [9, DESK, 3],
    [2, PHONE, 1],
    [3, PHONE, 1],
    [6, PHONE, 2],
  ])('%i people in %o stand in %i columns', (people, box, columns) => {
    const { rects } = placeGrid(people, 0, box, OPTIONS);
    expect(rects).toHaveLength(people);
    expect(new Set(rects.slice(0, columns).map((rect) => rect.top)).size).toBe(1);
    if (people > columns) expect(rects[columns]?.top).toBeGreaterThan(rects[0]?.top ?? 0);
  });

  test('never leaves the box, never overlaps, whatever the number', () => {
    for (const box of [DESK, PHONE, { width: 700, height: 300 }, { width: 320, height: 200 }]) {
      for (let people = 1; people <= 60; people += 1) {
        const { rects } = placeGrid(people, 0, box, OPTIONS);
        for (const rect of rects) expectInside(rect, box);
        expectApart(rects);
      }
    }
  });

  test('a last row that is not full stands in the middle', () => {
    const { rects } = placeGrid(3, 0, { width: 1000, height: 600 }, OPTIONS);
    const last = rects[2] as Rect;
    expect(Math.abs(last.left + last.width / 2 - 500)).toBeLessThanOrEqual(1);
  });

  test('more than fit are spread evenly over pages', () => {
    const { pages, perPage } = placeGrid(26, 0, DESK, OPTIONS);
    expect([pages, perPage]).toEqual([2, 13]);
    expect(placeGrid(27, 1, DESK, OPTIONS).rects).toHaveLength(13);
    expect(placeGrid(27, 9, DESK, OPTIONS).rects).toHaveLength(13);
  });

  test('a box without size yields tiles without size', () => {
    expect(placeGrid(3, 0, { width: 0, height: 0 }, OPTIONS).rects.every((rect) => rect.width === 0)).toBe(true);
  });
});

describe('the speaker view', () => {
  test('somebody alone has all the room', () => {
    expect(placeSpeaker(0, 0, DESK, 10).rects).toEqual([{ left: 0, top: 0, ...DESK }]);
  });

  test('the strip is beside the picture on a desk and below it on a phone', () => {
    const [main, first] = placeSpeaker(2, 0, DESK, 10).rects as [Rect, Rect];
    expect(first.left).toBe(main.width + 10);
    const [mainBelow, firstBelow] = placeSpeaker(2, 0, PHONE, 10).rects as [Rect, Rect];
    expect(firstBelow.top).toBe(mainBelow.height + 10);
  });

  test('never leaves the box, never overlaps, and shows everybody on some page', () => {
    for (const box of [DESK, PHONE]) {
      for (let others = 1; others <= 30; others += 1) {
        const { pages } = placeSpeaker(others, 0, box, 10);
        let seen = 0;
        for (let page = 0; page < pages; page += 1) {
          const { rects } = placeSpeaker(others, page, box, 10);
          for (const rect of rects) expectInside(rect, box);
          expectApart(rects);
          seen += rects.length - 1;
        }
        expect(seen).toBe(others);
      }
    }
  });
});

function expectInside(rect: Rect, box: Box) {
  expect(rect.left).toBeGreaterThanOrEqual(0);
  expect(rect.top).toBeGreaterThanOrEqual(0);
  // Positions are rounded to whole pixels.
  expect(rect.left + rect.width).toBeLessThanOrEqual(box.width + 1);
  expect(rect.top + rect.height).toBeLessThanOrEqual(box.height + 1);
}

function expectApart(rects: Rect[]) {
  for (const [i, a] of rects.entries()) {
    for (const b of rects.slice(i + 1)) {
      const apart = a.left + a.width <= b.left || b.left + b.width <= a.left || a.top + a.height <= b.top || b.top + b.height <= a.top;
      expect(apart).toBe(true);
    }
  }
}
