// Notices about events in the call: transient messages on screen, and a live region for screen readers.

import { ConnectionState, RoomEvent, Track, type Participant, type RemoteTrackPublication, type Room } from 'livekit-client';
import { useConnectionState } from '@livekit/components-react';
import { useCallback, useEffect, useRef, useState } from 'react';
import { Icon } from '../ui/icon';

export interface Notice {
  id: number;
  text: string;
  tone: Tone;
}

/** `quiet` notices are for screen readers only. */
type Tone = 'news' | 'quiet' | 'problem';
export type Tell = (text: string, tone?: Tone) => void;

export function useNotices(room: Room): { notices: Notice[]; tell: Tell } {
  const [notices, setNotices] = useState<Notice[]>([]);
  const next = useRef(1);

  const tell = useCallback<Tell>((text, tone = 'news') => {
    const id = next.current++;
    setNotices((now) => [...now.slice(1 - MOST_AT_ONCE), { id, text, tone }]);
    setTimeout(() => setNotices((now) => now.filter((notice) => notice.id !== id)), tone === 'problem' ? 10_000 : 4_500);
  }, []);

  useEffect(() => {
    const joined = (who: Participant) => tell(`${nameOf(who)} joined`);
    const left = (who: Participant) => tell(`${nameOf(who)} left`);
    const shared = (publication: RemoteTrackPublication, who: Participant) => {
      if (publication.source === Track.Source.ScreenShare) tell(`${nameOf(who)} is sharing a screen`);
    };
    const unshared = (publication: RemoteTrackPublication, who: Participant) => {
      if (publication.source === Track.Source.ScreenShare) tell(`${nameOf(who)} stopped sharing`);
    };
    const back = () => tell('Connected again');
    room
      .on(RoomEvent.ParticipantConnected, joined)
      .on(RoomEvent.ParticipantDisconnected, left)
      .on(RoomEvent.TrackPublished, shared)
      .on(RoomEvent.TrackUnpublished, unshared)
      .on(RoomEvent.Reconnected, back);
    return () => {
      room
        .off(RoomEvent.ParticipantConnected, joined)
        .off(RoomEvent.ParticipantDisconnected, left)
        .off(RoomEvent.TrackPublished, shared)
        .off(RoomEvent.TrackUnpublished, unshared)
        .off(RoomEvent.Reconnected, back);
    };
  }, [room, tell]);

  return { notices, tell };
}

export function Notices({ notices }: { notices: Notice[] }) {
  return (
    <div className="notices" role="log" aria-live="polite" aria-label="Events">
      {notices.map((notice) => (
        <p key={notice.id} className="notice" data-tone={notice.tone}>
          {notice.text}
        </p>
      ))}
    </div>
  );
}

/** Shown while a problem lasts: the connection is being restored, or the browser blocks audio playback. */
export function Banner({ room }: { room: Room }) {
  const state = useConnectionState(room);
  const soundHeldBack = useSoundHeldBack(room);
  const reconnecting = state === ConnectionState.Reconnecting || state === ConnectionState.SignalReconnecting;
  return (
    <div className="banner" role="status">
      {reconnecting && (
        <p>
          <span className="spinner" aria-hidden="true" />
          {state === ConnectionState.SignalReconnecting
            ? 'The server does not answer. The call goes on; reconnecting…'
            : 'Connection lost. Reconnecting…'}
        </p>
      )}
      {!reconnecting && soundHeldBack && (
        <p>
          The browser keeps the sound off until you ask for it.
          <button type="button" className="chip" onClick={() => void room.startAudio()}>
            <Icon name="sound" size={18} /> Turn sound on
          </button>
        </p>
      )}
    </div>
  );
}

function useSoundHeldBack(room: Room): boolean {
  const [heldBack, setHeldBack] = useState(!room.canPlaybackAudio);
  useEffect(() => {
    const changed = () => setHeldBack(!room.canPlaybackAudio);
    room.on(RoomEvent.AudioPlaybackStatusChanged, changed);
    return () => void room.off(RoomEvent.AudioPlaybackStatusChanged, changed);
  }, [room]);
  return heldBack;
}

function nameOf(who: Participant): string {
  return who.name || who.identity;
}

const MOST_AT_ONCE = 4;
