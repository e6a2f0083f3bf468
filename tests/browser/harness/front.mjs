// What a foreign server lacks, put in front of it: the token endpoint and the call page. Everything else is passed on.
// Only for checking the tests themselves against another server that speaks the protocol.

import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { CALL_PAGE, fileHandler, serve } from './files.mjs';
import { joinToken } from './server.mjs';

export async function startFront(server) {
  const page = fileHandler([CALL_PAGE]);
  const target = new URL(server.http);
  const front = await serve((request, response) => {
    if (request.url === '/v1/token' && request.method === 'POST') return void answerToken(server, request, response);
    if (request.url === '/' || request.url.startsWith('/?') || /^\/(assets\/|mark\.svg)/.test(request.url)) {
      return page(request, response);
    }
    const options = { host: target.hostname, port: target.port, path: request.url, method: request.method, headers: request.headers };
    const onward = httpRequest(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.writeHead(502).end());
    request.pipe(onward);
  });
  front.server.on('upgrade', (request, socket, head) => {
    const onward = connect(Number(target.port), target.hostname, () => {
      const headers = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      onward.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers.join('')}\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  return { http: front.http, ws: front.http.replace(/^http/, 'ws'), stop: front.stop };
}

async function answerToken(server, request, response) {
  let body = '';
  for await (const part of request) body += part;
  const asked = JSON.parse(body || '{}');
  const token = await joinToken(asked.room_name, asked.participant_identity, { name: asked.participant_name });
  response.writeHead(201, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ server_url: server.ws, participant_token: token }));
}
