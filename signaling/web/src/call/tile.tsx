import {
  isTrackReference,
  useConnectionQualityIndicator,
  useIsMuted,
  useIsSpeaking,
  VideoTrack,
  type TrackReferenceOrPlaceholder,
} from '@livekit/components-react';
import { ConnectionQuality, Track } from 'livekit-client';
import type { Rect } from '../lib/grid';
import { hueOf, initials } from '../lib/people';
import { Icon } from '../ui/icon';
import { Overlay } from './overlay';

interface Props {
  trackRef: TrackReferenceOrPlaceholder;
  overlay: boolean;
  rect: Rect;
  large: boolean;
  pinned: boolean;
  onPin: () => void;
}

export function Tile({ trackRef, overlay, rect, large, pinned, onPin }: Props) {
  const { participant, source } = trackRef;
  const screen = source === Track.Source.ScreenShare;
  const speaking = useIsSpeaking(participant);
  const cameraMuted = useIsMuted(trackRef);
  const silent = useIsMuted({ participant, source: Track.Source.Microphone });
  const { quality } = useConnectionQualityIndicator({ participant });
  const name = participant.name || participant.identity;
  const label = screen ? `${participant.isLocal ? 'Your' : `${name}’s`} screen` : participant.isLocal ? `${name} (you)` : name;
  const picture = isTrackReference(trackRef) && !cameraMuted;

  return (
    <article
      className="tile"
      aria-label={label}
      data-speaking={speaking && !screen}
      data-screen={screen}
      data-large={large}
      style={{ ...rect, '--hue': hueOf(participant.identity) } as React.CSSProperties}
    >
      {picture ? (
        <VideoTrack trackRef={trackRef} className={participant.isLocal && !screen ? 'mirrored' : undefined} aria-label={`Picture of ${label}`} />
      ) : (
        <span className="avatar" aria-hidden="true">
          {initials(name)}
        </span>
      )}
      {overlay && isTrackReference(trackRef) && picture && <Overlay publication={trackRef.publication} />}
      <div className="tile-foot">
        <span className="name">
          {!screen && silent && (
            <span className="muted" role="img" aria-label="Microphone off">
              <Icon name="micOff" size={15} />
            </span>
          )}
          {label}
        </span>
        {quality === ConnectionQuality.Poor && (
          <span className="poor" role="img" aria-label="Weak connection" title="Weak connection">
            <Icon name="weak" size={15} />
          </span>
        )}
        {quality === ConnectionQuality.Lost && <span className="name">Connection lost</span>}
      </div>
      <button type="button" className="pin" aria-pressed={pinned} aria-label={`Show ${label} large`} title={pinned ? 'Back to the others' : 'Show large'} onClick={onPin}>
        <Icon name="pin" size={16} />
      </button>
    </article>
  );
}
