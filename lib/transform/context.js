'use strict'

// Context: one call of the engine, as long as it lasts. A batch and its columns share it, so that all of them end at once.

const { MillraceError, callNative } = require('../native.js')
const { closed } = require('./refusal.js')

class Context {
  /** The native call; undefined once it is over. @type {any} */
  call
  /** How many rows the batch has. */
  rows

  /** @param {any} call */
  constructor(call) {
    this.call = call
    this.rows = call.rows
  }

  /** This context, while the call lasts. @throws {MillraceError} `INVALID_STATE` */
  open() {
    if (this.call === undefined) throw closed()
    return this
  }

  close() {
    this.call = undefined
  }
}

/**
 * Calls the engine. The path of its errors is a column here, and is called so.
 *
 * @template T
 * @param {() => T} call
 * @returns {T}
 */
function callEngine(call) {
  try {
    return callNative(call)
  } catch (error) {
    if (error instanceof MillraceError && error.path !== undefined) error.column = error.path
    throw error
  }
}

module.exports = { Context, callEngine }
