// Preview of camera and microphone on the join page. Each is open while it is wanted, and passed to the call on
// joining.

import { createLocalAudioTrack, createLocalVideoTrack, VideoPresets, type LocalTrack } from 'livekit-client';
import { useCallback, useEffect, useRef, useState } from 'react';
import { deviceProblem, type Problem } from '../lib/errors';
import { chosen, type Lender } from './enter';

/** Preview that lends its track to the call. Once the call is joined, the call stops the track. */
export interface Preview<T extends LocalTrack> extends Lender<T> {
  track: T | undefined;
  problem: Problem | undefined;
  opening: boolean;
  /** Called when joining failed: the preview owns the track again. */
  giveBack: () => void;
  retry: () => void;
}

export function useCameraPreview(wanted: boolean, deviceId: string) {
  return usePreview('camera', openCamera, wanted, deviceId);
}

export function useMicrophonePreview(wanted: boolean, deviceId: string) {
  return usePreview('microphone', openMicrophone, wanted, deviceId);
}

type State<T> = { for: string; track?: T; problem?: Problem };

function usePreview<T extends LocalTrack>(
  device: 'camera' | 'microphone',
  open: (deviceId: string) => Promise<T>,
  wanted: boolean,
  deviceId: string,
): Preview<T> {
  const [attempt, setAttempt] = useState(0);
  const key = `${deviceId}#${attempt}`;
  const [state, setState] = useState<State<T>>({ for: '' });
  const given = useRef<T>(undefined);

  useEffect(() => {
    if (!wanted) return;
    let current = true;
    let opened: T | undefined;
    const close = () => {
      if (opened && opened !== given.current) opened.stop();
    };
    open(deviceId).then(
      (track) => {
        opened = track;
        if (current) setState({ for: key, track });
        else close();
      },
      (error: unknown) => {
        if (current) setState({ for: key, problem: deviceProblem(device, error) });
      },
    );
    return () => {
      current = false;
      close();
      setState({ for: '' });
    };
  }, [device, open, wanted, deviceId, key]);

  // The preview does not stop a track that it has already lent to the call, but mutes it at once.
  useEffect(() => {
    if (!wanted) void given.current?.mute();
  }, [wanted]);

  const settled = wanted && state.for === key ? state : undefined;
  const { track, problem } = settled ?? {};
  // The call takes the track some time after the button was pressed, so `take` must return the latest one.
  const latest = useRef({ track, wanted: false });
  useEffect(() => {
    latest.current = { track, wanted: wanted && !problem };
  }, [track, wanted, problem]);
  return {
    track,
    problem,
    opening: wanted && !settled,
    take: useCallback(() => {
      given.current = latest.current.track;
      return given.current;
    }, []),
    isWanted: useCallback(() => latest.current.wanted, []),
    giveBack: useCallback(() => {
      if (given.current !== latest.current.track) given.current?.stop();
      given.current = undefined;
    }, []),
    retry: useCallback(() => setAttempt((count) => count + 1), []),
  };
}

function openCamera(deviceId: string) {
  return createLocalVideoTrack({ resolution: VideoPresets.h720.resolution, ...chosen(deviceId) });
}

function openMicrophone(deviceId: string) {
  return createLocalAudioTrack({ echoCancellation: true, noiseSuppression: true, ...chosen(deviceId) });
}
