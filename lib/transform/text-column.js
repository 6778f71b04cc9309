'use strict'

// TextColumn: texts cross as one block of bytes and the places where they end. A run of texts is decoded at once and cut into
// slices, which takes a tenth of decoding each by itself. Runs are short because engines keep the long
// text alive for as long as a slice of it exists, as the key of a Map, say.

const { Column, checkRow, notNullable } = require('./column.js')
const { callEngine } = require('./context.js')
const { mismatch } = require('./refusal.js')

/** The longest text in bytes that is decoded together with others. */
const RUN = 32
const RUN_BYTES = 4096

class TextColumn extends Column {
  #context
  #place
  #memory
  #isNullable
  /** The bytes of the engine, once they are here. @type {Buffer | undefined} */
  #bytes
  #ends
  #nulls
  /** By run: its text, or null where texts must be decoded one by one. */
  #runs
  /** By row: what was set. @type {(string | Uint8Array | null | undefined)[] | undefined} */
  #changes

  /**
   * @param {any} descriptor
   * @param {InstanceType<typeof import('./context.js').Context>} context
   * @param {number} place of the column
   * @param {Record<'bytes' | 'ends' | 'nulls', InstanceType<typeof import('./kept-memory.js').KeptMemory>>} memory
   */
  constructor(descriptor, context, place, memory) {
    super(descriptor, context.rows)
    this.#context = context
    this.#place = place
    this.#memory = memory
    this.#isNullable = descriptor.nullable
  }

  get(row) {
    this.#context.open()
    checkRow(row, this)
    const change = this.#changes?.[row]
    if (change !== undefined) return change === null || typeof change === 'string' ? change : Buffer.from(change).toString()
    if (this.#bytes === undefined) this.#load()
    return this.#nulls !== undefined && this.#nulls[row] === 1 ? null : this.#decoded(row)
  }

  /** The text as UTF-8, or whatever bytes came; a view that is valid during the call. */
  bytes(row) {
    this.#context.open()
    checkRow(row, this)
    const change = this.#changes?.[row]
    if (change !== undefined) return change === null ? null : Buffer.from(change)
    if (this.#bytes === undefined) this.#load()
    if (this.#nulls !== undefined && this.#nulls[row] === 1) return null
    return this.#bytes.subarray(this.#start(row), this.#ends[row])
  }

  set(row, value) {
    this.#context.open()
    checkRow(row, this)
    const change = value ?? null
    if (change === null) {
      if (!this.#isNullable) throw notNullable(this, row, value)
    } else if (typeof change === 'string') {
      if (!isWellFormed(change)) throw mismatch(this.name, row, value, 'a whole text: it has half of a character')
    } else if (!(change instanceof Uint8Array)) {
      throw mismatch(this.name, row, value, 'a string, or bytes')
    }
    this.#changes ??= new Array(this.length)
    this.#changes[row] = change instanceof Uint8Array ? Buffer.from(change) : change
  }

  /** Whether the bytes still have their memory. If not, the next batch gets new memory. */
  isIntact() {
    const { bytes, ends, nulls } = this.#memory
    if (this.#bytes === undefined) return true
    const isIntact = bytes.isIntact()
    if (!isIntact) for (const kept of [bytes, ends, nulls]) kept.forget()
    return isIntact
  }

  writeBack() {
    if (this.#changes === undefined) return
    if (this.#bytes === undefined) this.#load()
    const { bytes, ends } = this.#block()
    this.#context.call.writeTexts(this.#place, bytes, ends, this.#nulls ?? null)
  }

  close(isPoisoned) {
    if (isPoisoned && this.#bytes !== undefined) this.#memory.bytes.poison()
    this.#bytes = undefined
    this.#runs = undefined
    this.#changes = undefined
  }

  #load() {
    const { call, rows } = this.#context
    const ends = this.#memory.ends.array(rows)
    const nulls = this.#isNullable ? this.#memory.nulls.array(rows) : undefined
    const bytes = this.#memory.bytes.array(callEngine(() => call.textBytes(this.#place)))
    callEngine(() => call.readTexts(this.#place, bytes, ends, nulls ?? null))
    this.#bytes = Buffer.from(bytes.buffer, 0, bytes.length)
    this.#ends = ends
    this.#nulls = nulls
    this.#runs = new Array(Math.ceil(rows / RUN))
  }

  #start(row) {
    return row === 0 ? 0 : this.#ends[row - 1]
  }

  #decoded(row) {
    const start = this.#start(row)
    const end = this.#ends[row]
    const run = (row / RUN) | 0
    const text = this.#runs[run] ?? this.#run(run)
    if (text === null) return this.#bytes.toString('utf8', start, end)
    const first = this.#start(run * RUN)
    return text.slice(start - first, end - first)
  }

  /** Decodes a run. If each byte gave a character, the ends of the texts are those of the characters too. */
  #run(run) {
    const start = this.#start(run * RUN)
    const end = this.#ends[Math.min(this.length, (run + 1) * RUN) - 1]
    let text = null
    if (end - start <= RUN_BYTES) {
      text = this.#bytes.toString('utf8', start, end)
      if (text.length !== end - start) text = null
    }
    this.#runs[run] = text
    return text
  }

  /** All texts, as they are now. */
  #block() {
    const changes = this.#changes
    const ends = new Uint32Array(this.length)
    const parts = []
    let end = 0
    for (let row = 0; row < this.length; row++) {
      const change = changes[row]
      if (change === undefined) {
        const part = this.#bytes.subarray(this.#start(row), this.#ends[row])
        if (part.length > 0) parts.push(part)
        end += part.length
      } else if (change === null) {
        this.#nulls[row] = 1
      } else {
        if (this.#nulls !== undefined) this.#nulls[row] = 0
        parts.push(change)
        end += typeof change === 'string' ? Buffer.byteLength(change) : change.length
      }
      ends[row] = end
    }
    return { bytes: joined(parts, end), ends }
  }
}

/** Strings and bytes one behind the other; strings that follow each other are encoded at once. */
function joined(parts, length) {
  const bytes = Buffer.allocUnsafeSlow(length)
  let at = 0
  for (let i = 0; i < parts.length; ) {
    if (typeof parts[i] !== 'string') {
      bytes.set(parts[i], at)
      at += parts[i++].length
      continue
    }
    const first = i
    while (typeof parts[i] === 'string') i++
    at += bytes.write(parts.slice(first, i).join(''), at)
  }
  return bytes
}

/** @param {string} text */
function isWellFormed(text) {
  // ES2024: Node.js 20 and Bun have it.
  return /** @type {any} */ (text).isWellFormed()
}

module.exports = { TextColumn }
