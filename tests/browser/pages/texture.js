// Draws noise over a video, so that an encoder needs as many bits as for a camera. Time codes stay readable, because
// they are read from the means of many pixels.

const TILE = 256;

/** Returns a function that draws noise over a canvas; `strength` is 0 to 1. */
export function texture(strength) {
  const tile = document.createElement('canvas');
  tile.width = TILE;
  tile.height = TILE;
  const context = tile.getContext('2d');
  const image = context.createImageData(TILE, TILE);
  for (let i = 0; i < image.data.length; i += 4) {
    image.data.fill(Math.random() * 256, i, i + 3);
    image.data[i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return (target) => {
    const pattern = target.createPattern(tile, 'repeat');
    pattern.setTransform(new DOMMatrix([2, 0, 0, 2, Math.random() * TILE, Math.random() * TILE]));
    target.save();
    target.globalAlpha = strength;
    target.fillStyle = pattern;
    target.fillRect(0, 0, target.canvas.width, target.canvas.height);
    target.restore();
  };
}
