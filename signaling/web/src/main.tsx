import '@fontsource-variable/figtree/wght.css';
import './styles/base.css';
import './styles/parts.css';
import './styles/join.css';
import './styles/call.css';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app';

const root = document.getElementById('root');
if (!root) throw new Error('index.html has no #root');
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
