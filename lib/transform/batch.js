'use strict'

// Batch: what a transform gets. It is one call of the engine: open until the transform returns or its promise is settled.

const { callEngine } = require('./context.js')
const { noSuchRow, mismatch } = require('./refusal.js')
const { ROW } = require('./row-view.js')
const { Rows } = require('./rows.js')

const DROPPED = 1
const REJECTED = 2

class Batch {
  /** How many rows there are. */
  length
  /** The table of the route, as the configuration names it. */
  table
  /** Position in `routes`. */
  route
  /** The filter of the subscription, such as `drivers/+/position`. */
  topicFilter
  /** The columns by name. */
  columns
  #context
  #shape
  #list
  #cells
  #encoder
  #getSignal
  /** By row: 0, DROPPED or REJECTED. @type {Uint8Array | undefined} */
  #verdicts
  /** @type {Map<number, string> | undefined} */
  #reasons
  #emitted = 0
  #views

  /**
   * @param {{ table: string, route: number, topicFilter: string }} where
   * @param {InstanceType<typeof import('./context.js').Context>} context
   * @param {InstanceType<typeof import('./shape.js').Shape>} shape
   * @param {InstanceType<typeof import('./value-encoder.js').ValueEncoder>} encoder
   * @param {() => AbortSignal} getSignal
   */
  constructor({ table, route, topicFilter }, context, shape, encoder, getSignal) {
    const { list, byName, cells } = shape.columns(context)
    this.length = context.rows
    this.table = table
    this.route = route
    this.topicFilter = topicFilter
    this.columns = byName
    this.#context = context
    this.#shape = shape
    this.#list = list
    this.#cells = cells
    this.#encoder = encoder
    this.#getSignal = getSignal
  }

  drop(row) {
    const at = this.#rowOf(row)
    this.#verdicts ??= new Uint8Array(this.length)
    // A rejected row stays rejected: a dead letter can be looked at, a dropped row is gone.
    if (this.#verdicts[at] !== REJECTED) this.#verdicts[at] = DROPPED
  }

  reject(row, reason) {
    const at = this.#rowOf(row)
    if (typeof reason !== 'string') throw mismatch('reason', at, reason, 'a string')
    this.#verdicts ??= new Uint8Array(this.length)
    this.#verdicts[at] = REJECTED
    // The first reason counts.
    this.#reasons ??= new Map()
    if (!this.#reasons.has(at)) this.#reasons.set(at, reason)
  }

  emit(table, row) {
    const { call } = this.#context.open()
    const bytes = this.#encoder.row(row, this.#emitted)
    callEngine(() => call.emit(table, bytes))
    this.#emitted += 1
  }

  message(row) {
    const at = this.#rowOf(row)
    const { receivedAt, ...message } = callEngine(() => this.#context.call.message(at))
    return { ...message, receivedAt: new Date(receivedAt) }
  }

  rows() {
    this.#context.open()
    const view = new this.#shape.RowView(this.#list, this.#cells)
    this.#views ??= []
    this.#views.push(view)
    return new Rows(this.#context, view)
  }

  get signal() {
    this.#context.open()
    return this.#getSignal()
  }

  /** The number of a row, from a number or from a row view. */
  #rowOf(row) {
    this.#context.open()
    const at = typeof row === 'object' && row !== null && ROW in row ? row[ROW] : row
    if (typeof at !== 'number' || at >>> 0 !== at || at >= this.length) throw noSuchRow(at, this.length)
    return at
  }

  /**
   * Hands the engine what the transform did. Only the runner calls this; users see none of the static functions.
   *
   * @param {any} batch
   */
  static finish(batch) {
    const lost = []
    for (let i = 0; i < batch.#cells.length; i++) if (!batch.#cells[i].isIntact()) lost.push(batch.#list[i].name)
    if (lost.length > 0) {
      throw new Error(
        `the memory of ${lost.map((name) => `column ${name}`).join(', ')} was transferred or detached: copy an array before you transfer it`,
      )
    }
    callEngine(() => {
      for (const cells of batch.#cells) cells.writeBack()
    })
    const reasons = batch.#reasons === undefined ? '[]' : JSON.stringify([...batch.#reasons])
    batch.#context.call.finish(batch.#verdicts ?? null, reasons)
  }

  /** Ends the batch: whatever is done with it now is INVALID_STATE. */
  static close(batch, isPoisoned) {
    // Memory that is gone is replaced, also after a failure.
    for (const cells of batch.#cells) {
      cells.isIntact()
      cells.close(isPoisoned)
    }
    for (const view of batch.#views ?? []) batch.#shape.RowView.close(view)
    batch.#context.close()
  }
}

module.exports = { Batch }
