'use strict'

// JsonColumn: a column of a type that is neither of fixed width nor a text, such as a Decimal, a UUID, a list or a map. All its
// values cross as one JSON text when one is read; what is set crosses by itself, so that the engine checks it at once.

const { Column, checkRow, notNullable } = require('./column.js')
const { callEngine } = require('./context.js')

class JsonColumn extends Column {
  #context
  #place
  #isNullable
  #convert
  #encoder
  /** @type {any[] | undefined} */
  #values
  /** Rows whose value is what `get` gives: it was converted, or set. */
  #ready
  /** Values that were set before the column crossed. @type {Map<number, any>} */
  #changes = new Map()

  /**
   * @param {any} descriptor
   * @param {InstanceType<typeof import('./context.js').Context>} context
   * @param {number} place of the column
   * @param {((value: any) => any) | undefined} convert makes of a value of JSON what `get` gives
   * @param {InstanceType<typeof import('./value-encoder.js').ValueEncoder>} encoder
   */
  constructor(descriptor, context, place, convert, encoder) {
    super(descriptor, context.rows)
    this.#context = context
    this.#place = place
    this.#isNullable = descriptor.nullable
    this.#convert = convert
    this.#encoder = encoder
  }

  get(row) {
    this.#context.open()
    checkRow(row, this)
    if (this.#changes.has(row)) return this.#changes.get(row)
    const values = this.#values ?? this.#load()
    if (this.#convert !== undefined && this.#ready[row] === 0) {
      values[row] = this.#convert(values[row])
      this.#ready[row] = 1
    }
    return values[row]
  }

  set(row, value) {
    const { call } = this.#context.open()
    checkRow(row, this)
    const given = value ?? null
    if (given === null && !this.#isNullable) throw notNullable(this, row, value)
    const bytes = given === null ? null : this.#encoder.value(this.name, given, row)
    callEngine(() => call.setValue(this.#place, row, bytes))
    this.#changes.set(row, given)
  }

  isIntact() {
    return true
  }

  writeBack() {}

  close() {
    this.#values = undefined
    this.#changes.clear()
  }

  #load() {
    const { call } = this.#context
    this.#values = /** @type {any[]} */ (JSON.parse(callEngine(() => call.readJson(this.#place))))
    this.#ready = new Uint8Array(this.#convert === undefined ? 0 : this.length)
    return this.#values
  }
}

module.exports = { JsonColumn }
