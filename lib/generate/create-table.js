'use strict'

// proposeTable(): derives a CREATE TABLE statement from sample payloads. Each column gets the type that holds every sample
// value, and that is likely to hold later ones.

const { EVENT_TIME, FieldStats, NumberLiteral, columnOf, hasTextsAlone, lastWord, parse, quoteName, withNumbers } = require('./column-types.js')
const { credentialsOf } = require('../credentials.js')
const { MillraceError, NativePipeline, NativeSamples, callNative, configError, configToJson, toJson, unwrap } = require('../native.js')

/** The options of a route that say how its payloads are read. */
const READING = ['format', 'compression', 'rows', 'nulls', 'nan', 'maxPayloadBytes']
function proposeTable(samples, options = {}) {
  const { table, topic, reading } = checked(options)
  if (typeof samples !== 'object' || typeof samples?.[Symbol.iterator] !== 'function') {
    throw configError('samples', 'must be a list of payloads')
  }
  const documents = [...samples].flatMap(reading ? engineReader(topic, reading) : readSample)
  const root = new FieldStats()
  for (const document of documents) root.add(document)
  const columns = columnsOf(root, namesIn(topic))
  if (columns.length === 0) throw configError('samples', 'have no fields: there is nothing to make columns of')

  return statementOf(table, columns)
}

/** The statement for a table of these columns, the database before its name if it has one. */
function statementOf(table, columns) {
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
  const { table, topic, ...others } = options
  for (const [name, value] of Object.entries({ table, topic })) {
    if (value !== undefined && (typeof value !== 'string' || value === '')) {
      throw configError(`options.${name}`, 'must be a text that is not empty')
    }
  }
  for (const name of Object.keys(others)) {
    if (READING.includes(name)) continue
    throw configError(`options.${name}`, `is not an option; there are ${['table', 'topic', ...READING].join(', ')}`)
  }
  const isRead = Object.values(others).some((value) => value !== undefined)
  return { table: table ?? 'messages', topic: topic ?? '', reading: isRead ? others : undefined }
}

/**
 * Reads samples as a route with these options does. A sample is a payload, or `{ topic, payload }` where the format needs the
 * topic.
 */
function engineReader(topic, reading) {
  const isSparkplug = reading.format === 'sparkplug'
  const sampleTopic = isSparkplug ? 'spBv1.0/group/NBIRTH/node' : 'samples'
  const filter = topic || (isSparkplug ? 'spBv1.0/#' : sampleTopic)
  const config = toJson({ mqtt: { url: 'mqtt://localhost' }, clickhouse: { url: 'http://localhost' }, routes: [{ ...reading, topic: filter, table: 'samples' }] }, 'options')
  const native = named('routes[0]', 'options', () => callNative(() => new NativeSamples(config)))
  const hasTexts = hasTextsAlone(reading.format)
  return (sample, i) => {
    const isMessage = isObject(sample) && typeof sample.topic === 'string' && 'payload' in sample
    const payload = bytesOf(isMessage ? sample.payload : sample)
    const rows = unwrap(native.read(`samples[${i}]`, isMessage ? sample.topic : sampleTopic, payload))
    return rows.map((row) => (hasTexts ? withNumbers(parse(row)) : parse(row)))
  }
}

/** Calls `work`; the path of an error that begins with `from` begins with `to` instead. */
function named(from, to, work) {
  try {
    return work()
  } catch (error) {
    const { code, message, path } = error
    if (!path?.startsWith(from)) throw error
    throw new MillraceError({ code, message: message.replace(from, to), path: path.replace(from, to) }, { cause: error })
  }
}

/** @param {string | Uint8Array | object} payload */
function bytesOf(payload) {
  if (payload instanceof Uint8Array) return payload
  return Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload) ?? '')
}

/** The names of a topic's `{name}` levels; each becomes a column. */
function namesIn(topic) {
  return topic.split('/').flatMap((level) => /^\{(.+?)#?\}$/.exec(level)?.[1] ?? [])
}

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

/** The documents of a payload: one, the elements of a list, or one per line. */
function documentsOf(text) {
  try {
    return [parse(text)].flat()
  } catch (error) {
    const lines = text.split('\n').filter((line) => line.trim())
    if (lines.length < 2) throw error
    return lines.flatMap((line) => parse(line))
  }
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof NumberLiteral)
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

const ID_WORDS = new Set(
  'id uid uuid key name device sensor driver vehicle machine host node station site serial mac imei'.split(' '),
)
const ID_TYPE = /^(String|LowCardinality\(String\)|UUID|U?Int\d+|IPv[46])$/

/** The ORDER BY: the topic's names, or else the id with the fewest different values; then the event's time. */
function orderOf(columns) {
  const ids = columns.filter(({ name, type }) => ID_WORDS.has(lastWord(name)) && ID_TYPE.test(type))
  const [id] = ids.sort((a, b) => a.distinct - b.distinct)
  const topic = columns.filter((column) => column.isTopic)
  const times = columns.filter(({ type }) => type.startsWith('Date'))
  const time = times.find(({ name }) => EVENT_TIME.test(name)) ?? times[0]
  return [...(topic.length > 0 ? topic : [id]), time].filter((column) => column !== undefined)
}

/**
 * Makes tables.
 *
 * @param {any} config whose ClickHouse has them
 * @param {string[]} statements
 */
async function createTables(config, statements) {
  unwrap(await NativePipeline.createTables(configToJson(config), credentialsOf(config), statements))
}

module.exports = { READING, columnsOf, createTables, engineReader, namesIn, proposeTable, statementOf }
