// Layout of the tiles. Pure functions: from a box and a number of people to rectangles and a number of pages.

export interface Box {
  width: number;
  height: number;
}

export interface Rect extends Box {
  left: number;
  top: number;
}

/** Rectangles of the tiles on one page, and the number of pages. */
export interface Placement {
  rects: Rect[];
  /** Number of people on a full page. */
  perPage: number;
  pages: number;
}

export interface GridOptions {
  gap: number;
  /** Minimum width of a tile. Below it faces are hard to recognize, so further people move to another page. */
  minTileWidth: number;
}

/**
 * Grid of tiles of equal size. The arrangement with the highest `worth` is chosen.
 *
 * Tiles may have any aspect ratio from a phone's portrait to 16:9, because a grid of 16:9 tiles leaves most of a narrow
 * window empty.
 */
export function placeGrid(people: number, page: number, box: Box, options: GridOptions): Placement {
  const fits = Math.max(1, capacity(box, options));
  const pages = Math.max(1, Math.ceil(people / fits));
  // People are spread evenly over the pages, because a single person on the last page would be shown much larger.
  const perPage = Math.max(1, Math.ceil(people / pages));

  let best = candidate(1, perPage, box, options.gap);
  for (let columns = 2; columns <= perPage; columns += 1) {
    const next = candidate(columns, perPage, box, options.gap);
    if (worth(next.tile) > worth(best.tile)) best = next;
  }
  const here = Math.min(perPage, people - Math.min(page, pages - 1) * perPage);
  return { rects: rows(here, best, box, options.gap), perPage, pages };
}

/** One large tile, and the others in a strip beside it or, in a narrow window, below it. The large tile comes first. */
export function placeSpeaker(others: number, page: number, box: Box, gap: number): Placement {
  if (others === 0) return { rects: [{ left: 0, top: 0, ...box }], perPage: 1, pages: 1 };
  const beside = box.width >= 640;
  const width = beside ? Math.round(Math.min(224, Math.max(144, box.width * 0.17))) : 132;
  const height = Math.round(width / STRIP);
  const fits = Math.max(1, beside ? Math.floor((box.height + gap) / (height + gap)) : Math.floor((box.width + gap) / (width + gap)));
  const pages = Math.ceil(others / fits);
  const here = Math.min(fits, others - Math.min(page, pages - 1) * fits);
  const main = beside
    ? { left: 0, top: 0, width: box.width - width - gap, height: box.height }
    : { left: 0, top: 0, width: box.width, height: box.height - height - gap };
  const strip = Array.from({ length: here }, (_, i) =>
    beside
      ? { left: main.width + gap, top: i * (height + gap), width, height }
      : { left: i * (width + gap), top: main.height + gap, width, height },
  );
  return { rects: [main, ...strip], perPage: fits, pages };
}

interface Arrangement {
  columns: number;
  tile: Box;
}

function candidate(columns: number, count: number, box: Box, gap: number): Arrangement {
  const rowCount = Math.ceil(count / columns);
  const width = Math.max(0, (box.width - gap * (columns - 1)) / columns);
  const height = Math.max(0, (box.height - gap * (rowCount - 1)) / rowCount);
  return { columns, tile: clampAspect({ width, height }) };
}

// Centres the grid in the box, and a last row that is not full within the grid.
function rows(count: number, { columns, tile }: Arrangement, box: Box, gap: number): Rect[] {
  const rowCount = Math.ceil(count / columns);
  const top = (box.height - rowCount * tile.height - (rowCount - 1) * gap) / 2;
  return Array.from({ length: count }, (_, i) => {
    const row = Math.floor(i / columns);
    const inRow = Math.min(columns, count - row * columns);
    const left = (box.width - inRow * tile.width - (inRow - 1) * gap) / 2;
    return {
      left: Math.round(left + (i % columns) * (tile.width + gap)),
      top: Math.round(top + row * (tile.height + gap)),
      ...tile,
    };
  });
}

function clampAspect({ width, height }: Box): Box {
  if (height === 0 || width === 0) return { width: 0, height: 0 };
  const aspect = width / height;
  if (aspect > CAMERA) return { width: Math.floor(height * CAMERA), height: Math.floor(height) };
  if (aspect < TALLEST) return { width: Math.floor(width), height: Math.floor(width / TALLEST) };
  return { width: Math.floor(width), height: Math.floor(height) };
}

// Value of a tile: its area, reduced for the part of a 16:9 video that is cropped to fill it. The square root softens
// this, because the sides are cropped and faces are in the middle.
function worth(tile: Box): number {
  if (tile.height === 0) return 0;
  return tile.width * tile.height * Math.sqrt(tile.width / tile.height / CAMERA);
}

function capacity(box: Box, { gap, minTileWidth }: GridOptions): number {
  const columns = Math.floor((box.width + gap) / (minTileWidth + gap));
  const rowCount = Math.floor((box.height + gap) / (minTileWidth / CAMERA + gap));
  return Math.min(columns * rowCount, MOST_ON_A_PAGE);
}

/** Aspect ratio of cameras, and of the widest tile. */
const CAMERA = 16 / 9;
const TALLEST = 3 / 4;
const STRIP = 16 / 10;
/** Maximum number of tiles on a page; an ordinary laptop cannot decode more videos at once. */
const MOST_ON_A_PAGE = 25;
