'use strict'

// TypeScript interfaces for the tables of a configuration: what a message of each route must look like, and what a row
// looks like.

const { NativePipeline, callNative, configToJson, unwrap } = require('../native.js')
const { PathNode } = require('./path-node.js')
const { property, typesOf } = require('./typescript.js')

/**
 * A column of a route's table, as `src/describe.rs` describes it.
 *
 * @typedef {import('./typescript.js').Shape} Shape
 * @typedef {{ root: 'Either' | 'Document' | 'Element', segments: (string | number)[] }} Path
 * @typedef {object} Column
 * @property {string} name
 * @property {string} type
 * @property {string} default_kind
 * @property {string} default_expression
 * @property {string} comment
 * @property {Shape | null} kept
 * @property {Shape | null} taken
 * @property {boolean} required
 * @property {Path | null} path
 */

const HEADER =
  '// Made by describeTables() of millrace from tables and mapping. When they change, make it anew rather than edit it.\n'

async function describeTables(config) {
  const text = configToJson(config)
  const described = unwrap(await callNative(() => NativePipeline.describe(text)))
  const { routes } = JSON.parse(text)
  // What the engine says of a route, and what the user said of it.
  return print(described.map((description, i) => ({ route: routes[i], ...description })))
}

function print(descriptions) {
  const names = new Set(['Payloads', 'Rows'])
  const parts = [HEADER]
  const payloads = []
  const rows = new Map()
  for (const description of descriptions) {
    const { topic, table } = description.route
    const base = pascalCase(table)
    const payload = uniqueName(names, `${base}Payload`)
    parts.push(printPayload(payload, description))
    payloads.push(`  ${property(topic)}: ${payload}`)
    if (rows.has(table)) continue
    const row = uniqueName(names, `${base}Row`)
    parts.push(printRow(row, description))
    rows.set(table, `  ${property(table)}: ${row}`)
  }
  parts.push(`/** By the topic of the route. */\nexport interface Payloads {\n${payloads.join('\n')}\n}\n`)
  parts.push(`/** By table. */\nexport interface Rows {\n${[...rows.values()].join('\n')}\n}\n`)
  return parts.join('\n')
}

function printPayload(name, { route, rows, columns }) {
  const document = new PathNode()
  const list = rows && document.at(rows.segments)
  list?.needList()
  const elsewhere = []
  for (const column of columns) {
    if (!column.taken) continue
    const source = sourceOf(route, column)
    if (source.path) put(document, list?.element, source, leafOf(route, column, source))
    else elsewhere.push(`${column.name} (${source.from})`)
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

/**
 * Where a column's value comes from: from a path of the payload, or from elsewhere.
 *
 * @param {any} route
 * @param {Column} column
 */
function sourceOf(route, column) {
  const { columns = {} } = route
  const source = Object.hasOwn(columns, column.name) ? columns[column.name] : undefined
  if (column.path) return { ...(typeof source === 'object' && source), path: column.path }
  if (source === undefined) {
    const levels = route.topic.split('/')
    if (levels.includes(`{${column.name}}`) || levels.includes(`{${column.name}#}`)) return { from: 'the topic' }
    return nestedSource(column) ?? { path: { root: 'Either', segments: [column.name] } }
  }
  if (source.topic !== undefined) return { from: `{${source.topic}} of the topic` }
  if (source.meta !== undefined) return { from: source.meta }
  if (source.userProperty !== undefined) return { from: `user property ${source.userProperty}` }
  return { from: 'a constant' }
}

/** The columns of a Nested, `n.a Array(…)` and its kind, come from a list of objects. */
function nestedSource({ name, taken }) {
  const dot = name.indexOf('.')
  if (dot < 0 || taken.kind !== 'Array') return undefined
  return { list: name.slice(0, dot), path: { root: 'Either', segments: [name.slice(dot + 1)] } }
}

/** @param {InstanceType<typeof PathNode> | undefined} element what is in the list of rows */
function put(document, element, { list, path }, leaf) {
  const putAt = (node, leaf) => {
    if (list === undefined) return node.at(path.segments).put(leaf)
    const there = node.at([list])
    if (leaf.isListNeeded) there.needList()
    there.element.at(path.segments).put(leaf)
  }
  if (!element || path.root === 'Document') putAt(document, leaf)
  else if (path.root === 'Element') putAt(element, leaf)
  else {
    // Looked for in the element, then in the document.
    const isOptional = list === undefined || leaf.isOptional
    for (const node of [element, document]) putAt(node, { ...leaf, isOptional, isListNeeded: false })
  }
}

function leafOf(route, column, { list, path, unit, default: fallback }) {
  const isInList = list !== undefined
  const taken = isInList ? column.taken.parts[0] : column.taken
  // A text is meant where there is a name for it; a whole document is kept as it is written.
  const isAnything = taken.kind === 'String' && path.segments.length === 0
  const types = typesOf(taken, 'message').filter((type) => type !== 'null')
  return {
    types: isAnything ? ['unknown'] : types,
    isOptional: isInList ? taken.nullable || route.missingFields === 'zero' : !column.required,
    isListNeeded: isInList && column.required,
    isText: taken.kind === 'String',
    doc: docOf(column, [timeNote(taken, unit), defaultNote(column, fallback)]),
  }
}

const UNITS = { s: 'seconds', ms: 'milliseconds', us: 'microseconds', ns: 'nanoseconds' }

/** What a number means in a column of a time type. */
function timeNote({ kind }, unit) {
  if (kind === 'TimeOfDay') return `\`hh:mm:ss\`, or ${UNITS[unit] ?? 'seconds'}`
  if (kind !== 'Time') return undefined
  return `RFC 3339, or ${UNITS[unit] ?? 's, ms, µs or ns (by magnitude)'} since 1970`
}

function defaultNote(column, fallback) {
  if ((fallback ?? null) !== null) return `${JSON.stringify(fallback)} if missing`
  if (column.default_kind === 'DEFAULT') return `\`${column.default_expression}\` if missing`
  return undefined
}

function printRow(name, { route, columns }) {
  const head = comment([
    `A row of \`${route.table}\`, as \`FORMAT JSONEachRow\` gives it.`,
    'Integers of 64 bits and more are texts with `output_format_json_quote_64bit_integers = 1`.',
  ])
  const lines = columns.flatMap((column) => {
    if (column.default_kind === 'EPHEMERAL') return []
    // `SELECT *` leaves them out.
    const isComputed = column.default_kind === 'MATERIALIZED' || column.default_kind === 'ALIAS'
    const note = isComputed && `${column.default_kind}: only where it is selected by name`
    const member = `${property(column.name)}${isComputed ? '?' : ''}: ${typesOf(column.kept, 'row').join(' | ')}`
    return [`  /** ${docOf(column, [note])} */`, `  ${member}`]
  })
  return `${head}export interface ${name} {\n${lines.join('\n')}\n}\n`
}

/** The type in ClickHouse, notes, and what people wrote about the column. */
function docOf(column, notes) {
  return escapeComment([`\`${column.type}\``, ...notes, column.comment].filter(Boolean).join('; '))
}

function comment(lines) {
  return `/**\n${lines.map((line) => ` * ${escapeComment(line)}\n`).join('')} */\n`
}

/** A text of others, so that it neither ends the comment nor its line. */
function escapeComment(text) {
  return text.replaceAll('*/', '*\\/').replace(/\s+/g, ' ')
}

function pascalCase(table) {
  const words = table.split(/[^\p{L}\p{N}]+/u).filter(Boolean)
  const name = words.map((word) => word[0].toUpperCase() + word.slice(1)).join('')
  return /^\p{L}/u.test(name) ? name : `Table${name}`
}

/** `name`, or with a number behind it if that is taken. */
function uniqueName(names, name) {
  let chosen = name
  for (let i = 2; names.has(chosen); i++) chosen = `${name}${i}`
  names.add(chosen)
  return chosen
}

module.exports = { describeTables }
