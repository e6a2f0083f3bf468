// Choices that the page stores between visits. A browser may refuse storage (private windows do); then nothing is kept.

export interface Choices {
  name: string;
  camera: boolean;
  microphone: boolean;
  cameraId: string;
  microphoneId: string;
  speakerId: string;
  theme: Theme;
  view: View;
  overlay: boolean;
}

export type Theme = 'system' | 'light' | 'dark';
export type View = 'grid' | 'speaker';

export function recall(): Choices {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    return { ...DEFAULTS, ...sameTypes(stored) };
  } catch {
    return DEFAULTS;
  }
}

export function remember(choices: Choices): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(choices));
  } catch {
    // Storage was refused; the choices hold for this visit only.
  }
}

// An older version of the page may have stored values of other types under the same key.
function sameTypes(stored: unknown): Partial<Choices> {
  if (typeof stored !== 'object' || stored === null) return {};
  const known = Object.entries(stored).filter(
    ([key, value]) => key in DEFAULTS && typeof value === typeof DEFAULTS[key as keyof Choices],
  );
  return Object.fromEntries(known);
}

const KEY = 'anytime';
const DEFAULTS: Choices = {
  name: '',
  camera: true,
  microphone: true,
  cameraId: '',
  microphoneId: '',
  speakerId: '',
  theme: 'system',
  view: 'grid',
  overlay: false,
};
