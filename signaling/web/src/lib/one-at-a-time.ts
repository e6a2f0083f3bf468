/**
 * Runs at most one task per key at a time. A task whose key is busy is dropped. Tasks of different keys run
 * independently. `onChange` is called with the set of busy keys.
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
