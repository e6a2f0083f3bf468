// State of microphone, camera and screen share, and functions that switch them on and off.

import { useLocalParticipant, useLocalParticipantPermissions } from '@livekit/components-react';
import type { Room } from 'livekit-client';
import { useEffect, useMemo, useRef, useState } from 'react';
import type { Entry } from '../join/enter';
import { allowed, newsOf, refusal, type Allowed, type Sent } from '../lib/allowed';
import { deviceProblem } from '../lib/errors';
import { oneAtATime } from '../lib/one-at-a-time';
import type { Tell } from './notices';

export interface Devices {
  microphone: boolean;
  camera: boolean;
  screen: boolean;
  canShareScreen: boolean;
  /** Devices that the person may use, by the token or by a later permission update of the server. */
  allowed: Allowed;
  /** Devices that are being switched on or off, which takes as long as the device takes to open. */
  busy: ReadonlySet<Sent>;
  toggleMicrophone: () => void;
  toggleCamera: () => void;
  toggleScreen: () => void;
}

export function useDevices(room: Room, entry: Entry, tell: Tell): Devices {
  const { isMicrophoneEnabled: microphone, isCameraEnabled: camera, isScreenShareEnabled: screen } = useLocalParticipant({ room });
  const may = useAllowed(tell);
  const [busy, setBusy] = useState<ReadonlySet<Sent>>(NOTHING);
  const [run] = useState(() => oneAtATime<Sent>(setBusy));
  // Browsers on phones cannot share a screen, and a page without HTTPS has no devices at all.
  const canShareScreen = 'mediaDevices' in navigator && 'getDisplayMedia' in navigator.mediaDevices;

  const devices = useMemo<Omit<Devices, 'busy'>>(() => {
    const local = room.localParticipant;
    const toggle = (device: Sent, change: () => Promise<unknown>, done: string) =>
      void run(device, async () => {
        try {
          if (!may[device]) {
            tell(refusal(device, may), 'problem');
            return;
          }
          await change();
          tell(done, 'quiet');
        } catch (error) {
          const problem = deviceProblem(device, error);
          tell(`${problem.title}. ${problem.detail}`, 'problem');
        }
      });
    return {
      microphone,
      camera,
      screen,
      canShareScreen,
      allowed: may,
      toggleMicrophone: () =>
        toggle('microphone', () => local.setMicrophoneEnabled(!microphone), microphone ? 'Microphone off' : 'Microphone on'),
      toggleCamera: () => toggle('camera', () => local.setCameraEnabled(!camera), camera ? 'Camera off' : 'Camera on'),
      toggleScreen: () => {
        if (!canShareScreen) return;
        toggle(
          'screen',
          () => local.setScreenShareEnabled(!screen, { audio: true, contentHint: 'detail', selfBrowserSurface: 'exclude' }),
          screen ? 'Stopped sharing the screen' : 'You are sharing your screen',
        );
      },
    };
  }, [room, run, tell, may, microphone, camera, screen, canShareScreen]);

  // A device may have been switched, or may still have been opening, while the call was joined. This applies the state
  // that the person chose on the join page.
  const begun = useRef(false);
  useEffect(() => {
    if (begun.current) return;
    begun.current = true;
    if (may.microphone && entry.microphone.isWanted() !== microphone) devices.toggleMicrophone();
    if (may.camera && entry.camera.isWanted() !== camera) devices.toggleCamera();
  }, [devices, may, entry, microphone, camera]);

  return { ...devices, busy };
}

function useAllowed(tell: Tell): Allowed {
  const permissions = useLocalParticipantPermissions();
  const { microphone, camera, screen } = allowed(permissions);
  const may = useMemo(() => ({ microphone, camera, screen }), [microphone, camera, screen]);
  const before = useRef<Allowed>(undefined);
  useEffect(() => {
    const news = newsOf(before.current, may);
    before.current = may;
    if (news) tell(news);
  }, [may, tell]);
  return may;
}

const NOTHING: ReadonlySet<Sent> = new Set();
