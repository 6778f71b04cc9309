'use strict'

// Cells: the values of a column of fixed width during one call. They are copied out of the engine when they are first touched,
// and back at the end if they may have been changed. A column and the row views of a batch share them.

const { unfilledOf } = require('./cell-types.js')
const { callEngine } = require('./context.js')

class Cells {
  /** The values, once they are here; undefined before, and after the call. A row view reads them directly. */
  values
  /** 1 where the value is NULL; undefined where the column has no NULL. */
  nulls
  /** The same as `values`, once they were given to the user. */
  exposed
  /** Whether the engine gets them back. */
  isWritten = false
  #context
  #place
  #memory
  #isNullable
  #floatBits
  /** The user has the array of nulls: from then on it alone says which rows have no value. */
  #nullsCount = false
  /** The value of a row that nothing fills, where it must differ from every value. */
  #unfilled

  /**
   * @param {InstanceType<typeof import('./context.js').Context>} context
   * @param {number} place of the column
   * @param {{ values: InstanceType<typeof import('./kept-memory.js').KeptMemory>, nulls: InstanceType<typeof import('./kept-memory.js').KeptMemory> }} memory
   * @param {import('./shape.js').Descriptor} descriptor
   */
  constructor(context, place, memory, descriptor) {
    this.#context = context
    this.#place = place
    this.#memory = memory
    this.#isNullable = descriptor.nullable
    this.#unfilled = unfilledOf(descriptor)
  }

  /** Brings the values here. @throws {MillraceError} `INVALID_STATE` */
  load() {
    const { call, rows } = this.#context.open()
    const values = this.#memory.values.array(rows)
    const nulls = this.#isNullable ? this.#memory.nulls.array(rows) : undefined
    callEngine(() => call.read(this.#place, bytesOf(values), nulls ?? null))
    this.values = values
    this.nulls = nulls
    return values
  }

  /** Gives the array to the user: from now on any value may change. */
  expose() {
    const values = this.values ?? this.load()
    this.isWritten = true
    this.exposed = values
    return values
  }

  /** The array of nulls, for the user; undefined where the column has no NULL. */
  exposeNulls() {
    const values = this.values ?? this.load()
    if (this.#unfilled !== undefined && !this.#nullsCount) {
      const bits = this.#bits()
      for (let row = 0; row < values.length; row++) if (bits[row] !== this.#unfilled) this.nulls[row] = 0
      this.#nullsCount = true
    }
    this.isWritten = true
    return this.nulls
  }

  /** Whether a row has no value. One that was filled through the array has one, whatever `nulls` says. */
  isNull(row) {
    if (this.nulls === undefined || this.nulls[row] === 0) return false
    return this.#unfilled === undefined || this.#nullsCount || this.#bits()[row] === this.#unfilled
  }

  setNull(row) {
    this.nulls[row] = 1
    if (this.#unfilled !== undefined) this.#bits()[row] = this.#unfilled
  }

  /** The values as bits: one NaN is not another. */
  #bits() {
    const { values } = this
    if (values instanceof Float64Array) return (this.#floatBits ??= new BigUint64Array(values.buffer, 0, values.length))
    if (values instanceof Float32Array) return (this.#floatBits ??= new Uint32Array(values.buffer, 0, values.length))
    return values
  }

  /** Whether the arrays still have their memory. If not, the next batch gets new memory. */
  isIntact() {
    if (this.values === undefined) return true
    const { values, nulls } = this.#memory
    const isIntact = values.isIntact() && nulls.isIntact()
    if (!isIntact) {
      values.forget()
      nulls.forget()
    }
    return isIntact
  }

  writeBack() {
    if (!this.isWritten) return
    if (this.#nullsCount) {
      // The engine would take a row with a value for a filled one.
      const bits = this.#bits()
      for (let row = 0; row < bits.length; row++) if (this.nulls[row] !== 0) bits[row] = this.#unfilled
    }
    this.#context.call.write(this.#place, bytesOf(this.values), this.nulls ?? null)
  }

  /** @param {boolean} isPoisoned */
  close(isPoisoned) {
    if (this.values === undefined) return
    this.values = undefined
    this.nulls = undefined
    this.exposed = undefined
    this.#floatBits = undefined
    if (!isPoisoned) return
    this.#memory.values.poison()
    this.#memory.nulls.poison()
  }
}

const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

module.exports = { Cells }
