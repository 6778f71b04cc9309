'use strict'

// Column: what columns of every kind have. The kinds differ in how values are laid out, in what `get` gives, and in what `set`
// takes.

const { mismatch, noSuchRow } = require('./refusal.js')

class Column {
  /** The name of the column. */
  name
  /** ClickHouse's type, in full. */
  type
  /** How many rows there are. */
  length

  /**
   * @param {{ name: string, type: string }} descriptor
   * @param {number} length
   */
  constructor({ name, type }, length) {
    this.name = name
    this.type = type
    this.length = length
  }
}

/** @throws {MillraceError} `OUT_OF_RANGE`, or `TYPE_MISMATCH` where it is not an integer */
function checkRow(row, { length, name }) {
  if (typeof row !== 'number' || row >>> 0 !== row || row >= length) throw noSuchRow(row, length, name)
}

/** The error of NULL in a column that has none. */
function notNullable({ name, type }, row, value) {
  return mismatch(name, row, value, `a value of ${type}, which has no NULL`)
}

module.exports = { Column, checkRow, notNullable }
