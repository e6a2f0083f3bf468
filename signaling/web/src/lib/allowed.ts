// Which media a person may send, by the permissions in the token. The server may change them at any time.

export type Sent = 'microphone' | 'camera' | 'screen';
export type Allowed = Readonly<Record<Sent, boolean>>;

/** The protocol's `ParticipantPermission`. If `canPublishSources` is empty, all sources are allowed. */
export interface Permission {
  canPublish: boolean;
  canPublishSources: readonly number[];
}

export function allowed(permission: Permission | undefined): Allowed {
  const may = (device: Sent) =>
    permission?.canPublish === true && (permission.canPublishSources.length === 0 || permission.canPublishSources.includes(SOURCES[device]));
  return { microphone: may('microphone'), camera: may('camera'), screen: may('screen') };
}

/** Message that tells why a device cannot be switched on. */
export function refusal(device: Sent, now: Allowed): string {
  if (!now.microphone && !now.camera && !now.screen) return WATCH_ONLY;
  return device === 'screen' ? 'You may not share a screen in this call.' : `You may not use your ${device} in this call.`;
}

/** Message about changed permissions or, when the call begins, about missing ones; undefined if there are none. */
export function newsOf(before: Allowed | undefined, now: Allowed): string | undefined {
  const gained = DEVICES.filter((device) => now[device] && before && !before[device]);
  const lost = DEVICES.filter((device) => !now[device] && (!before || before[device]));
  if (gained.length > 0) return `You may now ${listed(gained.map((device) => USES[device]))}.`;
  if (lost.length === 0) return undefined;
  if (DEVICES.every((device) => !now[device])) return WATCH_ONLY;
  return `You may not ${listed(lost.map((device) => USES[device]), 'or')} in this call.`;
}

function listed(words: string[], last = 'and'): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1) ?? ''}`;
}

const WATCH_ONLY = 'You may watch and listen in this call, but not send anything.';
const DEVICES: readonly Sent[] = ['microphone', 'camera', 'screen'];
const USES: Readonly<Record<Sent, string>> = { microphone: 'use your microphone', camera: 'use your camera', screen: 'share a screen' };
/** The protocol's `TrackSource` numbers. */
const SOURCES: Readonly<Record<Sent, number>> = { camera: 1, microphone: 2, screen: 3 };
