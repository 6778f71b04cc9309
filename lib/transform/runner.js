'use strict'

// Runner: calls the user's function with each batch of a route, on one thread, one batch at a time. Whatever the function does, the
// engine gets an answer: finish or fail, once.

const { AsyncResource } = require('node:async_hooks')
const { inspect, types } = require('node:util')
const { Batch } = require('./batch.js')
const { Context } = require('./context.js')
const { Shape } = require('./shape.js')
const { ValueEncoder } = require('./value-encoder.js')

const RESOURCE = 'millrace.transform'

class Runner {
  #where
  #transform
  /** The context of AsyncLocalStorage in which the pipeline was started. Without it, calls would run in that of whatever ran last. */
  #context = new AsyncResource(RESOURCE)
  #encoder = new ValueEncoder()
  #isPoisoned = process.env.NODE_ENV !== 'production'
  /** @type {InstanceType<typeof Shape> | undefined} */
  #shape
  #generation
  /**
   * The call that is not answered yet. Held here, because nothing else may hold a promise that never settles: it would be collected
   * as garbage, with the call.
   */
  #open
  #abort
  #abortReason

  /**
   * @param {{ table: string, route: number, topicFilter: string }} where
   * @param {(batch: any) => unknown} transform
   */
  constructor(where, transform) {
    this.#where = where
    this.#transform = transform
  }

  /**
   * The engine calls this for each batch. It does not throw.
   *
   * @param {any} call
   */
  run = (call) => {
    if (this.#open !== undefined) return fail(call, new Error('the engine made a second call while the first was not answered'))
    this.#open = call
    let batch
    try {
      batch = this.#batch(call)
      const result = this.#call(batch)
      if (isThenable(result)) {
        Promise.resolve(result).then(
          () => this.#end(call, batch),
          (error) => this.#end(call, batch, toError(error)),
        )
        return
      }
    } catch (error) {
      return this.#end(call, batch, toError(error))
    }
    this.#end(call, batch)
  }

  /** Aborts the signal of the batches: the pipeline has stopped. */
  abort(reason) {
    this.#abortReason ??= reason
    this.#abort?.abort(reason)
  }

  #batch(call) {
    if (this.#shape === undefined || this.#generation !== call.generation) {
      this.#shape = new Shape(JSON.parse(call.columns()), this.#encoder)
      this.#generation = call.generation
    }
    return new Batch(this.#where, new Context(call), this.#shape, this.#encoder, () => this.#signal())
  }

  /** Calls the function in a context of its own, so that what one call enters is not there in the next. */
  #call(batch) {
    return this.#context.runInAsyncScope(() => new AsyncResource(RESOURCE).runInAsyncScope(this.#transform, undefined, batch))
  }

  #signal() {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      if (this.#abortReason !== undefined) this.#abort.abort(this.#abortReason)
    }
    return this.#abort.signal
  }

  /** Answers the call. */
  #end(call, batch, error) {
    let failure = error
    if (failure === undefined) {
      try {
        Batch.finish(batch)
      } catch (thrown) {
        failure = toError(thrown)
      }
    }
    if (failure !== undefined) fail(call, failure)
    if (batch !== undefined) Batch.close(batch, this.#isPoisoned)
    this.#open = undefined
  }
}

/** A batch of a pipeline that has ended takes no answer, and needs none. */
function fail(call, error) {
  try {
    call.fail(error.message, error.stack)
  } catch {
    // INVALID_STATE.
  }
}

const isThenable = (value) =>
  value !== null && (typeof value === 'object' || typeof value === 'function') && typeof value.then === 'function'

/** Makes an error with a message and a stack of any thrown value. */
function toError(thrown) {
  try {
    if (types.isNativeError(thrown) || thrown instanceof Error) {
      return { message: String(thrown.message) || String(thrown.name), stack: String(thrown.stack) }
    }
    const text = typeof thrown === 'string' ? thrown : inspect(thrown, { depth: 1 }).slice(0, 1000)
    return { message: text || 'an empty string was thrown', stack: `${text} (it was thrown, and is no Error: it has no stack)` }
  } catch {
    return { message: 'what was thrown cannot be printed', stack: '' }
  }
}

module.exports = { Runner }
