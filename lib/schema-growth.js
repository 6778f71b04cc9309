'use strict'

// Tables that grow with their messages: a route with `schema: 'add-columns'` has its table get a column for a field that no column
// takes. The engine samples such fields and makes the ALTER; this file decides when a field becomes a column, and of what type, by
// the rules of proposeTable().

const { FieldStats, columnOf, hasTextsAlone, parse, withNumbers } = require('./generate/column-types.js')
const { unwrap } = require('./native.js')

/** The defaults of `addColumns`. */
const AFTER_MESSAGES = 20
const MAX_COLUMNS = 100
/** Fields of a route that are watched at once: names that are data would be without end. */
const MAX_WATCHED = 1_000
/** Before a column is tried again where ClickHouse could not be reached. */
const RETRY_MS = 5_000

class SchemaGrowth {
  #native
  #warn
  /** @type {Map<number, RouteGrowth>} by the place of the route */
  #routes = new Map()

  /**
   * @param {any} native
   * @param {(warning: object) => void} warn
   */
  constructor(native, warn) {
    this.#native = native
    this.#warn = warn
  }

  /** A route of the configuration, or one that was added while the pipeline runs. */
  watch(place, { table, format, addColumns }) {
    this.#routes.set(place, new RouteGrowth(place, table, hasTextsAlone(format), addColumns))
  }

  /** Takes the unknown fields of one message: JSON, an object for each of its rows. */
  take({ route, rows }) {
    const growth = this.#routes.get(route)
    if (!growth || growth.isOver) return
    const parsed = rows.map(parse)
    for (const name of growth.add(growth.hasTexts ? parsed.map(withNumbers) : parsed)) this.#addColumn(growth, name)
  }

  async #addColumn(growth, name) {
    const { stats, messages } = growth.fields.get(name)
    const { type, suffix } = columnOf(stats, name, true)
    const { route, table, maxColumns } = growth
    const column = JSON.stringify(name)
    growth.busy.add(name)
    try {
      const result = unwrap(await this.#native.addColumn(route, name, `${type}${suffix}`))
      growth.settle(name)
      if (result === 'added') {
        const message = `${table}: the column ${name} ${type} was added: ${messages} sampled messages had the field, and no column took it`
        this.#warn({ code: 'SCHEMA_EXTENDED', message, table, route, column: name })
      } else if (result === 'full' && !growth.isOver) {
        this.#end(growth)
        const message = `${table}: the field ${column} gets no column: ${maxColumns} have been added, which is addColumns.maxColumns; the table stays as it is`
        this.#warn({ code: 'SCHEMA_FULL', message, table, route, column: name })
      }
    } catch (error) {
      const { code, message: reason } = error
      if (code === 'CLICKHOUSE_UNREACHABLE') return growth.retryLater(name)
      growth.settle(name)
      if (growth.isOver) return
      this.#end(growth)
      const message = `${table}: the column ${column} could not be added, and no other will be until the next start: ${reason}`
      this.#warn({ code: 'SCHEMA_REFUSED', message, table, route, column: name, reason, errorCode: code })
    } finally {
      growth.busy.delete(name)
    }
  }

  #end(growth) {
    growth.isOver = true
    growth.fields.clear()
    this.#native.endGrowth(growth.route)
  }
}

/** The fields of one route that no column takes. */
class RouteGrowth {
  isOver = false
  /** @type {Map<string, { stats: InstanceType<typeof FieldStats>, messages: number, retryAt: number }>} */
  fields = new Map()
  /** Whose column is being added. */
  busy = new Set()
  /** Fields that have a column, or will never have one. */
  #settled = new Set()

  constructor(route, table, hasTexts, { afterMessages = AFTER_MESSAGES, maxColumns = MAX_COLUMNS } = {}) {
    this.route = route
    this.table = table
    /** The format has nothing but texts. */
    this.hasTexts = hasTexts
    this.afterMessages = afterMessages
    this.maxColumns = maxColumns
  }

  /**
   * Adds the unknown fields of a message.
   *
   * @param {object[]} rows
   * @returns {string[]} the fields that are due for a column
   */
  add(rows) {
    const seen = new Set()
    for (const row of rows) {
      for (const [name, value] of Object.entries(row)) {
        if (name === '' || this.#settled.has(name) || this.busy.has(name)) continue
        let field = this.fields.get(name)
        if (!field) {
          if (this.fields.size >= MAX_WATCHED) continue
          field = { stats: new FieldStats(), messages: 0, retryAt: 0 }
          this.fields.set(name, field)
        }
        field.stats.add(value)
        if (value !== null && !seen.has(name)) field.messages++
        if (value !== null) seen.add(name)
      }
    }
    return [...seen].filter((name) => {
      const { messages, retryAt } = this.fields.get(name)
      return messages >= this.afterMessages && Date.now() >= retryAt
    })
  }

  settle(name) {
    this.fields.delete(name)
    this.#settled.add(name)
  }

  retryLater(name) {
    const field = this.fields.get(name)
    if (field) field.retryAt = Date.now() + RETRY_MS
  }
}

module.exports = { SchemaGrowth }
