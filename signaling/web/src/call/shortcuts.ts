import { useEffect, useRef } from 'react';

type Handlers = Record<string, () => void>;

/** Single-key shortcuts. Not active while a person types, and never instead of the browser's own shortcuts. */
export function useShortcuts(handlers: Handlers): void {
  const current = useRef(handlers);
  useEffect(() => {
    current.current = handlers;
  });
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
      const target = event.target;
      if (target instanceof HTMLElement && target.closest('input, textarea, select, dialog, [contenteditable]')) return;
      const handler = current.current[event.key.toLowerCase()];
      if (!handler) return;
      event.preventDefault();
      handler();
    };
    window.addEventListener('keydown', pressed);
    return () => window.removeEventListener('keydown', pressed);
  }, []);
}

export const SHORTCUTS: readonly (readonly [key: string, what: string])[] = [
  ['M', 'Microphone on or off'],
  ['V', 'Camera on or off'],
  ['S', 'Share the screen'],
  ['C', 'Open or close the chat'],
  ['G', 'Grid or speaker view'],
  ['O', 'Figures on every tile'],
  ['I', 'Copy the invite link'],
  ['?', 'This list'],
];
