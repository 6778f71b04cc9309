// Formats numbers for people.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** @param {number} number */
export const count = (number) => whole.format(number)

/** @param {number | undefined} value */
export const percent = (value) => (value === undefined ? '–' : `${value.toFixed(1)} %`)

/** @param {number} bytes */
export const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`

/** @param {number} ms */
export const milliseconds = (ms) => (ms < 10 ? ms.toFixed(1) : whole.format(ms))

/**
 * A table in Markdown, its columns aligned so that it reads as text too; the first to the left, the others to the
 * right.
 *
 * @param {string[]} head
 * @param {string[][]} rows
 */
export function markdown(head, rows) {
  const widths = head.map((name, at) => Math.max(name.length, 3, ...rows.map((row) => row[at].length)))
  const padded = (cell, at) => (at > 0 ? cell.padStart(widths[at]) : cell.padEnd(widths[at]))
  const line = (cells) => `| ${cells.map(padded).join(' | ')} |`
  const rule = widths.map((width, at) => (at ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}
