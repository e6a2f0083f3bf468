// Static file server for the test pages, the published client and the built call page.

import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};

export const PAGES = fileURLToPath(new URL('../pages', import.meta.url));
/** Contains every version of the published client, each in a folder with its name in package.json. */
export const CLIENTS = fileURLToPath(new URL('../node_modules', import.meta.url));
export const CALL_PAGE = fileURLToPath(new URL('../../../signaling/web/dist', import.meta.url));

/** Serves each file from the first folder that contains it. */
export function fileHandler(folders) {
  return (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    const file = folders.map((folder) => join(folder, path === '/' ? 'index.html' : path)).find(isFile);
    if (!file || !['GET', 'HEAD'].includes(request.method)) {
      response.writeHead(404).end('not found');
      return;
    }
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  };
}

export async function serve(handler) {
  const server = createServer(handler);
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return {
    server,
    http: `http://127.0.0.1:${server.address().port}`,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function isFile(path) {
  return existsSync(path) && statSync(path).isFile();
}
