/** Prints a table as plain text; numbers are rounded and right-aligned. */
export function printTable(title, rows) {
  const heads = Object.keys(rows[0]);
  const cells = rows.map((row) => heads.map((head) => show(row[head])));
  const widths = heads.map((head, i) => Math.max(head.length, ...cells.map((row) => row[i].length)));
  const line = (row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  console.log(`\n${title}\n${line(heads)}\n${widths.map((width) => '-'.repeat(width)).join('  ')}\n${cells.map(line).join('\n')}\n`);
}

function show(value) {
  if (typeof value === 'number') return String(Math.round(value));
  return value === undefined ? '-' : String(value);
}
