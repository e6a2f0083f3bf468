import { readFileSync } from 'node:fs';
import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

// The font may be passed on only together with its licence, and a bundler drops files nothing imports.
function fontLicense(): Plugin {
  return {
    name: 'font-license',
    generateBundle() {
      this.emitFile({
        type: 'asset',
        fileName: 'assets/figtree-license.txt',
        source: readFileSync('node_modules/@fontsource-variable/figtree/LICENSE', 'utf8'),
      });
    },
  };
}

// Where `npm run dev` finds the server that it stands in front of.
const server = process.env.ANYTIME_URL ?? 'http://127.0.0.1:7880';

export default defineConfig({
  plugins: [react(), fontLicense()],
  // Relative addresses: the page may be served below a path.
  base: './',
  build: {
    target: 'es2022',
    // Inlined assets would need a looser content security policy than the server wants to send.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1200,
  },
  server: {
    proxy: { '/v1': server, '/rtc': { target: server, ws: true } },
  },
});
