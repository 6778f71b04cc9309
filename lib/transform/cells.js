'use strict'

// Cells: the values of a column of fixed width during one call. They are copied out of the engine when they are first touched,
// and back at the end if they may have been changed. A column and the row views of a batch share them. They are made for each
// column of each batch, so their fields are ordinary ones: private ones take several times as long to make. Users never see them.

const { KINDS, unfilledOf } = require('./cell-types.js')
const { callEngine } = require('./context.js')
const { KeptMemory } = require('./kept-memory.js')

/** The properties that the cells of a column share from batch to batch. */
class KeptCells {
  /** The value of a row that nothing fills, where it must differ from every value. */
  unfilled

  /**
   * @param {number} place of the column
   * @param {import('./shape.js').Descriptor} descriptor
   */
  constructor(place, descriptor) {
    this.place = place
    this.isNullable = descriptor.nullable
    this.unfilled = unfilledOf(descriptor)
    this.values = new KeptMemory(KINDS[descriptor.kind].Array)
    this.nulls = new KeptMemory(Uint8Array)
  }
}

class Cells {
  /** The values, once they are here; undefined before, and after the call. A row view reads them directly. */
  values
  /** 1 where the value is NULL; undefined where the column has no NULL. */
  nulls
  /** The same as `values`, once they were given to the user. */
  exposed
  /** Whether the engine gets them back. */
  isWritten = false
  context
  kept
  floatBits
  /** The user has the array of nulls: from then on it alone says which rows have no value. */
  nullsCount = false

  /**
   * @param {InstanceType<typeof import('./context.js').Context>} context
   * @param {InstanceType<typeof KeptCells>} kept
   */
  constructor(context, kept) {
    this.context = context
    this.kept = kept
  }

  /** Brings the values here. @throws {MillraceError} `INVALID_STATE` */
  load() {
    const { call, rows } = this.context.open()
    const values = this.kept.values.array(rows)
    const nulls = this.kept.isNullable ? this.kept.nulls.array(rows) : undefined
    callEngine(() => call.read(this.kept.place, this.kept.values.bytes, nulls ?? null))
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
    if (this.kept.unfilled !== undefined && !this.nullsCount) {
      const bits = this.bits()
      for (let row = 0; row < values.length; row++) if (bits[row] !== this.kept.unfilled) this.nulls[row] = 0
      this.nullsCount = true
    }
    this.isWritten = true
    return this.nulls
  }

  /** Whether a row has no value. One that was filled through the array has one, whatever `nulls` says. */
  isNull(row) {
    if (this.nulls === undefined || this.nulls[row] === 0) return false
    return this.kept.unfilled === undefined || this.nullsCount || this.bits()[row] === this.kept.unfilled
  }

  setNull(row) {
    this.nulls[row] = 1
    if (this.kept.unfilled !== undefined) this.bits()[row] = this.kept.unfilled
  }

  /** The values as bits: one NaN is not another. */
  bits() {
    const { values } = this
    if (values instanceof Float64Array) return (this.floatBits ??= new BigUint64Array(values.buffer, 0, values.length))
    if (values instanceof Float32Array) return (this.floatBits ??= new Uint32Array(values.buffer, 0, values.length))
    return values
  }

  /** Whether the arrays still have their memory. If not, the next batch gets new memory. */
  isIntact() {
    if (this.values === undefined) return true
    const { values, nulls } = this.kept
    const isIntact = values.isIntact() && nulls.isIntact()
    if (!isIntact) {
      values.forget()
      nulls.forget()
    }
    return isIntact
  }

  writeBack() {
    if (!this.isWritten) return
    if (this.nullsCount) {
      // The engine would take a row with a value for a filled one.
      const bits = this.bits()
      for (let row = 0; row < bits.length; row++) if (this.nulls[row] !== 0) bits[row] = this.kept.unfilled
    }
    this.context.call.write(this.kept.place, this.kept.values.bytes, this.nulls ?? null)
  }

  /** @param {boolean} isPoisoned */
  close(isPoisoned) {
    if (this.values === undefined) return
    this.values = undefined
    this.nulls = undefined
    this.exposed = undefined
    this.floatBits = undefined
    if (!isPoisoned) return
    this.kept.values.poison()
    this.kept.nulls.poison()
  }
}

module.exports = { Cells, KeptCells }
