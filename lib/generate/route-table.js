'use strict'

// proposeForRoute(): the CREATE TABLE statement for a route, from payloads that came for it: a column for each that the route maps, for
// each `{name}` of its topic, and for each field that is left.

const { FieldStats, NumberLiteral, columnOf } = require('./column-types.js')
const { READING, columnsOf, engineReader, namesIn, statementOf } = require('./create-table.js')

const WORD = 'LowCardinality(String)'
/** The types of values that do not come from a payload. */
const META = {
  topic: WORD,
  clientId: WORD,
  payload: 'String',
  receivedAt: "DateTime64(3, 'UTC')",
  qos: 'UInt8',
  retain: 'Bool',
}

/**
 * @param {any} route of a configuration
 * @param {{ topic: string, payload: string }[]} payloads in base64
 * @returns {string}
 */
function proposeForRoute(route, payloads) {
  const { topic, table, columns = {}, pivot } = route
  const reading = Object.fromEntries(Object.entries(route).filter(([name]) => READING.includes(name)))
  const read = engineReader(topic, reading)
  const rows = payloads.flatMap(({ topic, payload }, i) => {
    try {
      const values = read({ topic, payload: Buffer.from(payload, 'base64') }, i)
      // The payload is one field, whose name is a level of the topic. The engine gives one bare value as the field `value`.
      const bare = (row) => (Object.keys(row).join() === 'value' ? row.value : row)
      return pivot?.name ? values.map((row) => ({ [levelOf(route.topic, topic, pivot.name)]: bare(row) })) : values
    } catch {
      // It would be a dead letter, which `check --sample` shows.
      return []
    }
  })
  const root = new FieldStats()
  for (const row of rows) root.add(row)
  const mapped = Object.entries(columns).map(([name, source]) => ({ name, isTopic: false, distinct: 0, ...ofSource(source, name, rows) }))
  const taken = new Set([...Object.keys(columns), ...Object.values(columns).flatMap(firstFields)])
  const topics = namesIn(topic).filter((name) => name !== pivot?.name && !(name in columns) && !Object.values(columns).some((source) => source?.topic === name))
  const others = columnsOf(root, topics).filter(({ name, isTopic }) => isTopic || !taken.has(name))
  return statementOf(table, [...others.filter(({ isTopic }) => isTopic), ...mapped, ...others.filter(({ isTopic }) => !isTopic)])
}

/** The level of a topic that has this name in a filter. */
function levelOf(filter, topic, name) {
  const place = filter.split('/').findIndex((level) => level === `{${name}}` || level === `{${name}#}`)
  return topic.split('/')[place]
}

/** The type of a column that the route maps. */
function ofSource(source, name, rows) {
  const plain = (type) => ({ type, suffix: '' })
  if (typeof source === 'string' || Array.isArray(source) || source.path !== undefined) return ofPath(source, name, rows)
  if (source.topic !== undefined) return { ...plain(WORD), isTopic: true }
  if (source.meta !== undefined) return plain(META[source.meta])
  if (source.key !== undefined && source.lookup === undefined) return plain(WORD)
  if (source.value !== undefined && source.value !== null) {
    const stats = new FieldStats()
    stats.add(literal(source.value))
    return columnOf(stats, name, false)
  }
  // A transform fills it, or a map that is not known here, or a property that messages may lack.
  return plain('Nullable(String)')
}

function ofPath(source, name, rows) {
  const { path = source, map, parse, scale, offset, default: fallback } = typeof source === 'object' && !Array.isArray(source) ? source : {}
  const paths = [path].flat()
  const stats = new FieldStats()
  let missing = 0
  for (const row of rows) {
    let value = paths.map((one) => follow(row, one)).find((one) => one !== undefined && one !== null)
    if (value !== undefined && map) value = literal(map[text(value)] ?? map['*'] ?? null) ?? value
    if (value === undefined && fallback !== undefined && fallback !== null) value = literal(fallback)
    if (value === undefined) missing++
    else stats.add(value)
  }
  const isMissing = missing > 0 || stats.nulls > 0
  const isNumber = scale !== undefined || offset !== undefined || parse === 'number'
  if (isNumber) return { type: isMissing ? 'Nullable(Float64)' : 'Float64', suffix: '' }
  return columnOf(stats, name, isMissing)
}

const text = (value) => (value instanceof NumberLiteral ? value.text : String(value))

/** A value of the configuration as one of a payload. */
function literal(value) {
  if (typeof value === 'number') return new NumberLiteral(String(value))
  if (Array.isArray(value)) return value.map(literal)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, literal(item)]))
}

const STEP = /\[(-?\d+)\]|\['((?:[^'\\]|\\.)*)'\]|([^.[\]]+)/g

/** The steps of a path: names, places, and `*`. */
function stepsOf(path) {
  const steps = [...path.matchAll(STEP)].map(([, place, quoted, name]) => (place === undefined ? (quoted?.replace(/\\(.)/g, '$1') ?? name) : Number(place)))
  return steps[0] === '$' || steps[0] === '@' ? steps.slice(1) : steps
}

/** The value at a path of a row. */
function follow(row, path) {
  let values = [row]
  for (const step of stepsOf(path)) {
    values = values.flatMap((value) => {
      if (typeof step === 'number') return Array.isArray(value) ? [value.at(step)] : []
      if (typeof value !== 'object' || value === null || value instanceof NumberLiteral) return []
      return step === '*' ? Object.values(value) : [value[step]]
    })
  }
  return values.find((value) => value !== undefined && value !== null)
}

/** The fields of a row that a source reads. */
function firstFields(source) {
  const paths = typeof source === 'string' || Array.isArray(source) ? source : (source.path ?? [])
  return [paths].flat().map((path) => stepsOf(path)[0]).filter((step) => typeof step === 'string')
}

module.exports = { proposeForRoute }
