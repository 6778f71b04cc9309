'use strict'

// A CREATE TABLE for payloads like the samples: what the columns must hold, and what they are likely to.

const { isIP } = require('node:net')
const { configError } = require('../native.js')

/** A text that is longer than this, or seldom the same, is no word of a small dictionary. */
const WORD_LENGTH = 64
/** What has more parts than this has names that are data. */
const MOST_PARTS = 100

function proposeTable(samples, options = {}) {
  const { table, topic } = checked(options)
  if (typeof samples !== 'object' || typeof samples?.[Symbol.iterator] !== 'function') {
    throw configError('samples', 'must be a list of payloads')
  }
  const documents = [...samples].flatMap(readSample)
  const root = new FieldStats()
  for (const document of documents) root.add(document)
  const columns = columnsOf(root, namesIn(topic))
  if (columns.length === 0) throw configError('samples', 'have no fields: there is nothing to make columns of')

  const lines = columns.map(({ name, type, suffix }) => `    ${quoteName(name)} ${type}${suffix}`)
  const order = orderOf(columns).map(({ name }) => quoteName(name))
  return [
    `CREATE TABLE ${table.split(/\.(.*)/s).filter(Boolean).map(quoteName).join('.')}`,
    '(',
    lines.join(',\n'),
    ')',
    'ENGINE = MergeTree',
    `ORDER BY ${order.length > 0 ? `(${order.join(', ')})` : 'tuple()'}`,
    'SETTINGS non_replicated_deduplication_window = 1000',
  ].join('\n')
}

function checked(options) {
  if (typeof options !== 'object' || options === null) throw configError('options', 'must be an object')
  for (const [name, value] of Object.entries(options)) {
    if (name !== 'table' && name !== 'topic') throw configError(`options.${name}`, 'is not an option; there are table, topic')
    if (value !== undefined && (typeof value !== 'string' || value === '')) {
      throw configError(`options.${name}`, 'must be a text that is not empty')
    }
  }
  return { table: options.table ?? 'messages', topic: options.topic ?? '' }
}

/** An identifier in backticks. */
function quoteName(name) {
  return `\`${name.replace(/[\\`]/g, '\\$&')}\``
}

/** The `{name}` levels of a topic: columns of their own. */
function namesIn(topic) {
  return topic.split('/').flatMap((level) => /^\{(.+?)#?\}$/.exec(level)?.[1] ?? [])
}

/** A number as it is written: 12.0 is none of an integer column, and digits beyond 2^53 count. */
class NumberLiteral {
  constructor(text) {
    this.text = text
    this.value = Number(text)
  }

  get isInteger() {
    return /^-?\d+$/.test(this.text)
  }
}

/** Strings stay what they are; numbers become strings with a mark before them. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/gs
const MARK = '\u0000number '
const MARKED = JSON.stringify(MARK).slice(0, -1)

function readSample(sample, i) {
  let documents
  try {
    documents = documentsOf(textOf(sample))
  } catch (error) {
    throw configError(`samples[${i}]`, `is not JSON: ${error.message}`)
  }
  if (!documents.every(isObject)) throw configError(`samples[${i}]`, 'must be an object, or a list of objects')
  return documents
}

function textOf(sample) {
  if (typeof sample === 'string') return sample
  if (!(sample instanceof Uint8Array)) return JSON.stringify(sample) ?? ''
  return Buffer.from(sample.buffer, sample.byteOffset, sample.byteLength).toString()
}

/** One, those of a list, or those of the lines. */
function documentsOf(text) {
  try {
    return [parse(text)].flat()
  } catch (error) {
    const lines = text.split('\n').filter((line) => line.trim())
    if (lines.length < 2) throw error
    return lines.flatMap((line) => parse(line))
  }
}

function parse(text) {
  // Numbers that are none would be hidden by what follows.
  JSON.parse(text)
  return JSON.parse(text.replace(TOKEN, (token) => (token[0] === '"' ? token : `${MARKED}${token}"`)), withLiterals)
}

function withLiterals(_, value) {
  return typeof value === 'string' && value.startsWith(MARK) ? new NumberLiteral(value.slice(MARK.length)) : value
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof NumberLiteral)
}

/** All values that were seen in one place. */
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

  /** A field of objects like this is not in all of them, or null in some. */
  isMissing(field) {
    return field.count < this.objects || field.nulls > 0
  }

  get kinds() {
    return [this.booleans, this.numbers.length, this.strings.length, this.lists, this.objects].filter(Boolean).length
  }
}

function columnsOf(root, topicNames) {
  const inTopic = { type: 'LowCardinality(String)', suffix: '', isTopic: true, distinct: 0 }
  const columns = topicNames.map((name) => ({ name, ...inTopic }))
  for (const [name, field] of root.fields) {
    if (name === '' || topicNames.includes(name)) continue
    const distinct = new Set(field.strings).size || field.count
    columns.push({ name, isTopic: false, distinct, ...columnOf(field, name, root.isMissing(field)) })
  }
  return columns
}

function columnOf(field, name, isMissing) {
  if (field.kinds === 0) return { type: 'Nullable(String)', suffix: " COMMENT 'null in every sample'" }
  let type = typeOf(field, name)
  // ClickHouse takes lists whose names begin alike up to a dot for parts of one list of objects. To it a map is a list.
  if (/^(Array|Map)\(/.test(type) && name.includes('.')) type = 'String'
  if (!isMissing) return { type, suffix: '' }
  if (type.startsWith('Array(')) return { type, suffix: ' DEFAULT []' }
  if (type.startsWith('Map(')) return { type, suffix: ' DEFAULT map()' }
  // A Tuple has no value that means "nothing".
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

/** The type of a place, whether or not a value is missing there. A String takes anything, as it is written. */
function typeOf(stats, name) {
  // Numbers take booleans as 0 and 1, times do not.
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

/** The last word of a name that means a point in time, if the number can be one. */
const TIME_WORDS = new Set(
  `t ts at on time when date datetime epoch timestamp timestampms tsms created updated modified changed seen sent received
  recorded measured sampled logged start started begin end ended stop expires expiry`.split(/\s+/),
)
/** What is the time of the event itself, rather than one among others. */
const EVENT_TIME = /^(t|ts|at|time|timestamp)$/i

/** `lastSeen` and `last_seen` end with `seen`. */
function lastWord(name) {
  return name.split(/[^A-Za-z]+|(?<=[a-z])(?=[A-Z])/).filter(Boolean).at(-1)?.toLowerCase() ?? ''
}

/** As the engine reads `unit: 'auto'`: where each unit begins, in years 2000 to 2100, and the digits of a second. */
const UNITS = [
  [1, 3],
  [1e3, 3],
  [1e6, 6],
  [1e9, 9],
]
const YEAR_2000 = 946_684_800
const YEAR_2100 = 4_102_444_800

/** If these are points in time, all in one unit: how many digits of a second they need. */
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
  // No list can hold a list, or an object, or null.
  return isComposite(type) ? 'String' : `Array(${nullable(type)})`
}

function objectType(stats) {
  const fields = [...stats.fields]
  const isRecord = fields.some(([, field]) => field.count === stats.objects)
  const areParts = fields.length <= MOST_PARTS && fields.every(([name]) => isPart(name))
  if (!isRecord || !areParts) return mapType(stats) ?? freeType(stats)
  const parts = fields.map(([name, field]) => {
    const type = field.kinds === 0 ? 'String' : typeOf(field, name)
    if (!stats.isMissing(field)) return `${quoteName(name)} ${type}`
    // A part of a Tuple can be missing where it can be NULL.
    return isComposite(type) ? undefined : `${quoteName(name)} ${nullable(type)}`
  })
  return parts.includes(undefined) ? freeType(stats) : `Tuple(${parts.join(', ')})`
}

/**
 * Whether ClickHouse takes it for a name in a Tuple. With dots it does, but where `a.b` stands beside an `a` with a `b`, it
 * stores both in one place and cannot read them again.
 */
function isPart(name) {
  return name !== '' && name !== 'null' && !name.includes('.')
}

/** Of objects that have little in common. */
function freeType(stats) {
  return fitsJson(stats) ? 'JSON' : 'String'
}

/** A JSON column has numbers of 64 bits, and takes names with dots for paths. */
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

/** Names that differ from object to object, with values of one kind, are data: a Map. */
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

const ID_WORDS = new Set(
  'id uid uuid key name device sensor driver vehicle machine host node station site serial mac imei'.split(' '),
)
const ID_TYPE = /^(String|LowCardinality\(String\)|UUID|U?Int\d+|IPv[46])$/

/** Who, then when: the names of the topic, or the id that repeats most; and the first time. */
function orderOf(columns) {
  const ids = columns.filter(({ name, type }) => ID_WORDS.has(lastWord(name)) && ID_TYPE.test(type))
  const [id] = ids.sort((a, b) => a.distinct - b.distinct)
  const topic = columns.filter((column) => column.isTopic)
  const times = columns.filter(({ type }) => type.startsWith('Date'))
  const time = times.find(({ name }) => EVENT_TIME.test(name)) ?? times[0]
  return [...(topic.length > 0 ? topic : [id]), time].filter((column) => column !== undefined)
}

module.exports = { proposeTable }
