import { describe, expect, test } from 'vitest';
import { figuresBetween, formatBitrate, formatLoss, layerOf, takeSample } from './stats';

const PAIR = { id: 'pair', type: 'candidate-pair', timestamp: 0, nominated: true, currentRoundTripTime: 0.0421 };
const TRANSPORT = { id: 'transport', type: 'transport', timestamp: 0, selectedCandidatePairId: 'pair' };
const CODEC = { id: 'codec', type: 'codec', timestamp: 0, mimeType: 'video/VP8' };

function inbound(change: object) {
  return {
    id: 'in',
    type: 'inbound-rtp',
    timestamp: 1_000,
    codecId: 'codec',
    bytesReceived: 10_000,
    packetsReceived: 100,
    packetsLost: 0,
    framesDecoded: 10,
    frameWidth: 640,
    frameHeight: 360,
    ...change,
  };
}

describe('what a receiver sees', () => {
  const before = takeSample([inbound({}), CODEC, TRANSPORT, PAIR]);
  const after = takeSample([
    inbound({ timestamp: 3_000, bytesReceived: 260_000, packetsReceived: 290, packetsLost: 10, framesDecoded: 70 }),
    CODEC,
    TRANSPORT,
    PAIR,
  ]);

  test('counters become figures per second', () => {
    expect(before && after && figuresBetween(before, after)).toEqual({
      width: 640,
      height: 360,
      framesPerSecond: 30,
      bitsPerSecond: 1_000_000,
      loss: 0.05,
      roundTripMs: 42.1,
      codec: 'VP8',
      sending: [],
    });
  });

  test('counters that start anew, as after a reconnect, do not become negative figures', () => {
    const figures = before && after && figuresBetween(after, { ...before, atMs: 4_000 });
    expect(figures).toMatchObject({ framesPerSecond: 0, bitsPerSecond: 0, loss: 0 });
  });
});

describe('what a sender sees', () => {
  const layer = (rid: string, width: number, active: boolean, packetsSent: number) => ({
    id: rid,
    type: 'outbound-rtp',
    timestamp: 1_000,
    rid,
    active,
    frameWidth: width,
    frameHeight: (width * 9) / 16,
    bytesSent: 1_000,
    packetsSent,
    framesEncoded: 5,
  });
  const sample = takeSample([
    layer('f', 1280, false, 0),
    layer('q', 320, true, 50),
    layer('h', 640, true, 50),
    { id: 'r', type: 'remote-inbound-rtp', timestamp: 1_000, packetsLost: 3 },
  ]);

  test('layers are listed from small to large, the sums run over all of them', () => {
    expect(sample?.sending.map((each) => [each.rid, each.active])).toEqual([
      ['q', true],
      ['h', true],
      ['f', false],
    ]);
    expect(sample).toMatchObject({ bytes: 3_000, packets: 100, lost: 3, width: 1280 });
  });
});

test('a report without a stream is no sample', () => {
  expect(takeSample([PAIR, TRANSPORT])).toBeUndefined();
});

describe('the layer of a received frame', () => {
  const three = [
    { width: 320, height: 180 },
    { width: 640, height: 360 },
    { width: 1280, height: 720 },
  ];
  test.each([
    [320, 180, three, 'q'],
    [640, 360, three, 'h'],
    [1280, 720, three, 'f'],
    // Under CPU load an encoder scales down every layer.
    [960, 540, three, 'f'],
    [480, 270, three, 'h'],
    // A phone held upright swaps width and height.
    [180, 320, three, 'q'],
    [720, 1280, [...three].reverse(), 'f'],
    [640, 360, three.slice(0, 2), 'h'],
    [640, 360, three.slice(1, 2), undefined],
    [640, 360, [], undefined],
    [0, 0, three, undefined],
  ])('%i x %i', (width, height, announced, layer) => {
    expect(layerOf({ width, height }, announced)).toBe(layer);
  });
});

test('numbers are short', () => {
  expect([formatBitrate(0), formatBitrate(437_600), formatBitrate(1_260_000)]).toEqual(['0 kbit/s', '438 kbit/s', '1.3 Mbit/s']);
  expect([formatLoss(0), formatLoss(0.004), formatLoss(0.25), formatLoss(1)]).toEqual(['0 %', '0.4 %', '25 %', '100 %']);
});
