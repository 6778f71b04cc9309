'use strict'

// Shape: what the columns of a route are like, until the table changes. It makes the columns of each batch, over memory that is
// kept from batch to batch.

const { Cells, KeptCells } = require('./cells.js')
const { cellType } = require('./cell-types.js')
const { FixedColumn, TimeColumn } = require('./fixed-column.js')
const { JsonColumn } = require('./json-column.js')
const { KeptMemory } = require('./kept-memory.js')
const { sampled } = require('./refusal.js')
const { columnsClass, rowViewClass } = require('./row-view.js')
const { TextColumn } = require('./text-column.js')
const { timeType } = require('./time-types.js')
const { converter } = require('./type-name.js')

/**
 * A column as the engine describes it.
 *
 * @typedef {object} Descriptor
 * @property {string} name
 * @property {string} type in full, as ClickHouse writes it
 * @property {string} kind a key of KINDS, 'text', or 'other'
 * @property {boolean} nullable
 * @property {boolean} input it is not a column of the table
 * @property {boolean} computed the transform fills it
 * @property {boolean} [default] ClickHouse computes a DEFAULT for rows without a value
 * @property {{ unit: 'day' | 'second' | 'ticks', precision: number, zone: string }} [time]
 * @property {[string, number][]} [enum]
 */

class Shape {
  /** The class of row views: one getter and setter for each column. */
  RowView
  #Columns
  #makers

  /**
   * @param {Descriptor[]} descriptors
   * @param {InstanceType<typeof import('./value-encoder.js').ValueEncoder>} [encoder] without it the columns are to be read alone
   */
  constructor(descriptors, encoder) {
    const makers = descriptors.map((descriptor, place) => maker(descriptor, place, encoder))
    this.#makers = encoder === undefined ? makers.map(readOnly) : makers
    const names = descriptors.map(({ name }) => name)
    this.#Columns = columnsClass(names)
    this.RowView = rowViewClass(descriptors, encoder === undefined)
  }

  /**
   * The columns of a batch: in order, by name, and the ends by which they are written back and closed.
   *
   * @param {InstanceType<typeof import('./context.js').Context>} context
   */
  columns(context) {
    const made = this.#makers.map((make) => make(context))
    const list = made.map(({ column }) => column)
    return { list, byName: new this.#Columns(list), cells: made.map(({ cells }) => cells) }
  }
}

/** Makes a column for a batch, with its cells; a column of text or of JSON has none beside itself. */
function maker(descriptor, place, encoder) {
  const { kind, time } = descriptor
  if (kind === 'text') {
    const memory = { bytes: new KeptMemory(Uint8Array), ends: new KeptMemory(Uint32Array), nulls: new KeptMemory(Uint8Array) }
    return (context) => same(new TextColumn(descriptor, context, place, memory))
  }
  if (kind === 'other') {
    const convert = converter(descriptor.type)
    return (context) => same(new JsonColumn(descriptor, context, place, convert, encoder))
  }
  const kept = new KeptCells(place, descriptor)
  const [Type, type] = time ? [TimeColumn, timeType({ ...descriptor, time })] : [FixedColumn, cellType(descriptor)]
  return (context) => {
    const cells = new Cells(context, kept)
    return { column: new Type(descriptor, context.rows, cells, type), cells }
  }
}

/** The same maker, of columns whose `set` refuses. */
function readOnly(make) {
  return (context) => {
    const made = make(context)
    made.column.set = () => {
      context.open()
      throw sampled()
    }
    return made
  }
}

const same = (column) => ({ column, cells: column })

module.exports = { Shape }
