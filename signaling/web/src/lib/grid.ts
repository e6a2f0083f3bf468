// Where the tiles go. Pure: a box and a number of people in, a size and a number of pages out.

export interface Box {
  width: number;
  height: number;
}

export interface Rect extends Box {
  left: number;
  top: number;
}

/** Where the tiles of one page stand, and how many pages there are. */
export interface Placement {
  rects: Rect[];
  /** People on a full page. */
  perPage: number;
  pages: number;
}

export interface GridOptions {
  gap: number;
  /** Below this width a face cannot be told apart, so the rest moves to another page. */
  minTileWidth: number;
}

/**
 * Everybody the same size, in the arrangement that is worth most.
 *
 * Tiles may be anything from a phone's portrait to 16:9; a grid that keeps 16:9 leaves most of a narrow window empty.
 */
export function placeGrid(people: number, page: number, box: Box, options: GridOptions): Placement {
  const fits = Math.max(1, capacity(box, options));
  const pages = Math.max(1, Math.ceil(people / fits));
  // Spread people evenly: a last page with a single person would be shown much larger than the others.
  const perPage = Math.max(1, Math.ceil(people / pages));

  let best = candidate(1, perPage, box, options.gap);
  for (let columns = 2; columns <= perPage; columns += 1) {
    const next = candidate(columns, perPage, box, options.gap);
    if (worth(next.tile) > worth(best.tile)) best = next;
  }
  const here = Math.min(perPage, people - Math.min(page, pages - 1) * perPage);
  return { rects: rows(here, best, box, options.gap), perPage, pages };
}

/** One large, the others in a strip beside it, or below it where the window is narrow. The large one comes first. */
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

// The whole in the middle of the box, and a last row that is not full in the middle of the whole.
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

// What a tile is worth: its area, less for the part of a 16:9 picture that is cropped away to fill it. The square root
// because what is cropped are the sides, and faces are in the middle.
function worth(tile: Box): number {
  if (tile.height === 0) return 0;
  return tile.width * tile.height * Math.sqrt(tile.width / tile.height / CAMERA);
}

function capacity(box: Box, { gap, minTileWidth }: GridOptions): number {
  const columns = Math.floor((box.width + gap) / (minTileWidth + gap));
  const rowCount = Math.floor((box.height + gap) / (minTileWidth / CAMERA + gap));
  return Math.min(columns * rowCount, MOST_ON_A_PAGE);
}

/** Cameras are 16:9, and so is the widest tile. */
const CAMERA = 16 / 9;
const TALLEST = 3 / 4;
const STRIP = 16 / 10;
/** Decoding more than this many pictures at once is beyond an ordinary laptop. */
const MOST_ON_A_PAGE = 25;
