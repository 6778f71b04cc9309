'use strict'

// A ClickHouse for tests, over HTTP: it has the tables of its options, answers millrace's queries about
// them, and keeps inserted rows in memory. It computes nothing: a column that is left to its DEFAULT is
// absent from a row.

const { once } = require('node:events')
const { createServer } = require('node:http')
const { configError, createdTables } = require('../native.js')
const { readBlocks, unframe, unreadable } = require('./native.js')

const UNKNOWN_TABLE = 60
const NOT_IMPLEMENTED = 48

/**
 * @typedef {object} Table
 * @property {{ name: string, type: string, default_kind: string, default_expression: string }[]} columns
 * @property {Record<string, any>[]} rows
 */

class ClickHouse {
  /** How many queries were answered. */
  #queries = 0
  /** By `database.table`. @type {Map<string, Table>} */
  #tables = new Map()
  /** INSERTs that are in: a retry of one is not taken again. */
  #tokens = new Set()
  #server = createServer((request, response) => this.#answer(request, response))
  url = ''

  /** @param {Record<string, Record<string, string>> | string | string[]} tables the columns of each, or CREATE TABLE statements */
  constructor(tables) {
    this.#server.on('connection', (socket) => socket.unref())
    for (const [name, columns] of typeof tables === 'string' || Array.isArray(tables) ? ofStatements(tables) : ofColumns(tables)) {
      for (const { name: column, type } of columns) {
        const wrong = unreadable(type)
        if (wrong !== undefined) throw configError(`tables.${name}.${column}`, `millrace/testing has no columns of type ${wrong}`)
      }
      this.#tables.set(name, { columns, rows: [] })
    }
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#server.unref()
    this.url = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (this.#server.address()).port}`
  }

  async close() {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  /** @param {string} name `table` or `database.table` @returns {Record<string, any>[]} */
  rows(name) {
    const table = this.#find(name)
    if (!table) throw new Error(`there is no table ${name}: there are ${[...this.#tables.keys()].join(', ')}`)
    return table.rows
  }

  clear() {
    for (const table of this.#tables.values()) table.rows.length = 0
  }

  /** @param {string} name with or without its database @returns {Table | undefined} */
  #find(name) {
    return this.#tables.get(name) ?? this.#tables.get(name.slice(name.indexOf('.') + 1))
  }

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  async #answer(request, response) {
    try {
      const { searchParams } = new URL(request.url ?? '/', this.url)
      const chunks = []
      for await (const chunk of request) chunks.push(chunk)
      const body = Buffer.concat(chunks)
      const sql = searchParams.get('query') ?? body.toString()
      const rows = /^\s*INSERT\s/i.test(sql) ? this.#insert(sql, body, searchParams.get('insert_deduplication_token')) : this.#select(sql)
      // By one of its headers an INSERT is confirmed.
      const headers = { 'content-type': 'text/plain', 'X-ClickHouse-Query-Id': String(++this.#queries) }
      response.writeHead(200, headers).end(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
    } catch (error) {
      const { code = NOT_IMPLEMENTED, message } = /** @type {Error & { code?: number }} */ (error)
      const text = `Code: ${code}. DB::Exception: ${message} (version 26.7)\n`
      response.writeHead(500, { 'X-ClickHouse-Exception-Code': String(code) }).end(text)
    }
  }

  /** @param {string} sql @returns {object[]} */
  #select(sql) {
    if (/^SELECT 1$|^$/.test(sql.trim())) return [{ 1: 1 }]
    if (/^SELECT timezone\(\)/.test(sql)) return [{ zone: 'UTC' }]
    const [, database, name] = /WHERE database = '((?:[^'\\]|\\.)*)' AND (?:table|name) = '((?:[^'\\]|\\.)*)'/.exec(sql) ?? []
    const table = name === undefined ? undefined : this.#find(`${database}.${name}`)
    if (/ FROM system\.columns /.test(sql)) return (table?.columns ?? []).map((column) => ({ ...column, comment: '' }))
    if (/ FROM system\.tables /.test(sql)) {
      const settings = 'MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 1000'
      const row = { engine: 'MergeTree', engine_full: settings, dependencies_database: [], dependencies_table: [] }
      return table ? [row] : []
    }
    throw new Error(`the ClickHouse of millrace/testing does not know this statement: ${sql}`)
  }

  /** @param {string} sql @param {Buffer} body @param {string | null} token @returns {object[]} */
  #insert(sql, body, token) {
    const [, database, name] = /^INSERT INTO `((?:[^`\\]|\\.)+)`\.`((?:[^`\\]|\\.)+)`/.exec(sql) ?? []
    const table = this.#find(`${database}.${name}`)
    if (!table) throw Object.assign(new Error(`Table ${database}.${name} does not exist`), { code: UNKNOWN_TABLE })
    if (token !== null && this.#tokens.has(token)) return []
    table.rows.push(...readBlocks(unframe(body)).map((row) => withoutDefaults(row, table)))
    // Only what is in is remembered.
    if (token !== null) this.#tokens.add(token)
    return []
  }
}

/** @typedef {[string, Table['columns']]} Described a table's name and columns */

/** @param {string | string[]} statements @returns {Described[]} */
function ofStatements(statements) {
  return createdTables('tables', statements).map(({ database, name, columns }) => [database === null ? name : `${database}.${name}`, columns])
}

/** @param {Record<string, Record<string, string>>} tables @returns {Described[]} */
function ofColumns(tables) {
  return Object.entries(tables).map(([name, columns]) => [
    name,
    Object.entries(columns).map(([column, text]) => {
      const [, type, kind = '', expression = ''] = /^(.+?)(?:\s+(DEFAULT|MATERIALIZED|ALIAS|EPHEMERAL)\b\s*(.*))?$/is.exec(text) ?? []
      return { name: column, type, default_kind: kind.toUpperCase(), default_expression: expression }
    }),
  ])
}

/**
 * Leaves out what ClickHouse would compute: NULL in a column with a DEFAULT that cannot be NULL, or of states, and what the flag behind
 * it (`missing <column>`) says is missing.
 *
 * @param {Record<string, any>} row
 * @param {Table} table
 */
function withoutDefaults(row, { columns }) {
  const entries = columns.filter(({ name }) => name in row).map(({ name, type, default_kind }) => {
    const flag = Object.keys(row).find((key) => key !== name && key.startsWith('missing') && key.slice('missing'.length).trimStart() === name)
    const isLeft = (default_kind !== '' || type.startsWith('AggregateFunction(')) && (row[name] === null || (flag !== undefined && row[flag] === true))
    return isLeft ? [] : [[name, row[name]]]
  })
  return Object.fromEntries(entries.flat())
}

module.exports = { ClickHouse }
