// The table of options as `tools/config-table.rs` prints it (src/config/option.rs says what each field means), and what all
// generated files say alike: units, ranges and defaults.

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {Kind} kind
 * @property {'absent' | { required: string } | { integer: number } | { number: number } | { text: string } | { flag: boolean } | { described: string }} default
 * @property {'milliseconds' | 'seconds' | 'bytes' | null} unit
 * @property {string} sentence
 * @property {string} note
 * @property {string | null} example
 *
 * @typedef {object} ObjectType
 * @property {string | null} name
 * @property {string} about
 * @property {ObjectType[]} includes
 * @property {Row[]} rows
 * @property {string} rules
 *
 * @typedef {{ kind: 'text', empty: 'allowed' | 'unreadable' | { refused: string }, max_bytes: number | null, pattern: string | null }
 *   | { kind: 'pem' } | { kind: 'file' } | { kind: 'flag' } | { kind: 'any' }
 *   | { kind: 'integer', min: number, max: number, is_listed: boolean }
 *   | { kind: 'number', min: number | null, max: number | null }
 *   | { kind: 'choice', words: string[] }
 *   | { kind: 'object', object: ObjectType }
 *   | { kind: 'list', item: Kind } | { kind: 'oneOrMore', item: Kind }
 *   | { kind: 'record', value: Kind, refused: string[] }
 *   | { kind: 'union', of: Kind[] }
 *   | { kind: 'named', name: string, about: string, of: Kind }
 *   | { kind: 'again', name: string }
 *   | { kind: 'code', typescript: string, phrase: string }} Kind
 */

const KIB = 1024
const BYTE_UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/**
 * All options of an object: those of the objects that it includes come first.
 *
 * @param {ObjectType} object
 * @returns {Row[]}
 */
export function rowsOf(object) {
  return [...object.includes.flatMap(rowsOf), ...object.rows]
}

/**
 * The integers that documents name one by one.
 *
 * @param {{ min: number, max: number }} kind
 */
export function listed({ min, max }) {
  return Array.from({ length: max - min + 1 }, (_, index) => min + index)
}

/** @param {Row} row */
export function isRequired(row) {
  return typeof row.default === 'object' && 'required' in row.default
}

/**
 * The default as it would be written in a configuration; undefined if there is none, or if it depends on something else.
 *
 * @param {Row} row
 */
export function defaultValue({ default: value }) {
  if (value === 'absent') return undefined
  if ('integer' in value) return value.integer
  if ('number' in value) return value.number
  if ('text' in value) return value.text
  if ('flag' in value) return value.flag
  return undefined
}

/**
 * The default in words, or undefined.
 *
 * @param {Row} row
 */
export function defaultText(row) {
  if (typeof row.default === 'object' && 'described' in row.default) return row.default.described
  const value = defaultValue(row)
  if (typeof value === 'string') return `'${value}'`
  if (typeof value === 'number') return amount(value, row.unit)
  return value === undefined ? undefined : String(value)
}

/**
 * `1048576 (1 MiB)` where it counts bytes, else `1048576`.
 *
 * @param {number} value
 * @param {Row['unit']} unit
 */
export function amount(value, unit) {
  if (unit !== 'bytes' || value < KIB) return String(value)
  let [size, power] = [value, -1]
  while (size % KIB === 0 && power + 1 < BYTE_UNITS.length) [size, power] = [size / KIB, power + 1]
  return power < 0 ? String(value) : `${value} (${size} ${BYTE_UNITS[power]})`
}

/**
 * The first kind with a range among those that an option takes: `1 to 64`.
 *
 * @param {Kind} kind
 * @param {Row['unit']} unit
 * @returns {string | undefined}
 */
export function rangeText(kind, unit) {
  if (kind.kind === 'union') return kind.of.map((one) => rangeText(one, unit)).find((text) => text !== undefined)
  if (kind.kind === 'integer' && !kind.is_listed) return `${amount(kind.min, unit)} to ${amount(kind.max, unit)}`
  if (kind.kind === 'number' && kind.min !== null && kind.max !== null) return `${kind.min} to ${kind.max}`
  return undefined
}

/**
 * The sentence of an option with its unit and, if asked for, its range: `… In milliseconds, 1 to 1000.`
 *
 * @param {Row} row
 * @param {{ withRange?: boolean }} [options]
 */
export function described(row, { withRange = true } = {}) {
  const range = withRange ? rangeText(row.kind, row.unit) : undefined
  if (row.unit) return `${row.sentence} In ${[row.unit, range].filter(Boolean).join(', ')}.`
  return range ? `${row.sentence} From ${range}.` : row.sentence
}

/**
 * Puts what is generated between a pair of marker lines, for every pair in the text.
 *
 * @param {string} text
 * @param {RegExp} pair global; its groups are the first line, what the markers name, what is between, and the last line
 * @param {(name: string) => string} generate
 */
export function replaceRegions(text, pair, generate) {
  if (text.search(pair) < 0) throw new Error(`there are no markers like ${pair}`)
  return text.replace(pair, (_, first, name, between, last) => `${first}${generate(name)}${last}`)
}
