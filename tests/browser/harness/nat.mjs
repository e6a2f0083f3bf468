// Emulates a NAT between pages and the server. On command it assigns new ports, as a NAT does after a mapping expired.

import { createSocket } from 'node:dgram';

export async function startNat() {
  const inside = await bound();
  /** Address of a page's socket -> the socket that the server sees. */
  const outside = new Map();
  let server;
  inside.on('message', async (data, page) => {
    const key = `${page.address}:${page.port}`;
    if (!outside.has(key)) {
      outside.set(key, mapping(page));
    }
    const socket = await outside.get(key);
    if (server) socket.send(data, server.port, server.host, () => {});
  });

  async function mapping(page) {
    const socket = await bound();
    socket.on('message', (data) => inside.send(data, page.port, page.address, () => {}));
    return socket;
  }

  return {
    /** Sends the media of a page through this NAT, from the page's next connection on. */
    async carry(page) {
      await page.exposeFunction('linkTo', (to) => {
        const [host, port] = to.split(':');
        server = { host, port: Number(port) };
      });
      await page.evaluate((nat) => {
        window.link = nat;
      }, `127.0.0.1:${inside.address().port}`);
    },
    /** Makes the server see other ports from now on. */
    async rebind() {
      const before = [...outside.values()];
      outside.clear();
      for (const socket of await Promise.all(before)) socket.close();
    },
    async stop() {
      await this.rebind();
      inside.close();
    },
  };
}

async function bound() {
  const socket = createSocket('udp4');
  await new Promise((resolve, reject) => socket.once('error', reject).bind(0, '127.0.0.1', resolve));
  return socket;
}
