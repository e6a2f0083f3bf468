// Video that states its sender and its time, readable after any encoder and in any simulcast layer.
//
// A frame has 8 x 4 blocks, dark or light, most significant bit first: 4 bits for the sender, 20 bits for the time in
// milliseconds (the clock that all pages on a machine share, modulo 17 minutes), and 8 bits for a checksum. In a 320 x
// 180 layer a block has 40 x 45 pixels, so its centre survives the coarsest quantiser.

export const COLUMNS = 8;
export const ROWS = 4;
export const TIME_RANGE = 1 << 20;

export function now() {
  return Math.floor(performance.timeOrigin + performance.now()) % TIME_RANGE;
}

/** Time since a time code was drawn, in milliseconds. */
export function age(code) {
  return (now() - code + TIME_RANGE) % TIME_RANGE;
}

/** The blocks of a code, row by row: 1 is light. */
export function encode(sender, time) {
  const value = ((sender << 20) | time) >>> 0;
  return [...toBits(value, 24), ...toBits(checksum(value), 8)];
}

/** Sender and time of the blocks; undefined if they are no time code. */
export function decode(bits) {
  const value = fromBits(bits.slice(0, 24));
  if (fromBits(bits.slice(24)) !== checksum(value)) return undefined;
  return { sender: value >>> 20, time: value & (TIME_RANGE - 1) };
}

export function draw(context, sender, hue) {
  const { width, height } = context.canvas;
  const bits = encode(sender, now());
  const w = width / COLUMNS;
  const h = height / ROWS;
  for (const [index, bit] of bits.entries()) {
    context.fillStyle = bit ? `hsl(${hue} 60% 88%)` : `hsl(${hue} 60% 12%)`;
    context.fillRect((index % COLUMNS) * w, Math.floor(index / COLUMNS) * h, Math.ceil(w), Math.ceil(h));
  }
}

/** Reads the time code of a video element; undefined if there is none. `scratch` is a 2d context to draw into. */
export function read(video, scratch) {
  // Scaling the frame down to a few pixels per block averages out coding artefacts at the edges.
  const size = 6;
  const { canvas } = scratch;
  canvas.width = COLUMNS * size;
  canvas.height = ROWS * size;
  scratch.drawImage(video, 0, 0, canvas.width, canvas.height);
  const { data } = scratch.getImageData(0, 0, canvas.width, canvas.height);
  const bits = [];
  for (let row = 0; row < ROWS; row += 1) {
    for (let column = 0; column < COLUMNS; column += 1) {
      const x = column * size + size / 2;
      const y = row * size + size / 2;
      const at = (y * canvas.width + x) * 4;
      bits.push(data[at] * 0.3 + data[at + 1] * 0.59 + data[at + 2] * 0.11 > 128 ? 1 : 0);
    }
  }
  return decode(bits);
}

function toBits(value, count) {
  return Array.from({ length: count }, (_, i) => (value >>> (count - 1 - i)) & 1);
}

function fromBits(bits) {
  return bits.reduce((value, bit) => ((value << 1) | bit) >>> 0, 0);
}

// CRC-8 with polynomial 0x07, initialised to 0xff so that an all-black frame is not a valid code.
function checksum(value) {
  let crc = 0xff;
  for (let shift = 16; shift >= 0; shift -= 8) {
    crc ^= (value >>> shift) & 0xff;
    for (let i = 0; i < 8; i += 1) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : (crc << 1) & 0xff;
  }
  return crc;
}
