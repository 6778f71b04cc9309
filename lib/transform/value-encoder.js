'use strict'

// ValueEncoder: rows and single values as the CBOR that the engine reads. One for each thread of a transform.

const { RowEncoder } = require('../row-encoder.js')

class ValueEncoder {
  #rows = new RowEncoder()

  /**
   * The bytes of one row, which hold until the next call.
   *
   * @param {object} row
   * @param {number} place by which an error names it
   */
  row(row, place) {
    this.#rows.clear()
    this.#rows.add(row, place)
    return this.#rows.bytes
  }

  /** The bytes of one value of a column, which hold until the next call. */
  value(column, value, row) {
    const bytes = this.row({ [column]: value }, row)
    // An object of one member: a byte opens it, the key follows with its own head, and a byte ends it.
    const key = Buffer.byteLength(column)
    const head = key < 24 ? 1 : key < 0x100 ? 2 : 3
    return bytes.subarray(1 + head + key, bytes.length - 1)
  }
}

module.exports = { ValueEncoder }
