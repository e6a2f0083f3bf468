// TCP connection between client and server that can be cut, and that records requests.

import { connect, createServer } from 'node:net';

export async function startWire(toUrl) {
  const target = new URL(toUrl);
  const sockets = new Set();
  const requests = [];
  let whole = true;
  const server = createServer((near) => {
    if (!whole) return void near.destroy();
    const far = connect(Number(target.port), target.hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.once('data', (first) => requests.push(first.toString('latin1').split('\r\n', 1)[0]));
    near.pipe(far).pipe(near);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${server.address().port}`;
  return {
    http: `http://${host}`,
    ws: `ws://${host}`,
    /** First line of every connection, e.g. `GET /rtc/v1?access_token=… HTTP/1.1`. */
    requests,
    /** Breaks every connection; new connections are accepted. */
    snap() {
      for (const socket of sockets) socket.destroy();
    },
    cut() {
      whole = false;
      this.snap();
    },
    mend() {
      whole = true;
    },
    async stop() {
      this.cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
