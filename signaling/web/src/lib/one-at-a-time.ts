/**
 * Runs one piece of work for each key at a time; what is asked for while its key is busy is not begun. Keys do not wait
 * for each other. `onChange` is told which keys are busy.
 */
export function oneAtATime<Key>(onChange: (busy: ReadonlySet<Key>) => void): (key: Key, work: () => Promise<void>) => Promise<void> {
  const busy = new Set<Key>();
  return async (key, work) => {
    if (busy.has(key)) return;
    busy.add(key);
    onChange(new Set(busy));
    try {
      await work();
    } finally {
      busy.delete(key);
      onChange(new Set(busy));
    }
  };
}
