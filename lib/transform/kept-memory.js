'use strict'

// Memory of JavaScript that is used again for each batch: the columns of a route are copied into it. It is never a part of the
// pool behind Buffer.from, and the engine has no pointer to it between two calls of its functions.

/** Memory is freed when this number of batches in a row needed less than a quarter of it. */
const SPARE_BATCHES = 32
/** Fills what a batch leaves behind, except in production: a float is NaN then. */
const POISON = 0xa5

class KeptMemory {
  #Type
  /** @type {ArrayBuffer | undefined} */
  #buffer
  #capacity = 0
  #array
  /** The same memory as bytes. */
  #bytes
  #spareBatches = 0

  /** @param {any} Type the class of the arrays */
  constructor(Type) {
    this.#Type = Type
  }

  /**
   * An array of exactly `length` items. Its content is that of an earlier batch.
   *
   * @param {number} length
   */
  array(length) {
    const bytes = length * this.#Type.BYTES_PER_ELEMENT
    this.#spareBatches = bytes < this.#capacity / 4 ? this.#spareBatches + 1 : 0
    if (bytes > this.#capacity) {
      // A batch that is a little larger than the last one is common: the next ones fit too.
      this.#allocate(this.#capacity === 0 ? bytes : bytes + bytes / 4)
    } else if (this.#spareBatches > SPARE_BATCHES) {
      this.#allocate(bytes)
    }
    if (this.#array?.length !== length) {
      this.#array = new this.#Type((this.#buffer ??= new ArrayBuffer(0)), 0, length)
      this.#bytes = new Uint8Array(this.#buffer, 0, bytes)
    }
    return this.#array
  }

  /** The array that was given last, as bytes. */
  get bytes() {
    return this.#bytes
  }

  #allocate(bytes) {
    this.#capacity = roundUp(bytes)
    this.#buffer = new ArrayBuffer(this.#capacity)
    this.#array = undefined
    this.#spareBatches = 0
  }

  /** Whether the memory is still there: transferring an array takes it away. */
  isIntact() {
    return (this.#buffer?.byteLength ?? 0) === this.#capacity
  }

  /** Has the next batch begin with new memory. */
  forget() {
    this.#buffer = undefined
    this.#capacity = 0
    this.#array = undefined
    this.#bytes = undefined
  }

  /** Makes values that the user kept unusable. */
  poison() {
    const Type = this.#Type
    if (Type === Float64Array || Type === Float32Array) this.#array?.fill(Number.NaN)
    else this.#bytes?.fill(POISON)
  }
}

/** Rounds up to pages, so that batches of slightly different sizes share memory. */
const roundUp = (bytes) => Math.ceil(bytes / 4096) * 4096

module.exports = { KeptMemory }
