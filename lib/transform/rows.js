'use strict'

// Rows: what `batch.rows()` gives, an iterator that moves one row view over all rows.

const { ROW } = require('./row-view.js')

/** Walks a row view over a batch. */
class Rows {
  #context
  #view
  #result = { done: false, value: undefined }
  #next = 0

  constructor(context, view) {
    this.#context = context
    this.#view = view
    this.#result.value = view
  }

  [Symbol.iterator]() {
    return this
  }

  next() {
    if (this.#next >= this.#context.open().rows) return { done: true, value: undefined }
    this.#view[ROW] = this.#next++
    return this.#result
  }
}

module.exports = { Rows }
