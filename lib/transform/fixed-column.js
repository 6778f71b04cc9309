'use strict'

// FixedColumn: a column of fixed width is a typed array. One class for all of them, so that engines compile `values` to a read of
// memory; what the types make of a cell is in cell-types.js and time-types.js.

const { Column, checkRow, notNullable } = require('./column.js')

class FixedColumn extends Column {
  #cells
  #cellType

  /**
   * @param {any} descriptor
   * @param {number} length
   * @param {InstanceType<typeof import('./cells.js').Cells>} cells
   * @param {CellType} cellType
   */
  constructor(descriptor, length, cells, cellType) {
    super(descriptor, length)
    this.#cells = cells
    this.#cellType = cellType
  }

  get values() {
    return this.#cells.exposed ?? this.#cells.expose()
  }

  get nulls() {
    return this.#cells.exposeNulls()
  }

  get(row) {
    const cells = this.#cells
    const values = cells.values ?? cells.load()
    checkRow(row, this)
    if (cells.isNull(row)) return null
    return this.#cellType.fromCell === undefined ? values[row] : this.#cellType.fromCell(values, row, this)
  }

  set(row, value) {
    const cells = this.#cells
    const values = cells.values ?? cells.load()
    checkRow(row, this)
    if (value === null || value === undefined) {
      if (cells.nulls === undefined) throw notNullable(this, row, value)
      cells.setNull(row)
    } else {
      this.#cellType.toCell(values, row, value, this)
      if (cells.nulls !== undefined) cells.nulls[row] = 0
    }
    cells.isWritten = true
  }
}

/** A column of times: `get` gives what JavaScript has for them, `ticks` all digits. */
class TimeColumn extends FixedColumn {
  #cells

  constructor(descriptor, length, cells, cellType) {
    super(descriptor, length, cells, cellType)
    this.#cells = cells
  }

  ticks(row) {
    const cells = this.#cells
    const values = cells.values ?? cells.load()
    checkRow(row, this)
    return cells.isNull(row) ? null : BigInt(values[row])
  }
}

/**
 * How a type reads and writes its cells.
 *
 * @typedef {object} CellType
 * @property {(values: any, row: number, column: { name: string, type: string }) => any} [fromCell] what `get` gives; the cell itself without it
 * @property {(values: any, row: number, value: any, column: { name: string, type: string }) => void} toCell checks a value that is not null, and writes it
 */

module.exports = { FixedColumn, TimeColumn }
