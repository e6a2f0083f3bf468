import { useEffect, useSyncExternalStore } from 'react';
import type { Theme } from '../lib/memory';

/** Every colour is written as `light-dark(…)`, so the colour scheme of the root element is the whole switch. */
export function useTheme(theme: Theme): void {
  useEffect(() => {
    // An attribute and not a style: for older browsers the build turns `light-dark` into rules that cannot see styles.
    document.documentElement.dataset.theme = theme;
  }, [theme]);
}

/** Whether dark colours are shown, also when the system changes its mind in the middle of a call. */
export function useDark(theme: Theme): boolean {
  const system = useSyncExternalStore(onSystemChange, () => systemDark.matches);
  return theme === 'system' ? system : theme === 'dark';
}

function onSystemChange(changed: () => void): () => void {
  systemDark.addEventListener('change', changed);
  return () => systemDark.removeEventListener('change', changed);
}

const systemDark = matchMedia('(prefers-color-scheme: dark)');
