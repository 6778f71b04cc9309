'use strict'

// TypeScript interfaces for the tables of a configuration: what a message of each route must look like, and what a row
// looks like.

const { NativePipeline } = require('../binding.js')
const { fromNative, toJson, unwrap } = require('./engine.js')
const { parsePath } = require('./paths.js')
const { Place } = require('./payload.js')
const { isNullable, property, typeWithFields, typesOf } = require('./typescript.js')
const { parseType } = require('./type-names.js')

/**
 * @typedef {{ name: string, type: string, default_kind: string, default_expression: string, comment: string }} Column
 */

async function describeTables(config) {
  const text = toJson(config)
  let answer
  try {
    answer = NativePipeline.describe(text)
  } catch (error) {
    throw fromNative(error)
  }
  const described = unwrap(await answer)
  const { routes } = JSON.parse(text)
  return printInterfaces(routes.map((route, i) => ({ ...route, tableColumns: described[i].columns })))
}

const HEADER =
  '// Made by describeTables() of millrace from tables and mapping. When they change, make it anew rather than edit it.\n'

/** @param {any[]} routes as the configuration has them, each with its `tableColumns` */
function printInterfaces(routes) {
  const names = new Set(['Payloads', 'Rows'])
  const parts = [HEADER]
  const payloads = []
  const rows = new Map()
  for (const route of routes) {
    const base = pascalCase(route.table)
    const payload = free(names, `${base}Payload`)
    parts.push(printPayload(payload, route))
    payloads.push(`  ${property(route.topic)}: ${payload}`)
    if (rows.has(route.table)) continue
    const row = free(names, `${base}Row`)
    parts.push(printRow(row, route))
    rows.set(route.table, `  ${property(route.table)}: ${row}`)
  }
  parts.push(`/** By the topic of the route. */\nexport interface Payloads {\n${unique(payloads)}\n}\n`)
  parts.push(`/** By table. */\nexport interface Rows {\n${[...rows.values()].join('\n')}\n}\n`)
  return parts.join('\n')
}

/** Two routes may have the same topic, though the second one then never sees a message. */
function unique(lines) {
  return [...new Map(lines.map((line) => [line.split(': ')[0], line])).values()].join('\n')
}

function printPayload(name, route) {
  const document = new Place()
  const rows = route.rows === undefined ? undefined : document.at(parsePath(route.rows).segments).element
  const elsewhere = []
  for (const column of route.tableColumns) {
    if (!isFilled(column)) continue
    const source = sourceOf(route, column)
    if (source.path === undefined) elsewhere.push(`${column.name} (${source.from})`)
    else put(document, rows, source, leafOf(route, column, source))
  }
  const lines = [
    `The payload of a message on \`${route.topic}\`, which becomes ${rows ? 'rows' : 'a row'} of \`${route.table}\`.`,
    route.unknownFields === 'reject' ? 'Other fields are refused.' : 'Other fields are ignored.',
  ]
  if (rows) lines.push('What is in the elements may also stand in the document: then it counts for all of them.')
  if (elsewhere.length > 0) lines.push(`Not from the payload: ${elsewhere.join(', ')}.`)
  if (document.isEmpty) lines.splice(1, 1, 'It is not read: it may be anything.')
  const head = comment(lines)
  const type = document.type('')
  return document.isObject ? `${head}export interface ${name} ${type}\n` : `${head}export type ${name} = ${type}\n`
}

/** Where a column's value comes from: from a path of the payload, or from elsewhere. */
function sourceOf(route, column) {
  const source = route.columns?.[column.name]
  if (source === undefined) {
    const levels = route.topic.split('/')
    if (levels.includes(`{${column.name}}`) || levels.includes(`{${column.name}#}`)) return { from: 'the topic' }
    return nestedPath(route, column.name) ?? { path: { from: undefined, segments: [column.name] } }
  }
  if (typeof source === 'string') return { path: parsePath(source) }
  if (source.path !== undefined) return { ...source, path: parsePath(source.path) }
  if (source.topic !== undefined) return { from: `{${source.topic}} of the topic` }
  if (source.meta !== undefined) return { from: source.meta }
  if (source.userProperty !== undefined) return { from: `user property ${source.userProperty}` }
  return { from: 'a constant' }
}

/** The columns of a Nested, `n.a Array(…)` and its kind, come from a list of objects. */
function nestedPath(route, name) {
  const dot = name.indexOf('.')
  if (dot <= 0) return undefined
  const prefix = name.slice(0, dot + 1)
  const family = route.tableColumns.filter((column) => column.name.startsWith(prefix))
  const isNested = family.every((column) => !route.columns?.[column.name] && parseType(column.type).name === 'Array')
  if (!isNested || family.length < 2) return undefined
  return { list: prefix.slice(0, -1), path: { from: undefined, segments: [name.slice(dot + 1)] } }
}

function put(document, rows, source, leaf) {
  const { from, segments } = source.path
  const target = (place) => (source.list === undefined ? place : place.at([source.list]).element).at(segments)
  if (!rows || from === '$') target(document).put(leaf)
  else if (from === '@') target(rows).put(leaf)
  else {
    // Looked for in the element, then in the document.
    for (const place of [rows, document]) target(place).put({ ...leaf, isOptional: true })
  }
}

function leafOf(route, column, { list, fields, unit, default: fallback }) {
  const type = list === undefined ? column.type : parseType(column.type).args[0]
  const hasDefault = column.default_kind === 'DEFAULT'
  const types = fields ? [typeWithFields(type, fields)] : typesOf(type, 'message').filter((text) => text !== 'null')
  const isMissingZero = route.missingFields === 'zero'
  return {
    types: types.length > 0 ? types : ['null'],
    isOptional: isNullable(type) || hasDefault || (fallback ?? null) !== null || isMissingZero,
    isText: innermost(type) === 'String',
    doc: docOf(column, [timeNote(type, unit), defaultNote(column, fallback)]),
  }
}

const UNITS = { s: 'seconds', ms: 'milliseconds', us: 'microseconds', ns: 'nanoseconds' }

/** What a number means in a column of a time type. */
function timeNote(type, unit) {
  const name = innermost(type)
  if (!['Date', 'Date32', 'DateTime', 'DateTime64'].includes(name)) return undefined
  return `RFC 3339, or ${UNITS[unit] ?? 's, ms, µs or ns (by magnitude)'} since 1970`
}

function defaultNote(column, fallback) {
  if ((fallback ?? null) !== null) return `${JSON.stringify(fallback)} if missing`
  if (column.default_kind === 'DEFAULT') return `\`${column.default_expression}\` if missing`
  return undefined
}

/** Without what is around it: the name of the type alone. */
function innermost(type) {
  const { name, args } = parseType(type)
  return name === 'Nullable' || name === 'LowCardinality' ? innermost(args[0]) : name
}

/** Whether the engine fills it. */
function isFilled(column) {
  const isOurs = column.default_kind === '' || column.default_kind === 'DEFAULT'
  return isOurs && parseType(column.type).name !== 'AggregateFunction'
}

function printRow(name, route) {
  const head = comment([
    `A row of \`${route.table}\`, as \`FORMAT JSONEachRow\` gives it.`,
    'Integers of 64 bits and more are texts with `output_format_json_quote_64bit_integers = 1`.',
  ])
  const lines = route.tableColumns.flatMap((column) => {
    if (column.default_kind === 'EPHEMERAL') return []
    // `SELECT *` leaves them out.
    const isComputed = column.default_kind === 'MATERIALIZED' || column.default_kind === 'ALIAS'
    const note = isComputed && `${column.default_kind}: only where it is selected by name`
    const member = `${property(column.name)}${isComputed ? '?' : ''}: ${typesOf(column.type, 'row').join(' | ')}`
    return [`  /** ${docOf(column, [note])} */`, `  ${member}`]
  })
  return `${head}export interface ${name} {\n${lines.join('\n')}\n}\n`
}

/** The type in ClickHouse, notes, and what people wrote about the column. */
function docOf(column, notes) {
  return harmless([`\`${column.type}\``, ...notes, column.comment].filter(Boolean).join('; '))
}

function comment(lines) {
  return `/**\n${lines.map((line) => ` * ${harmless(line)}\n`).join('')} */\n`
}

/** A text of others, so that it neither ends the comment nor its line. */
function harmless(text) {
  return text.replaceAll('*/', '*\\/').replace(/\s+/g, ' ')
}

function pascalCase(table) {
  const words = table.split(/[^\p{L}\p{N}]+/u).filter(Boolean)
  const name = words.map((word) => word[0].toUpperCase() + word.slice(1)).join('')
  return /^\p{L}/u.test(name) ? name : `Table${name}`
}

/** `name`, or with a number behind it if that is taken. */
function free(names, name) {
  let chosen = name
  for (let i = 2; names.has(chosen); i++) chosen = `${name}${i}`
  names.add(chosen)
  return chosen
}

module.exports = { describeTables, printInterfaces }
