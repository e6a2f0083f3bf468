import { createAudioAnalyser, type LocalAudioTrack } from 'livekit-client';
import { useEffect, useRef } from 'react';

/** Level meter of the microphone. Drawn without React, because it changes with every animation frame. */
export function MicrophoneLevel({ track }: { track: LocalAudioTrack | undefined }) {
  const bar = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (!track) return;
    // The track is cloned, because closing the analyser must not stop the track that goes into the call.
    const { calculateVolume, cleanup } = createAudioAnalyser(track, { cloneTrack: true });
    let frame = requestAnimationFrame(function draw() {
      bar.current?.style.setProperty('--level', Math.min(1, calculateVolume() * 1.6).toFixed(3));
      frame = requestAnimationFrame(draw);
    });
    return () => {
      cancelAnimationFrame(frame);
      void cleanup();
    };
  }, [track]);
  return <span ref={bar} className="level" hidden={!track} aria-hidden="true" />;
}
