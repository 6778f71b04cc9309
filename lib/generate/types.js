'use strict'

// describeTables(): prints TypeScript interfaces for the messages and the rows of each route. The engine describes the tables
// and says where each column comes from; this file turns that into text.

const { credentialsOf } = require('../credentials.js')
const { NativePipeline, callNative, configError, configToJson, unwrap } = require('../native.js')
const { printBatch } = require('./batch-types.js')
const { PathNode } = require('./path-node.js')
const { property, typesOf } = require('./typescript.js')

/**
 * A column of a route's table, as `src/check/generate_types.rs` describes it.
 *
 * @typedef {import('./typescript.js').Shape} Shape
 * @typedef {object} Column
 * @property {string} name
 * @property {string} type
 * @property {string} default_kind
 * @property {string} default_expression
 * @property {string} comment
 * @property {Shape | null} stored
 * @property {Shape | null} input
 * @property {boolean} required
 * @property {any} source where its value comes from, as `src/check/source.rs` says; null for a column that is not sent
 */

const PACKAGE = JSON.stringify('millrace')

const HEADER =
  '// Made by describeTables() of millrace from tables and mapping. When they change, make it anew rather than edit it.\n'

/**
 * @param {any} config
 * @param {{ tables?: boolean }} [options]
 */
async function describeTables(config, options = {}) {
  if (typeof options !== 'object' || options === null) throw configError('options', 'must be an object')
  for (const [name, value] of Object.entries(options)) {
    if (name !== 'tables') throw configError(`options.${name}`, 'is not an option; there is tables')
    if (value !== undefined && typeof value !== 'boolean') throw configError('options.tables', 'must be true or false')
  }
  const text = configToJson(config)
  const credentials = credentialsOf(config)
  if (options.tables) return printTables(unwrap(await callNative(() => NativePipeline.tables(text, credentials))))
  const described = unwrap(await callNative(() => NativePipeline.describe(text, credentials)))
  const { routes } = JSON.parse(text)
  // The engine's description does not repeat the options of the route.
  return print(described.map((description, i) => ({ route: routes[i], ...description })))
}

/** The columns of each table, for `definePipeline<Tables>()`. */
function printTables(tables) {
  const members = tables.map(({ table, columns }) => {
    const lines = columns.map((column) => {
      const types = typesOf(column.input, 'message').join(' | ')
      return `    /** ${docOf(column, [defaultNote(column)])} */\n    ${property(column.name)}: ${types}`
    })
    return `  ${property(table)}: {\n${lines.join('\n')}\n  }`
  })
  const doc = '/** The columns that rows of each table fill, for `definePipeline<Tables>()`. */'
  return `${HEADER}\n${doc}\nexport interface Tables {\n${members.join('\n')}\n}\n`
}

function print(descriptions) {
  const names = new Set(['Payloads', 'Rows'])
  const parts = [HEADER]
  const imports = new Set()
  const payloads = []
  const rows = new Map()
  for (const description of descriptions) {
    const { topic, table } = description.route
    const base = pascalCase(table)
    const payload = uniqueName(names, `${base}Payload`)
    parts.push(printPayload(payload, description))
    payloads.push(`  ${property(topic)}: ${payload}`)
    if (description.route.transform !== undefined) {
      const batch = printBatch(uniqueName(names, `${base}Batch`), batchColumns(description))
      parts.push(`/** The batch of the transform of \`${escapeComment(topic)}\`. */\n${batch.text}`)
      for (const name of batch.imports) imports.add(name)
    }
    if (rows.has(table)) continue
    const row = uniqueName(names, `${base}Row`)
    parts.push(printRow(row, description))
    rows.set(table, `  ${property(table)}: ${row}`)
  }
  parts.push(`/** By the topic of the route. */\nexport interface Payloads {\n${payloads.join('\n')}\n}\n`)
  parts.push(`/** By table. */\nexport interface Rows {\n${[...rows.values()].join('\n')}\n}\n`)
  if (imports.size > 0) parts.splice(1, 0, `import type { ${[...imports].sort().join(', ')} } from ${PACKAGE}\n`)
  return parts.join('\n')
}

/** The columns of a batch: those that rows fill, and the inputs. */
function batchColumns({ route, columns }) {
  const filled = columns.filter(({ source }) => source !== null)
  const inputs = Object.entries(route.inputs ?? {}).map(([name, { type }]) => ({ name, type, default_kind: '', comment: 'an input' }))
  return [...filled, ...inputs].map((column) => ({
    name: column.name,
    // ClickHouse makes a state of each value.
    type: column.values ?? column.type,
    // A row without a value has its DEFAULT computed by ClickHouse, or the state of no value.
    isNullable: column.default_kind === 'DEFAULT' || column.values !== undefined,
    doc: docOf(column, [column.source?.kind === 'computed' && 'computed', defaultNote(column)]),
  }))
}

function printPayload(name, { route, rows, columns }) {
  const document = new PathNode()
  const list = rows && document.at(rows.segments)
  list?.needList()
  const elsewhere = []
  for (const column of columns) {
    if (!column.input) continue
    const { source } = column
    if (source.kind === 'document') source.path = { root: 'Document', segments: [] }
    if (source.path) put(document, list?.element, source, leafOf(route, column, source))
    else elsewhere.push(`${column.name} (${elsewhereText(source)})`)
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

/** Where the value of a column comes from, if not from the payload. */
function elsewhereText({ kind, name, isNamed }) {
  switch (kind) {
    case 'topic':
      return isNamed ? `{${name}} of the topic` : 'the topic'
    case 'meta':
      return name
    case 'computed':
      return 'the transform'
    case 'lookup':
      return `the lookup ${name}`
    case 'userProperty':
      return `user property ${name}`
    default:
      return 'a constant'
  }
}

/** @param {InstanceType<typeof PathNode> | undefined} element an element of the list of rows, where the route has `rows` */
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
    // The decoder looks in the element first, then in the document.
    const isOptional = list === undefined || leaf.isOptional
    for (const node of [element, document]) putAt(node, { ...leaf, isOptional, isListNeeded: false })
  }
}

function leafOf(route, column, { list, path, unit, default: fallback }) {
  const isInList = list !== undefined
  const input = isInList ? column.input.parts[0] : column.input
  // A String column that is filled from the document takes any JSON; from a field it is meant for text.
  const isAnything = input.kind === 'String' && path.segments.length === 0
  const types = typesOf(input, 'message').filter((type) => type !== 'null')
  return {
    types: isAnything ? ['unknown'] : types,
    isOptional: isInList ? input.nullable || route.missingFields === 'zero' : !column.required,
    isListNeeded: isInList && column.required,
    isText: input.kind === 'String',
    doc: docOf(column, [timeNote(input, unit), defaultNote(column, fallback)]),
  }
}

const UNITS = { s: 'seconds', ms: 'milliseconds', us: 'microseconds', ns: 'nanoseconds' }

/** The unit of a number in a time column. */
function timeNote({ kind }, unit) {
  if (kind === 'TimeOfDay') return `\`hh:mm:ss\`, or ${UNITS[unit] ?? 'seconds'}`
  if (kind !== 'Time') return undefined
  return `RFC 3339, or ${UNITS[unit] ?? 's, ms, µs or ns (by magnitude)'} since 1970`
}

function defaultNote(column, fallback = undefined) {
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
    // `SELECT *` does not return computed columns.
    const isComputed = column.default_kind === 'MATERIALIZED' || column.default_kind === 'ALIAS'
    const note = isComputed && `${column.default_kind}: only where it is selected by name`
    const member = `${property(column.name)}${isComputed ? '?' : ''}: ${typesOf(column.stored, 'row').join(' | ')}`
    return [`  /** ${docOf(column, [note])} */`, `  ${member}`]
  })
  return `${head}export interface ${name} {\n${lines.join('\n')}\n}\n`
}

/** A column's type, notes, and the comment that the table has for it. */
function docOf(column, notes) {
  return escapeComment([`\`${column.type}\``, ...notes, column.comment].filter(Boolean).join('; '))
}

function comment(lines) {
  return `/**\n${lines.map((line) => ` * ${escapeComment(line)}\n`).join('')} */\n`
}

/** Text from elsewhere: it must end neither the comment nor the line. */
function escapeComment(text) {
  return text.replaceAll('*/', '*\\/').replace(/\s+/g, ' ')
}

function pascalCase(table) {
  const words = table.split(/[^\p{L}\p{N}]+/u).filter(Boolean)
  const name = words.map((word) => word[0].toUpperCase() + word.slice(1)).join('')
  return /^\p{L}/u.test(name) ? name : `Table${name}`
}

/** `name`, or `name2`, `name3`, … if that is taken. */
function uniqueName(names, name) {
  let chosen = name
  for (let i = 2; names.has(chosen); i++) chosen = `${name}${i}`
  names.add(chosen)
  return chosen
}

module.exports = { describeTables }
