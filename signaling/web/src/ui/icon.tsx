// Icons of this page, all with one stroke width on a 24 px grid. They are decorative: the button around an icon has the
// accessible text.

const PATHS = {
  mic: 'M12 3.5a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0v-5a3 3 0 0 1 3-3ZM5.5 11.500a6.5 6.5 0 0 0 13 0M12 18v3',
  micOff: 'M9 9v2.500a3 3 0 0 0 4.8 2.400M15 10.500v-4a3 3 0 0 0-5.7-1.300M5.5 11.500a6.5 6.5 0 0 0 10.4 5.2M18.2 13.400c.2-.6.3-1.2.3-1.900M12 18v3M4 3.500l16 17',
  camera: 'M4.5 6.500h9a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2ZM15.5 11l6-3.500v9l-6-3.5',
  cameraOff: 'M10 6.500h3.500a2 2 0 0 1 2 2V11l6-3.500v9l-3-1.700M15.5 15.500a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2v-7c0-1 .7-1.8 1.6-2M3 3.500l17 17',
  screen: 'M4 4.500h16a1.5 1.5 0 0 1 1.5 1.500v9a1.5 1.5 0 0 1-1.5 1.500H4A1.5 1.5 0 0 1 2.5 15V6A1.5 1.5 0 0 1 4 4.500ZM8.5 20h7M12 13.500v-5.500M9.3 10.3 12 7.600l2.7 2.7',
  chat: 'M5 4.500h14a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-6.500l-4.5 4v-4H5a2 2 0 0 1-2-2v-8a2 2 0 0 1 2-2ZM7.5 9h9M7.5 12.300h5.5',
  more: 'M5.2 12h-.4M12.2 12h-.4M19.2 12h-.4M5 11.8v.4M12 11.8v.4M19 11.8v.4',
  leave: 'M2.8 14.700c-.8-3 4-6.2 9.2-6.2s10 3.2 9.2 6.2c-.2.9-1 1.4-1.9 1.2l-2.6-.6c-.8-.2-1.3-.9-1.3-1.700v-1.300a11 11 0 0 0-6.8 0v1.300c0 .8-.5 1.5-1.3 1.700l-2.6.600c-.9.2-1.7-.3-1.9-1.2Z',
  grid: 'M4 4.500h6.500V11H4ZM13.5 4.500H20V11h-6.500ZM4 13.500h6.500V20H4ZM13.5 13.500H20V20h-6.500Z',
  speaker: 'M3.5 4.500h17V14h-17ZM3.5 17.2h4.500V20H3.500ZM9.8 17.2h4.500V20H9.8ZM16 17.2h4.500V20H16Z',
  figures: 'M3.5 20.500h17M5.5 17v-4M10 17V7.500M14.5 17v-6.500M19 17V4',
  weak: 'M4.5 20v-2.5M9.5 20v-6M14.5 20v.01M19.5 20v.01',
  link: 'M10 14a4 4 0 0 0 5.7 0l3.6-3.600a4 4 0 0 0-5.7-5.700l-1.4 1.400M14 10a4 4 0 0 0-5.7 0l-3.6 3.600a4 4 0 0 0 5.7 5.700l1.4-1.4',
  check: 'M4.5 12.500l5 5 10-11',
  close: 'M5.5 5.500l13 13M18.5 5.500l-13 13',
  send: 'M3.5 11.5 20.5 4l-5.5 16.5-4-6.500ZM11 14l4-4.5',
  sun: 'M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8ZM12 2.500v2M12 19.500v2M2.5 12h2M19.5 12h2M5.3 5.300l1.4 1.400M17.3 17.300l1.4 1.400M5.3 18.700l1.4-1.400M17.3 6.700l1.4-1.4',
  moon: 'M20 14.2A8.3 8.3 0 1 1 9.8 4a6.6 6.6 0 0 0 10.2 10.2Z',
  keyboard: 'M4 6.500h16a1.5 1.5 0 0 1 1.5 1.500v8a1.5 1.5 0 0 1-1.5 1.500H4A1.5 1.5 0 0 1 2.5 16V8A1.5 1.5 0 0 1 4 6.500ZM6.5 10h.01M10 10h.01M13.5 10h.01M17 10h.01M8.5 14h7',
  pin: 'M9 3.500h6l-.8 6 3.3 3.500h-11L9.8 9.500ZM12 13v7.5',
  dice: 'M20 11a8 8 0 0 0-14.3-3.8L4 9M4 4.500V9h4.500M4 13a8 8 0 0 0 14.3 3.8L20 15M20 19.500V15h-4.5',
  left: 'M14.5 5.5 8 12l6.5 6.5',
  right: 'M9.5 5.5 16 12l-6.5 6.5',
  up: 'M6 14.500l6-6 6 6',
  sound: 'M4 9.500h3.500L12 5.500v13l-4.5-4H4ZM15.5 9a4 4 0 0 1 0 6M18 6.500a7.5 7.5 0 0 1 0 11',
  warning: 'M12 4 2.8 20h18.400ZM12 10v4.500M12 17.300h.01',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 22 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <path className="mark-hands" d="M26.6 11.6A11.5 11.5 0 1 1 16 4.500M16 10v6.300l4.2 3" />
      <circle className="mark-dot" cx="23.6" cy="7" r="3" />
    </svg>
  );
}
