import type { Track, TrackPublication } from 'livekit-client';
import { useEffect, useState } from 'react';
import { figuresBetween, formatBitrate, formatLoss, layerOf, takeSample, type Figures, type Sample } from '../lib/stats';

export function Overlay({ publication }: { publication: TrackPublication }) {
  const figures = useFigures(publication.track);
  if (!figures) return <div className="overlay soft">Measuring…</div>;
  const sending = figures.sending.filter((layer) => layer.active && layer.width > 0);
  const layer = figures.sending.length > 0 ? sending.map((each) => each.rid).join(' ') || 'none' : received(publication, figures);
  return (
    <dl className="overlay">
      <Row term="Layer" value={[layer, figures.codec].filter(Boolean).join(' · ') || '–'} />
      <Row term="Size" value={figures.width ? `${figures.width} × ${figures.height}` : '–'} />
      <Row term="Frames" value={`${Math.round(figures.framesPerSecond)} /s`} />
      <Row term="Bitrate" value={formatBitrate(figures.bitsPerSecond)} />
      <Row term="Loss" value={formatLoss(figures.loss)} />
      <Row term="Round trip" value={figures.roundTripMs === undefined ? '–' : `${Math.round(figures.roundTripMs)} ms`} />
    </dl>
  );
}

function Row({ term, value }: { term: string; value: string }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function received(publication: TrackPublication, figures: Figures): string | undefined {
  const codecs = publication.trackInfo?.codecs ?? [];
  const codec = codecs.find((each) => each.mimeType.toLowerCase() === `video/${figures.codec?.toLowerCase()}`) ?? codecs[0];
  return layerOf(figures, codec?.layers ?? []);
}

function useFigures(track: Track | undefined): Figures | undefined {
  const [figures, setFigures] = useState<Figures>();
  useEffect(() => {
    if (!track) return;
    let before: Sample | undefined;
    const measure = async () => {
      const report = await track.getRTCStatsReport();
      const sample = report && takeSample(report.values());
      if (!sample) return;
      if (before && sample.atMs > before.atMs) setFigures(figuresBetween(before, sample));
      before = sample;
    };
    void measure();
    const timer = setInterval(() => void measure(), 1000);
    return () => clearInterval(timer);
  }, [track]);
  return figures;
}
