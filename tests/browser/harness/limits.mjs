// Timeouts. Every wait has one. A machine shared with other jobs can be ten times slower than an idle one, so timeouts
// are long. Durations that have a budget are measured inside the page, by its own clock.

export const SERVER_START_MS = 30_000;
export const BROWSER_START_MS = 60_000;
export const EVENT_MS = Number(process.env.EVENT_MS ?? 45_000);
export const TEST_MS = 300_000;

/** Waits for `work`. After `ms` milliseconds it rejects with an error that names `what`. */
export async function within(ms, what, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Repeats `question` until its answer is truthy, and returns the answer. */
export async function until(what, question, ms = EVENT_MS) {
  const end = Date.now() + ms;
  let answer;
  do {
    answer = await question();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  } while (Date.now() < end);
  throw new Error(`${what}: not within ${ms / 1000} s`);
}

const started = Date.now();

/** Prints a line that shows the progress of a long run. */
export function progress(text) {
  console.log(`[${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s] ${text}`);
}
