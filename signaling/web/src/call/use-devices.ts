// The three things a person sends, and switching them on and off.

import { useLocalParticipant } from '@livekit/components-react';
import type { Room } from 'livekit-client';
import { useCallback, useMemo, useState } from 'react';
import { deviceProblem, type Device } from '../lib/errors';
import type { Tell } from './notices';

export interface Devices {
  microphone: boolean;
  camera: boolean;
  screen: boolean;
  canShareScreen: boolean;
  toggleMicrophone: () => void;
  toggleCamera: () => void;
  toggleScreen: () => void;
}

export function useDevices(room: Room, tell: Tell): Devices {
  const me = useLocalParticipant({ room });
  const [busy, setBusy] = useState<Device>();
  // Phones have no way to share a screen from a page, and a page without https has no devices at all.
  const canShareScreen = 'mediaDevices' in navigator && 'getDisplayMedia' in navigator.mediaDevices;

  const toggle = useCallback(
    async (device: Device, change: () => Promise<unknown>, done: string) => {
      if (busy === device) return;
      setBusy(device);
      try {
        await change();
        tell(done, 'quiet');
      } catch (error) {
        const problem = deviceProblem(device, error);
        tell(`${problem.title}. ${problem.detail}`, 'problem');
      } finally {
        setBusy(undefined);
      }
    },
    [busy, tell],
  );

  const { isMicrophoneEnabled: microphone, isCameraEnabled: camera, isScreenShareEnabled: screen } = me;
  return useMemo(() => {
    const local = room.localParticipant;
    return {
      microphone,
      camera,
      screen,
      canShareScreen,
      toggleMicrophone: () =>
        void toggle('microphone', () => local.setMicrophoneEnabled(!microphone), microphone ? 'Microphone off' : 'Microphone on'),
      toggleCamera: () => void toggle('camera', () => local.setCameraEnabled(!camera), camera ? 'Camera off' : 'Camera on'),
      toggleScreen: () => {
        if (!canShareScreen) return;
        void toggle(
          'screen',
          () => local.setScreenShareEnabled(!screen, { audio: true, contentHint: 'detail', selfBrowserSurface: 'exclude' }),
          screen ? 'Stopped sharing the screen' : 'You are sharing your screen',
        );
      },
    };
  }, [room, toggle, microphone, camera, screen, canShareScreen]);
}
