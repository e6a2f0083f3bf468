// Records what one page sees and hears of one participant over time. All times are milliseconds since 1970, the clock
// that pages, test and link share.

const LEVEL_MS = 10;
const STATS_MS = 200;

export class Recorder {
  /**
   * `entry` returns the object that collects `frames` and has a `spectrum` to listen with; it is another object after
   * each join.
   */
  constructor(entry, connections) {
    this.entry = entry;
    this.connections = connections;
    this.began = performance.now();
    this.levels = [];
    this.stats = [];
    this.stalls = [];
    this.beat = performance.now();
    this.timers = [setInterval(() => this.listen(), LEVEL_MS), setInterval(() => void this.measure(), STATS_MS)];
    this.samples = new Float32Array(512);
  }

  end() {
    this.timers.forEach(clearInterval);
    const frames = this.entry().frames.filter((frame) => frame.at >= this.began - 200);
    return {
      began: toShared(this.began),
      ended: toShared(performance.now()),
      frames: frames.map(({ at, width, latency }) => ({ at: toShared(at), width, latency })),
      levels: this.levels,
      stats: this.stats,
      stalls: this.stalls,
    };
  }

  /** Records the audio level of the last 10 ms. */
  listen() {
    const now = performance.now();
    if (now - this.beat > 100) this.stalls.push({ at: toShared(this.beat), ms: now - this.beat });
    this.beat = now;
    const { spectrum } = this.entry();
    if (!spectrum) return;
    const whole = this.samples.length;
    spectrum.getFloatTimeDomainData(this.samples);
    const power = this.samples.reduce((sum, sample) => sum + sample * sample, 0) / whole;
    this.levels.push({ at: toShared(now), db: 10 * Math.log10(power + 1e-12) });
  }

  async measure() {
    const sample = { at: toShared(performance.now()) };
    const alive = this.connections().filter((connection) => connection.connectionState !== 'closed');
    for (const report of await Promise.all(alive.map((connection) => connection.getStats()))) {
      for (const entry of report.values()) {
        if (entry.type !== 'inbound-rtp') continue;
        if (entry.kind === 'audio') {
          const { concealedSamples, silentConcealedSamples, totalSamplesReceived, jitterBufferEmittedCount } = entry;
          Object.assign(sample, { concealedSamples, silentConcealedSamples, totalSamplesReceived, jitterBufferEmittedCount });
        } else {
          const { framesDecoded, framesDropped, frameWidth, freezeCount, totalFreezesDuration, pliCount, nackCount, keyFramesDecoded } = entry;
          Object.assign(sample, { framesDecoded, framesDropped, frameWidth, freezeCount, totalFreezesDuration, pliCount, nackCount, keyFramesDecoded });
        }
      }
    }
    this.stats.push(sample);
  }
}

function toShared(at) {
  return performance.timeOrigin + at;
}
