import type { TrackReferenceOrPlaceholder } from '@livekit/components-react';
import { useSpeakingParticipants } from '@livekit/components-react';
import { Track } from 'livekit-client';
import { useEffect, useRef, useState } from 'react';
import { placeGrid, placeSpeaker, type Box } from '../lib/grid';
import type { View } from '../lib/memory';
import { Icon } from '../ui/icon';
import { Tile } from './tile';

type Tracks = TrackReferenceOrPlaceholder[];

interface Props {
  tracks: Tracks;
  view: View;
  overlay: boolean;
}

/**
 * Shows the tiles. In every view all tiles are children of one box, and only their positions differ. An element that
 * stays in the page keeps its video frame, its requested layer and the keyboard focus.
 */
export function Stage({ tracks, view, overlay }: Props) {
  const [ref, box] = useBox();
  const [asked, setPage] = useState(0);
  const [pinned, setPinned] = useState<string>();
  const speaker = useLastSpeaker();

  const all = ordered(tracks);
  const shown = all.some((track) => keyOf(track) === pinned) ? pinned : undefined;
  const main = view === 'speaker' || shown ? mainOf(all, shown, speaker) : undefined;
  const others = all.filter((track) => track !== main);
  const placement = main
    ? placeSpeaker(others.length, asked, box, GAP)
    : placeGrid(others.length, asked, box, { gap: GAP, minTileWidth: box.width < 600 ? 150 : 220 });
  const page = Math.min(asked, placement.pages - 1);
  const here = others.slice(page * placement.perPage, (page + 1) * placement.perPage);
  const places = new Map((main ? [main, ...here] : here).map((track, index) => [track, placement.rects[index]]));

  return (
    <main className="stage" aria-label="People" data-view={main ? 'speaker' : 'grid'}>
      <div ref={ref} className="stage-box">
        {all.map((track) => {
          const rect = places.get(track);
          const key = keyOf(track);
          return (
            rect &&
            rect.width > 0 && (
              <Tile
                key={key}
                trackRef={track}
                overlay={overlay}
                rect={rect}
                large={track === main}
                pinned={key === shown}
                onPin={() => setPinned(key === shown ? undefined : key)}
              />
            )
          );
        })}
      </div>
      {placement.pages > 1 && (
        <nav className="pages" aria-label="Pages of people">
          <button type="button" className="plain" aria-label="Page before" disabled={page === 0} onClick={() => setPage(page - 1)}>
            <Icon name="left" size={18} />
          </button>
          <span>
            {page + 1} / {placement.pages}
          </span>
          <button type="button" className="plain" aria-label="Next page" disabled={page === placement.pages - 1} onClick={() => setPage(page + 1)}>
            <Icon name="right" size={18} />
          </button>
        </nav>
      )}
    </main>
  );
}

/** Sorts by shared screens, people in order of joining, then the local participant, so that tiles keep their places. */
function ordered(tracks: Tracks): Tracks {
  const rank = (track: TrackReferenceOrPlaceholder) => (isScreen(track) ? 0 : track.participant.isLocal ? 2 : 1);
  return [...tracks].sort((a, b) => rank(a) - rank(b) || joinedAt(a) - joinedAt(b));
}

function mainOf(tracks: Tracks, pinned: string | undefined, speaker: string | undefined) {
  return (
    tracks.find((track) => keyOf(track) === pinned) ??
    tracks.find((track) => isScreen(track) && !track.participant.isLocal) ??
    tracks.find((track) => !isScreen(track) && track.participant.identity === speaker) ??
    tracks.find((track) => !track.participant.isLocal) ??
    tracks[0]
  );
}

/** Identity of the last remote speaker. It remains when nobody speaks, so that the large tile does not change. */
function useLastSpeaker(): string | undefined {
  const speaking = useSpeakingParticipants().find((participant) => !participant.isLocal)?.identity;
  const [last, setLast] = useState(speaking);
  if (speaking && speaking !== last) setLast(speaking);
  return last;
}

function useBox() {
  const ref = useRef<HTMLDivElement>(null);
  const [box, setBox] = useState<Box>({ width: 0, height: 0 });
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setBox({ width: element.clientWidth, height: element.clientHeight }));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, box] as const;
}

function keyOf(track: TrackReferenceOrPlaceholder): string {
  return `${track.participant.identity}/${track.source}`;
}

function isScreen(track: TrackReferenceOrPlaceholder): boolean {
  return track.source === Track.Source.ScreenShare;
}

function joinedAt(track: TrackReferenceOrPlaceholder): number {
  return track.participant.joinedAt?.getTime() ?? 0;
}

const GAP = 10;
