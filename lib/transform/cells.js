'use strict'

// Cells: the values of a column of fixed width during one call. They are copied out of the engine when they are first touched,
// and back at the end if they may have been changed. A column and the row views of a batch share them.

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
  #isComputed
  /** The nulls were taken, before anything else was written. */
  #isExposedByNulls = false

  /**
   * @param {InstanceType<typeof import('./context.js').Context>} context
   * @param {number} place of the column
   * @param {{ values: InstanceType<typeof import('./kept-memory.js').KeptMemory>, nulls: InstanceType<typeof import('./kept-memory.js').KeptMemory> }} memory
   * @param {{ nullable: boolean, computed: boolean }} descriptor
   */
  constructor(context, place, memory, { nullable, computed }) {
    this.#context = context
    this.#place = place
    this.#memory = memory
    this.#isNullable = nullable
    this.#isComputed = computed
  }

  /** Brings the values here. @throws {MillraceError} `INVALID_STATE` */
  load() {
    const { call, rows } = this.#context.open()
    const values = this.#memory.values.array(rows)
    const nulls = this.#isNullable ? this.#memory.nulls.array(rows) : undefined
    if (this.#isComputed) {
      // There is nothing to read: what the transform does not fill is NULL, or zero.
      bytesOf(values).fill(0)
      nulls?.fill(1)
    } else {
      callEngine(() => call.read(this.#place, bytesOf(values), nulls ?? null))
    }
    this.values = values
    this.nulls = nulls
    return values
  }

  /** Gives the array to the user: from now on nobody knows which values change. */
  expose() {
    const values = this.values ?? this.load()
    // Whoever takes the array of a computed column fills it, unless `nulls` or `set(row, null)` say otherwise.
    if (this.#isComputed && (!this.isWritten || this.#isExposedByNulls)) this.nulls?.fill(0)
    this.isWritten = true
    this.exposed = values
    return values
  }

  /** The array of nulls, for the user; undefined where the column has no NULL. */
  exposeNulls() {
    if (this.values === undefined) this.load()
    this.#isExposedByNulls ||= !this.isWritten
    this.isWritten = true
    return this.nulls
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
    if (this.isWritten) this.#context.call.write(this.#place, bytesOf(this.values), this.nulls ?? null)
  }

  /** @param {boolean} isPoisoned */
  close(isPoisoned) {
    if (this.values === undefined) return
    this.values = undefined
    this.nulls = undefined
    this.exposed = undefined
    if (!isPoisoned) return
    this.#memory.values.poison()
    this.#memory.nulls.poison()
  }
}

const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

module.exports = { Cells }
