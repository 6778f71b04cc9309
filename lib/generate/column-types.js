'use strict'

// The column for the values of a field: the type that holds every value that was seen, and that is likely to hold later ones. For
// proposeTable(), and for tables that grow.

const { isIP } = require('node:net')

/** Only strings of up to 64 characters that repeat become LowCardinality. */
const WORD_LENGTH = 64
/** An object with more than 100 fields uses its names as data. */
const MAX_PARTS = 100

/** An identifier in backticks. */
function quoteName(name) {
  return `\`${name.replace(/[\\`]/g, '\\$&')}\``
}

/** A number with its digits: `12.0` is not an integer, and digits beyond 2^53 are kept. */
class NumberLiteral {
  constructor(text) {
    this.text = text
    this.value = Number(text)
  }

  get isInteger() {
    return /^-?\d+$/.test(this.text)
  }
}

/** Matches strings, which are left as they are, and numbers, which become strings with a mark in front. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/gs
const MARK = '\u0000number '
const MARKED = JSON.stringify(MARK).slice(0, -1)

function parse(text) {
  // Without this, the replacement below would accept malformed numbers.
  JSON.parse(text)
  return JSON.parse(text.replace(TOKEN, (token) => (token[0] === '"' ? token : `${MARKED}${token}"`)), withLiterals)
}

function withLiterals(_, value) {
  return typeof value === 'string' && value.startsWith(MARK) ? new NumberLiteral(value.slice(MARK.length)) : value
}

/** Statistics of all values seen in one field. */
class FieldStats {
  count = 0
  nulls = 0
  booleans = 0
  numbers = []
  strings = []
  lists = 0
  items
  objects = 0
  fields = new Map()

  add(value) {
    this.count++
    if (value === null) this.nulls++
    else if (typeof value === 'boolean') this.booleans++
    else if (typeof value === 'string') this.strings.push(value)
    else if (value instanceof NumberLiteral) this.numbers.push(value)
    else if (Array.isArray(value)) {
      this.lists++
      this.items ??= new FieldStats()
      for (const item of value) this.items.add(item)
    } else {
      this.objects++
      for (const [name, field] of Object.entries(value)) {
        if (!this.fields.has(name)) this.fields.set(name, new FieldStats())
        this.fields.get(name).add(field)
      }
    }
  }

  /** Whether a field is absent from some of these objects, or null in some. */
  isMissing(field) {
    return field.count < this.objects || field.nulls > 0
  }

  get kinds() {
    return [this.booleans, this.numbers.length, this.strings.length, this.lists, this.objects].filter(Boolean).length
  }
}

function columnOf(field, name, isMissing) {
  if (field.kinds === 0) return { type: 'Nullable(String)', suffix: " COMMENT 'null in every sample'" }
  let type = typeOf(field, name)
  // ClickHouse treats Array columns with the same name up to a dot as one Nested, and a Map as an Array.
  if (/^(Array|Map)\(/.test(type) && name.includes('.')) type = 'String'
  if (!isMissing) return { type, suffix: '' }
  if (type.startsWith('Array(')) return { type, suffix: ' DEFAULT []' }
  if (type.startsWith('Map(')) return { type, suffix: ' DEFAULT map()' }
  // A Tuple can be neither NULL nor empty.
  if (type.startsWith('Tuple(')) type = freeType(field)
  return type === 'JSON' ? { type, suffix: " DEFAULT '{}'" } : { type: nullable(type), suffix: '' }
}

function nullable(type) {
  const inner = /^LowCardinality\((.*)\)$/.exec(type)?.[1]
  return inner ? `LowCardinality(Nullable(${inner}))` : `Nullable(${type})`
}

function isComposite(type) {
  return /^(Array|Map|Tuple|JSON)/.test(type)
}

/** The type of a field, as if no value were missing. A String accepts any JSON, as it is written. */
function typeOf(stats, name) {
  // A number column stores booleans as 0 and 1; a time column cannot.
  if (stats.numbers.length > 0 && stats.kinds === (stats.booleans > 0 ? 2 : 1)) {
    return numberType(stats.numbers, stats.booleans > 0 ? '' : name)
  }
  if (stats.kinds !== 1) return 'String'
  if (stats.booleans > 0) return 'Bool'
  if (stats.strings.length > 0) return stringType(stats.strings)
  return stats.lists > 0 ? listType(stats.items) : objectType(stats)
}

const BITS_63 = 2n ** 63n
const BITS_64 = 2n ** 64n
const BITS_127 = 2n ** 127n

function numberType(numbers, name) {
  const digits = epochDigits(numbers, name)
  if (digits !== undefined) return dateTime(digits)
  if (!numbers.every(({ value }) => Number.isFinite(value))) return 'String'
  if (!numbers.every((number) => number.isInteger)) return 'Float64'
  const integers = numbers.map((number) => BigInt(number.text))
  if (areWithin(integers, -BITS_63, BITS_63)) return 'Int64'
  if (areWithin(integers, 0n, BITS_64)) return 'UInt64'
  return areWithin(integers, -BITS_127, BITS_127) ? 'Int128' : 'Float64'
}

function areWithin(integers, from, below) {
  return integers.every((integer) => integer >= from && integer < below)
}

/** A number is a point in time only if its name, or the last word of it, is one of these. */
const TIME_WORDS = new Set(
  `t ts at on time when date datetime epoch timestamp timestampms tsms created updated modified changed seen sent received
  recorded measured sampled logged start started begin end ended stop expires expiry`.split(/\s+/),
)
/** Names of the event's own time: it goes into ORDER BY before other times. */
const EVENT_TIME = /^(t|ts|at|time|timestamp)$/i

/** `lastSeen` and `last_seen` end with `seen`. */
function lastWord(name) {
  return name.split(/[^A-Za-z]+|(?<=[a-z])(?=[A-Z])/).filter(Boolean).at(-1)?.toLowerCase() ?? ''
}

/** Units as the engine's `unit: 'auto'` distinguishes them, for the years 2000 to 2100: scale, and digits of a second. */
const UNITS = [
  [1, 3],
  [1e3, 3],
  [1e6, 6],
  [1e9, 9],
]
const YEAR_2000 = 946_684_800
const YEAR_2100 = 4_102_444_800

/** The digits of a second that these points in time need; undefined unless all are points in time in one unit. */
function epochDigits(numbers, name) {
  if (!TIME_WORDS.has(name.toLowerCase()) && !TIME_WORDS.has(lastWord(name))) return undefined
  const fits = ([scale]) => numbers.every(({ value }) => value >= YEAR_2000 * scale && value < YEAR_2100 * scale)
  return UNITS.find(fits)?.[1]
}

function dateTime(digits) {
  return `DateTime64(${digits}, 'UTC')`
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const DAY = /^(\d{4})-(\d{2})-(\d{2})$/
const TIME = /^(\d{4}-\d{2}-\d{2})[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[-+]\d{2}(:?\d{2})?)?$/i

function stringType(strings) {
  const all = (/** @type {(text: string) => unknown} */ test) => strings.every((text) => test(text))
  if (all((text) => UUID.test(text))) return 'UUID'
  if (all((text) => isIP(text) === 4)) return 'IPv4'
  if (all((text) => isIP(text) === 6 && !text.includes('%'))) return 'IPv6'
  if (all((text) => isDay(text, '1970-01-01', '2149-06-06'))) return 'Date'
  if (all((text) => isDay(text, '1900-01-01', '2299-12-31'))) return 'Date32'
  if (all((text) => isDay(TIME.exec(text)?.[1] ?? '', '1900-01-02', '2299-12-30'))) return timeType(strings)
  const different = new Set(strings).size
  const isWord = all((text) => text.length <= WORD_LENGTH) && strings.length >= 4 && different * 2 <= strings.length
  return isWord ? 'LowCardinality(String)' : 'String'
}

/** With as many digits as were seen, in steps; nanoseconds do not reach far. */
function timeType(strings) {
  const haveAtMost = (digits) => strings.every((text) => (TIME.exec(text)?.[4] ?? '').length - 1 <= digits)
  if (haveAtMost(3)) return dateTime(3)
  const isNear = strings.every((text) => text.slice(0, 4) < '2262')
  return haveAtMost(6) || !isNear ? dateTime(6) : dateTime(9)
}

function isDay(text, first, last) {
  const [, year, month, day] = (DAY.exec(text) ?? []).map(Number)
  if (!day || text < first || text > last) return false
  const date = new Date(Date.UTC(year, month - 1, day))
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day
}

function listType(items) {
  const type = items.kinds === 0 ? 'String' : typeOf(items, '')
  if (items.nulls === 0) return `Array(${type})`
  // An Array of Nullable cannot hold arrays or objects.
  return isComposite(type) ? 'String' : `Array(${nullable(type)})`
}

function objectType(stats) {
  const fields = [...stats.fields]
  const isRecord = fields.some(([, field]) => field.count === stats.objects)
  const areParts = fields.length <= MAX_PARTS && fields.every(([name]) => isPart(name))
  if (!isRecord || !areParts) return mapType(stats) ?? freeType(stats)
  const parts = fields.map(([name, field]) => {
    const type = field.kinds === 0 ? 'String' : typeOf(field, name)
    if (!stats.isMissing(field)) return `${quoteName(name)} ${type}`
    // An element of a Tuple may be missing only if it is Nullable.
    return isComposite(type) ? undefined : `${quoteName(name)} ${nullable(type)}`
  })
  return parts.includes(undefined) ? freeType(stats) : `Tuple(${parts.join(', ')})`
}

/**
 * Whether a Tuple can have an element of this name. ClickHouse accepts names with dots, but it stores `a.b` in the same place as
 * element `b` of `a`, and then cannot read either.
 */
function isPart(name) {
  return name !== '' && name !== 'null' && !name.includes('.')
}

/** The type for objects without common fields. */
function freeType(stats) {
  return fitsJson(stats) ? 'JSON' : 'String'
}

/** A JSON column holds numbers of up to 64 bits, and splits names with dots into paths. */
function fitsJson({ numbers, fields, items }) {
  const integers = numbers.filter((number) => number.isInteger).map(({ text }) => BigInt(text))
  const inner = items ? [...fields.values(), items] : [...fields.values()]
  return (
    areWithin(integers, -BITS_63, BITS_64) &&
    numbers.every(({ value }) => Number.isFinite(value)) &&
    [...fields.keys()].every((name) => !name.includes('.')) &&
    inner.every(fitsJson)
  )
}

/** A Map, if the names differ from object to object and all values have one kind. */
function mapType(stats) {
  const all = new FieldStats()
  for (const { nulls, booleans, numbers, strings, lists, objects } of stats.fields.values()) {
    all.nulls += nulls
    all.booleans += booleans
    all.numbers = all.numbers.concat(numbers)
    all.strings = all.strings.concat(strings)
    all.lists += lists
    all.objects += objects
  }
  if (all.kinds !== 1 || all.lists + all.objects > 0) return undefined
  const type = typeOf(all, '')
  return `Map(String, ${all.nulls > 0 ? nullable(type) : type})`
}

/** Formats whose values are texts, numbers too. */
const TEXT_FORMATS = ['text', 'csv']

const hasTextsAlone = (format) => TEXT_FORMATS.includes(format) || TEXT_FORMATS.includes(format?.type)

/** Texts that are numbers become numbers, and empty ones are absent: the format has nothing but texts. */
function withNumbers(row) {
  const isNumber = (value) => typeof value === 'string' && /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/.test(value)
  const fields = Object.entries(row).map(([name, value]) => [name, isNumber(value) ? new NumberLiteral(value) : value])
  return Object.fromEntries(fields.map(([name, value]) => [name, value === '' ? null : value]))
}

module.exports = { EVENT_TIME, FieldStats, NumberLiteral, columnOf, hasTextsAlone, lastWord, parse, quoteName, withNumbers }
