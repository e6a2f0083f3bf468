// Computes the statistics shown on a tile from `getStats`. Counters are cumulative, so rates need two samples.

export interface Sample {
  atMs: number;
  bytes: number;
  packets: number;
  lost: number;
  frames: number;
  width: number;
  height: number;
  roundTripMs: number | undefined;
  codec: string | undefined;
  /** Simulcast layers that a publisher sends, one entry each; empty on the receiving side. */
  sending: SendingLayer[];
}

export interface SendingLayer {
  rid: string;
  width: number;
  height: number;
  active: boolean;
}

export interface Figures {
  width: number;
  height: number;
  framesPerSecond: number;
  bitsPerSecond: number;
  /** Share of packets lost since the previous sample, 0 to 1. */
  loss: number;
  roundTripMs: number | undefined;
  codec: string | undefined;
  sending: SendingLayer[];
}

/** One published layer, as listed in the track's announcement. */
export interface AnnouncedLayer {
  width: number;
  height: number;
}

type Entry = Record<string, unknown> & { id: string; type: string; timestamp: number };

export function takeSample(report: Iterable<Entry>): Sample | undefined {
  const entries = [...report];
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  const streams = entries.filter((entry) => entry.type === 'inbound-rtp' || entry.type === 'outbound-rtp');
  const first = streams[0];
  if (!first) return undefined;

  const sample: Sample = {
    atMs: first.timestamp,
    bytes: 0,
    packets: 0,
    lost: 0,
    frames: 0,
    width: 0,
    height: 0,
    roundTripMs: roundTrip(entries),
    codec: codecName(byId.get(text(first.codecId))),
    sending: [],
  };
  for (const stream of streams) {
    const inbound = stream.type === 'inbound-rtp';
    sample.bytes += number(inbound ? stream.bytesReceived : stream.bytesSent);
    sample.packets += number(inbound ? stream.packetsReceived : stream.packetsSent);
    sample.frames = Math.max(sample.frames, number(inbound ? stream.framesDecoded : stream.framesEncoded));
    if (inbound) sample.lost += number(stream.packetsLost);
    if (number(stream.frameWidth) >= sample.width) {
      sample.width = number(stream.frameWidth);
      sample.height = number(stream.frameHeight);
    }
    if (!inbound && typeof stream.rid === 'string') {
      sample.sending.push({
        rid: stream.rid,
        width: number(stream.frameWidth),
        height: number(stream.frameHeight),
        active: stream.active === true,
      });
    }
  }
  // A publisher learns its packet loss from the receiver reports of the other side.
  for (const entry of entries) {
    if (entry.type === 'remote-inbound-rtp') sample.lost += number(entry.packetsLost);
  }
  sample.sending.sort((a, b) => a.width - b.width);
  return sample;
}

export function figuresBetween(before: Sample, after: Sample): Figures {
  const seconds = Math.max(0.001, (after.atMs - before.atMs) / 1000);
  const lost = Math.max(0, after.lost - before.lost);
  const packets = Math.max(0, after.packets - before.packets);
  const lossOf = after.sending.length > 0 ? packets : packets + lost;
  return {
    width: after.width,
    height: after.height,
    framesPerSecond: Math.max(0, after.frames - before.frames) / seconds,
    bitsPerSecond: (Math.max(0, after.bytes - before.bytes) * 8) / seconds,
    loss: lossOf === 0 ? 0 : Math.min(1, lost / lossOf),
    roundTripMs: after.roundTripMs,
    codec: after.codec,
    sending: after.sending,
  };
}

/**
 * Published layer to which a received frame belongs: q, h or f. Undefined while no frame has arrived, or if fewer than
 * two layers are announced.
 *
 * Only the long side is compared, because a phone held upright swaps the sides. The nearest layer is chosen, because
 * encoders scale down under load.
 */
export function layerOf(frame: AnnouncedLayer, announced: AnnouncedLayer[]): string | undefined {
  const size = Math.max(frame.width, frame.height);
  if (size === 0) return undefined;
  const sizes = announced.map((layer) => Math.max(layer.width, layer.height)).filter((side) => side > 0);
  sizes.sort((a, b) => a - b);
  if (sizes.length < 2) return undefined;
  let nearest = 0;
  for (let i = 1; i < sizes.length; i += 1) {
    if (Math.abs(Math.log(size / side(sizes, i))) < Math.abs(Math.log(size / side(sizes, nearest)))) nearest = i;
  }
  return RIDS[nearest];
}

export function formatBitrate(bitsPerSecond: number): string {
  if (bitsPerSecond < 1_000_000) return `${Math.round(bitsPerSecond / 1000)} kbit/s`;
  return `${(bitsPerSecond / 1_000_000).toFixed(1)} Mbit/s`;
}

export function formatLoss(loss: number): string {
  const percent = loss * 100;
  return percent > 0 && percent < 10 ? `${percent.toFixed(1)} %` : `${Math.round(percent)} %`;
}

function side(sizes: number[], index: number): number {
  return sizes[index] ?? 1;
}

function roundTrip(entries: Entry[]): number | undefined {
  const transport = entries.find((entry) => entry.type === 'transport');
  const selected = text(transport?.selectedCandidatePairId);
  const pair =
    entries.find((entry) => entry.type === 'candidate-pair' && entry.id === selected) ??
    entries.find((entry) => entry.type === 'candidate-pair' && entry.nominated === true);
  return typeof pair?.currentRoundTripTime === 'number' ? pair.currentRoundTripTime * 1000 : undefined;
}

function codecName(codec: Entry | undefined): string | undefined {
  return typeof codec?.mimeType === 'string' ? codec.mimeType.split('/')[1] : undefined;
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

const RIDS = ['q', 'h', 'f'] as const;
