// Reverse proxy, as operators run in front of the server. The server is available only below a path.

import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { serve } from './files.mjs';

/** `path` begins and ends with a slash. `host` is the Host header sent to the server; by default the client's. */
export async function startProxy(server, path, host) {
  const below = (url) => (url.startsWith(path) ? url.slice(path.length - 1) : undefined);
  const strayed = [];
  const proxy = await serve((request, response) => {
    const url = below(request.url);
    if (url === undefined) {
      strayed.push(request.url);
      response.writeHead(404).end('not here');
      return;
    }
    passOn(server.http, request, response, url, host);
  });
  passOnUpgrades(proxy.server, server.http, below);
  /** `strayed`: URLs of requests outside the path. */
  return { http: `${proxy.http}${path.slice(0, -1)}`, strayed, stop: proxy.stop };
}

export function passOn(to, request, response, path = request.url, host = request.headers.host) {
  const target = new URL(to);
  const headers = { ...request.headers, host };
  const options = { host: target.hostname, port: target.port, path, method: request.method, headers };
  const onward = httpRequest(options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.writeHead(502).end());
  request.pipe(onward);
}

export function passOnUpgrades(server, to, pathOf = (url) => url) {
  const target = new URL(to);
  server.on('upgrade', (request, socket, head) => {
    const path = pathOf(request.url);
    if (path === undefined) return void socket.destroy();
    const onward = connect(Number(target.port), target.hostname, () => {
      const headers = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      onward.write(`${request.method} ${path} HTTP/1.1\r\n${headers.join('')}\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
}
