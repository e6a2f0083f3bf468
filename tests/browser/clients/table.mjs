// Writes the results of a run into the table of docs/compatibility.md, between two marks.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';

const DOC = new URL('../../../docs/compatibility.md', import.meta.url);
const FOUND = new URL('../../../test-output/compatibility.json', import.meta.url);
const [BEGIN, END] = ['<!-- table: begin -->', '<!-- table: end -->'];
/** Habit -> heading of its column. */
const HEADS = {
  connect: 'connect',
  publish: 'publish',
  receive: 'receive',
  republish: 'republish',
  shares: '40 shares',
  data: 'data',
  resume: 'resume',
};

export function table(results) {
  const habits = Object.keys(HEADS);
  const heads = ['client', 'mode', ...Object.values(HEADS)];
  const rows = results.map(({ client, mode, cells }) => [client, mode, ...habits.map((habit) => say(cells[habit]))]);
  return [heads, heads.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function say(cell) {
  if (cell === 'ok') return 'yes';
  return cell === undefined ? 'not tried' : `no: ${cell}`;
}

/** Writes the results as JSON next to the screenshots of a run. */
export function record(results) {
  mkdirSync(new URL('.', FOUND), { recursive: true });
  writeFileSync(FOUND, `${JSON.stringify(results, null, 2)}\n`);
}

export function committed() {
  const [, middle] = parts();
  return middle.trim();
}

export function write(found) {
  const [before, , after] = parts();
  writeFileSync(DOC, `${before}${BEGIN}\n${found}\n${END}${after}`);
}

function parts() {
  const text = readFileSync(DOC, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`no marks in ${DOC.pathname}`);
  return [text.slice(0, begin), text.slice(begin + BEGIN.length, end), text.slice(end + END.length)];
}
