import type { LocalVideoTrack } from 'livekit-client';
import { useEffect, useRef } from 'react';
import { initials } from '../lib/people';
import { Icon } from '../ui/icon';

interface Props {
  track: LocalVideoTrack | undefined;
  name: string;
  /** Text shown while there is no video. */
  caption: string;
}

export function Mirror({ track, name, caption }: Props) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = element.current;
    if (!track || !video) return;
    track.attach(video);
    return () => void track.detach(video);
  }, [track]);
  return (
    <>
      <video ref={element} className="mirrored" aria-label="Your camera" hidden={!track} autoPlay muted playsInline />
      {!track && (
        <div className="glass-empty">
          <span className="avatar">{name ? initials(name) : <Icon name="cameraOff" size={40} />}</span>
          <span className="soft">{caption}</span>
        </div>
      )}
    </>
  );
}
