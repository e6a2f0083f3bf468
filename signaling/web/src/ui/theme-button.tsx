import type { Choices, Theme } from '../lib/memory';
import { Icon } from './icon';
import { useDark } from './theme';

export function ThemeButton({ theme, choose }: { theme: Theme; choose: (change: Partial<Choices>) => void }) {
  const next = useDark(theme) ? 'light' : 'dark';
  const label = next === 'dark' ? 'Dark colours' : 'Light colours';
  return (
    <button type="button" className="plain" aria-label={label} title={label} onClick={() => choose({ theme: next })}>
      <Icon name={next === 'dark' ? 'moon' : 'sun'} size={20} />
    </button>
  );
}
