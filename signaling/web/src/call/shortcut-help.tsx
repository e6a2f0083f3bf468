import type { Ref } from 'react';
import { Icon } from '../ui/icon';
import { SHORTCUTS } from './shortcuts';

export function ShortcutHelp({ ref }: { ref: Ref<HTMLDialogElement> }) {
  return (
    <dialog ref={ref} className="help" aria-labelledby="help-title">
      <form method="dialog">
        <header>
          <h2 id="help-title">Keyboard shortcuts</h2>
          <button className="plain" aria-label="Close">
            <Icon name="close" size={18} />
          </button>
        </header>
        <dl>
          {SHORTCUTS.map(([key, what]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
      </form>
    </dialog>
  );
}
