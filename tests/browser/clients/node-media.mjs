// Video and audio of the Node SDK, sent and received: time codes and tones like those of the pages.

import { AudioFrame, AudioSource, AudioStream, VideoBufferType, VideoFrame, VideoSource, VideoStream } from '@livekit/rtc-node';
import { encode, now } from '../pages/timecode.js';
import { codeIn, grey, SOUND_RATE } from './media.mjs';

const FRAMES_PER_SECOND = 15;
/** Number of samples in which the tone is detected. */
const WINDOW = SOUND_RATE * 0.3;

/** Video source that shows the time codes of a sender. */
export function picture(sender, { width, height }) {
  const source = new VideoSource(width, height);
  const size = width * height;
  const data = new Uint8Array(size + size / 2).fill(128);
  const draw = () => {
    data.set(grey(width, height, encode(sender, now())));
    source.captureFrame(new VideoFrame(data, width, height, VideoBufferType.I420));
  };
  draw();
  const timer = setInterval(draw, 1_000 / FRAMES_PER_SECOND);
  return {
    source,
    async close() {
      clearInterval(timer);
      await source.close();
    },
  };
}

/** Audio source of a tone, until it is closed. */
export function sound(tone) {
  const source = new AudioSource(SOUND_RATE, 1);
  const samples = SOUND_RATE / 50;
  let phase = 0;
  void (async () => {
    while (!source.closed) {
      const data = new Int16Array(samples);
      for (let i = 0; i < samples; i += 1) {
        data[i] = 12_000 * Math.sin(phase);
        phase += (2 * Math.PI * tone) / SOUND_RATE;
      }
      // The source takes as long as the audio lasts, which paces the loop.
      await source.captureFrame(new AudioFrame(data, SOUND_RATE, 1, samples)).catch(() => {});
    }
  })();
  return source;
}

/** Passes the time code of each frame of a track to `tell`; undefined if there is none. */
export async function watch(track, tell) {
  for await (const { frame } of new VideoStream(track)) {
    const { data, width, height } = frame.type === VideoBufferType.I420 ? frame : frame.convert(VideoBufferType.I420);
    tell(codeIn(data, width, height));
  }
}

/** Passes the last samples to `tell` at each frame of an audio track. */
export async function listen(track, tell) {
  const heard = new Float64Array(WINDOW);
  for await (const frame of new AudioStream(track, SOUND_RATE, 1)) {
    heard.copyWithin(0, frame.data.length);
    heard.set(Float64Array.from(frame.data, (sample) => sample / 32_768), WINDOW - frame.data.length);
    tell(heard);
  }
}
