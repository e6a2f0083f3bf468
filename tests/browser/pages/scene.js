// Gives a page a camera that shows a drawn person who moves a little in a drawn room. For screenshots, since the
// browser's own fake camera shows a green test pattern. Injected before the page's own scripts.

window.drawScene = ({ wall, window: sky, shirt, skin, hair }) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [1280, 720];
  const c = canvas.getContext('2d');
  const circle = (x, y, r, color) => {
    c.fillStyle = color;
    c.beginPath();
    c.ellipse(x, y, r, r, 0, 0, 2 * Math.PI);
    c.fill();
  };
  const paint = () => {
    const t = performance.now() / 1000;
    const sway = Math.sin(t * 0.9) * 10;
    const nod = Math.sin(t * 1.7) * 5;
    const light = c.createLinearGradient(0, 0, 1280, 720);
    light.addColorStop(0, wall[0]);
    light.addColorStop(1, wall[1]);
    c.fillStyle = light;
    c.fillRect(0, 0, 1280, 720);
    c.fillStyle = sky;
    c.beginPath();
    c.roundRect(880, 90, 260, 300, 24);
    c.fill();
    circle(1010 + Math.sin(t / 3) * 20, 200, 44, '#ffe9b8');
    c.fillStyle = '#ffffff55';
    c.fillRect(1002, 90, 12, 300);
    c.fillStyle = '#00000022';
    c.beginPath();
    c.roundRect(120, 470, 210, 14, 7);
    c.fill();
    for (const [i, height] of [90, 120, 76, 104].entries()) {
      c.fillStyle = ['#c8553d', '#588b8b', '#f2c078', '#3d5a80'][i];
      c.fillRect(140 + i * 40, 470 - height, 32, height);
    }
    const x = 640 + sway;
    c.fillStyle = shirt;
    c.beginPath();
    c.roundRect(x - 230, 510, 460, 300, [170, 170, 0, 0]);
    c.fill();
    c.fillStyle = skin;
    c.beginPath();
    c.roundRect(x - 48, 420, 96, 130, 44);
    c.fill();
    circle(x + sway * 0.3, 300 + nod, 138, hair);
    c.fillStyle = skin;
    c.beginPath();
    c.ellipse(x + sway * 0.5, 326 + nod, 104, 128, 0, 0, 2 * Math.PI);
    c.fill();
    c.fillStyle = hair;
    c.beginPath();
    c.ellipse(x + sway * 0.4, 222 + nod, 112, 62, 0.06, 0, 2 * Math.PI);
    c.fill();
    const blink = t % 3.4 < 0.14 ? 2 : 11;
    for (const side of [-40, 40]) {
      c.fillStyle = '#2b2233';
      c.beginPath();
      c.ellipse(x + sway * 0.6 + side, 320 + nod, 9, blink, 0, 0, 2 * Math.PI);
      c.fill();
    }
    c.strokeStyle = '#8a3d3a';
    c.lineWidth = 7;
    c.lineCap = 'round';
    c.beginPath();
    c.arc(x + sway * 0.6, 362 + nod, 34 + Math.sin(t * 4) * 4, 0.25, Math.PI - 0.25);
    c.stroke();
  };
  paint();
  setInterval(paint, 1000 / 15);
  const video = canvas.captureStream(15).getVideoTracks()[0];
  const original = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (asked) => {
    if (!asked.video) return original(asked);
    const stream = asked.audio ? await original({ audio: asked.audio }) : new MediaStream();
    stream.addTrack(video.clone());
    return stream;
  };
};
