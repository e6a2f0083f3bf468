// Adds to a third-party server what it lacks: the token endpoint and the call page. All other requests are forwarded.
// Only for checking the tests themselves against another server that speaks the protocol.

import { CALL_PAGE, fileHandler, serve } from './files.mjs';
import { passOn, passOnUpgrades } from './proxy.mjs';
import { joinToken } from './server.mjs';

export async function startFront(server) {
  const page = fileHandler([CALL_PAGE]);
  const front = await serve((request, response) => {
    if (request.url === '/v1/token' && request.method === 'POST') return void answerToken(server, request, response);
    if (request.url === '/' || request.url.startsWith('/?') || /^\/(assets\/|mark\.svg)/.test(request.url)) {
      return page(request, response);
    }
    passOn(server.http, request, response);
  });
  passOnUpgrades(front.server, server.http);
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
