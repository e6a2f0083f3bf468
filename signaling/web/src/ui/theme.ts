import { useEffect, useSyncExternalStore } from 'react';
import type { Theme } from '../lib/memory';

/** Applies the theme. Every colour is written as `light-dark(…)`, so only the root element's colour scheme changes. */
export function useTheme(theme: Theme): void {
  useEffect(() => {
    // An attribute, not an inline style: for older browsers the build compiles `light-dark` to rules that ignore inline
    // styles.
    document.documentElement.dataset.theme = theme;
  }, [theme]);
}

/** Whether dark colours are shown. Follows changes of the system's setting during a call. */
export function useDark(theme: Theme): boolean {
  const system = useSyncExternalStore(onSystemChange, () => systemDark.matches);
  return theme === 'system' ? system : theme === 'dark';
}

function onSystemChange(changed: () => void): () => void {
  systemDark.addEventListener('change', changed);
  return () => systemDark.removeEventListener('change', changed);
}

const systemDark = matchMedia('(prefers-color-scheme: dark)');
