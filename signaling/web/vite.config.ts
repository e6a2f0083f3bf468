import { readFileSync } from 'node:fs';
import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

// The font may be distributed only with its licence, and the bundler leaves out files that nothing imports.
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

// Server to which `npm run dev` proxies API requests.
const server = process.env.ANYTIME_URL ?? 'http://127.0.0.1:7880';

export default defineConfig({
  plugins: [react(), fontLicense()],
  // URLs are relative, because the page may be served below a path.
  base: './',
  build: {
    target: 'es2022',
    // Inlined assets would need a looser content security policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1200,
  },
  server: {
    proxy: { '/v1': server, '/rtc': { target: server, ws: true } },
  },
});
