'use strict'

// Tap: calls a function of the program with samples of the rows of a route. They are a transform's batch to be read alone.

const { AsyncResource } = require('node:async_hooks')
const { Context } = require('./context.js')
const { Shape } = require('./shape.js')
const { Rows } = require('./rows.js')

class TapBatch {
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
  #views = []

  /**
   * @param {{ table: string, route: number, topicFilter: string }} where
   * @param {InstanceType<typeof Context>} context
   * @param {InstanceType<typeof Shape>} shape
   */
  constructor({ table, route, topicFilter }, context, shape) {
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
  }

  rows() {
    this.#context.open()
    const view = new this.#shape.RowView(this.#list, this.#cells)
    this.#views.push(view)
    return new Rows(this.#context, view)
  }

  /** Ends the batch: whatever is done with it now is INVALID_STATE. Only the tap calls this; users do not see it. */
  static close(batch, isPoisoned) {
    for (const cells of batch.#cells) {
      // Memory that was transferred is replaced.
      cells.isIntact()
      cells.close(isPoisoned)
    }
    for (const view of batch.#views) batch.#shape.RowView.close(view)
    batch.#context.close()
  }
}

class Tap {
  #where
  #fn
  #native
  #context = new AsyncResource('millrace.tap')
  #isPoisoned = process.env.NODE_ENV !== 'production'
  /** @type {InstanceType<typeof Shape> | undefined} */
  #shape
  #generation
  #isOpen = true

  /**
   * @param {any} pipeline of the engine
   * @param {{ table: string, route: number, topicFilter: string }} where
   * @param {number} everyMs
   * @param {(batch: any) => unknown} fn
   */
  constructor(pipeline, where, everyMs, fn) {
    this.#where = where
    this.#fn = fn
    this.#native = pipeline.tap(where.route, everyMs, (sample) => this.#take(sample))
  }

  close() {
    this.#isOpen = false
    this.#native.close()
  }

  #take(sample) {
    if (!this.#isOpen) return sample.close()
    let batch
    let result
    try {
      batch = this.#batch(sample)
      result = this.#context.runInAsyncScope(this.#fn, undefined, batch)
    } catch (error) {
      thrown(error)
    }
    if (typeof result?.then !== 'function') return this.#end(sample, batch)
    Promise.resolve(result).then(
      () => this.#end(sample, batch),
      (error) => {
        this.#end(sample, batch)
        thrown(error)
      },
    )
  }

  #batch(sample) {
    if (this.#shape === undefined || this.#generation !== sample.generation) {
      this.#shape = new Shape(JSON.parse(sample.columns()))
      this.#generation = sample.generation
    }
    return new TapBatch(this.#where, new Context(sample), this.#shape)
  }

  /** From now on the next sample may come. */
  #end(sample, batch) {
    if (batch !== undefined) TapBatch.close(batch, this.#isPoisoned)
    sample.close()
  }
}

/** An error of the program's function: as one of a listener, it is nobody's but the program's. */
function thrown(error) {
  queueMicrotask(() => {
    throw error
  })
}

module.exports = { Tap }
