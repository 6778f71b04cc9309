'use strict'

// Row objects as the bytes that the engine reads them from: CBOR objects, one behind the other (RFC
// 8742). The engine converts values for columns, by the rules for JSON; `src/decode/rows.rs` reads what
// this file writes. Beyond JSON there are bigint, Date and Uint8Array, and what JSON.stringify would
// drop or change without a word is refused here.

const { MillraceError } = require('./error.js')

const UNSIGNED = 0x00
const NEGATIVE = 0x20
const BYTES = 0x40
const TEXT = 0x60
const LIST = 0x80
const TAG = 0xc0
/** An object without a count of its members. */
const OBJECT = 0xbf
const FALSE = 0xf4
const NULL = 0xf6
const FLOAT_64 = 0xfb
const BREAK = 0xff

const SECONDS_SINCE_1970 = 1
const POSITIVE_BIG = 2
const NEGATIVE_BIG = 3

/** Lists and objects within each other: the engine reads no more. */
const MAX_DEPTH = 127
/** Bytes of the largest integers that a column has. */
const MAX_INTEGER_BYTES = 32
/** Texts up to this length are written by hand where they are ASCII: a call of Buffer takes longer. */
const SHORT_TEXT = 23

class RowEncoder {
  #buffer = Buffer.allocUnsafeSlow(1024)
  #end = 0
  #rows = 0
  /** The place and the column of the value that is being written. */
  #row = 0
  #column

  /** How many rows are encoded. */
  get rows() {
    return this.#rows
  }

  /** The encoded rows: a view, which holds until the next call. */
  get bytes() {
    return this.#buffer.subarray(0, this.#end)
  }

  /** Forgets the rows, and keeps the memory for the next ones. */
  clear() {
    this.#end = 0
    this.#rows = 0
  }

  /**
   * Adds a row: values by the names of columns. After an error the rows are as before.
   *
   * @param {object} row
   * @param {number} [place] by which an error names the row; else how many were added before
   * @throws {MillraceError} with `row`, and with the `column` at fault if there is one: `NOT_AN_OBJECT`, `TYPE_MISMATCH`,
   *   `OUT_OF_RANGE`
   */
  add(row, place = this.#rows) {
    const start = this.#end
    this.#row = place
    this.#column = undefined
    try {
      const fields = this.#simplified(row)
      const isObject = typeof fields === 'object' && fields !== null && !Array.isArray(fields)
      if (!isObject || fields instanceof Date || ArrayBuffer.isView(fields)) {
        this.#refuse('NOT_AN_OBJECT', `it must be an object, not ${described(fields)}`)
      }
      this.#object(fields, 0)
    } catch (error) {
      this.#end = start
      throw error
    }
    this.#rows += 1
  }

  /** The value that JSON makes of a value first: `toJSON()`, and the value of a box. */
  #simplified(value) {
    if (typeof value !== 'object' || value === null || value instanceof Date || ArrayBuffer.isView(value)) return value
    if (typeof value.toJSON === 'function') return value.toJSON(this.#column ?? '')
    if (value instanceof Number || value instanceof String || value instanceof Boolean) return value.valueOf()
    return value
  }

  #value(given, depth) {
    const value = this.#simplified(given)
    switch (typeof value) {
      case 'string':
        return this.#text(value)
      case 'number':
        return this.#number(value)
      case 'boolean':
        return this.#byte(FALSE + Number(value))
      case 'undefined':
        return this.#byte(NULL)
      case 'bigint':
        return this.#bigint(value)
      case 'object':
        break
      default:
        return this.#refuse('TYPE_MISMATCH', `${described(value)} does not fit`)
    }
    if (value === null) return this.#byte(NULL)
    if (depth > MAX_DEPTH) this.#refuse('TYPE_MISMATCH', `it is nested more than ${MAX_DEPTH} deep`)
    if (value instanceof Date) return this.#date(value)
    if (value instanceof Uint8Array) return this.#bytes(BYTES, value)
    if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
      return this.#list(value, depth)
    }
    return this.#object(value, depth)
  }

  #list(items, depth) {
    const { length } = /** @type {ArrayLike<unknown>} */ (items)
    this.#head(LIST, length)
    for (let i = 0; i < length; i++) this.#value(items[i], depth + 1)
  }

  #object(object, depth) {
    const isMap = object instanceof Map
    const names = isMap ? [...object.keys()] : Object.keys(object)
    // A Set or a Promise would be an empty object, and what it holds would be lost.
    if (!isMap && names.length === 0 && Object.prototype.toString.call(object) !== '[object Object]') {
      this.#refuse('TYPE_MISMATCH', `${described(object)} does not fit`)
    }
    this.#byte(OBJECT)
    for (const name of names) {
      const value = isMap ? object.get(name) : object[name]
      if (depth === 0) this.#column = String(name)
      if (value === undefined) continue
      if (typeof name === 'object' || typeof name === 'symbol' || typeof name === 'function') {
        this.#refuse('TYPE_MISMATCH', `${described(name)} is no key`)
      }
      this.#text(String(name))
      this.#value(value, depth + 1)
    }
    this.#byte(BREAK)
  }

  #number(value) {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) return this.#float(value)
    if (value >= 0) this.#head(UNSIGNED, value)
    else this.#head(NEGATIVE, -1 - value)
  }

  #float(value) {
    this.#reserve(9)
    this.#buffer[this.#end] = FLOAT_64
    this.#end = this.#buffer.writeDoubleBE(value, this.#end + 1)
  }

  #bigint(value) {
    const magnitude = value < 0n ? -1n - value : value
    if (magnitude < 2n ** 64n) {
      this.#reserve(9)
      this.#buffer[this.#end] = (value < 0n ? NEGATIVE : UNSIGNED) | 27
      this.#end = this.#buffer.writeBigUInt64BE(magnitude, this.#end + 1)
      return
    }
    const digits = magnitude.toString(16)
    const bytes = Buffer.from(digits.length % 2 ? `0${digits}` : digits, 'hex')
    if (bytes.length > MAX_INTEGER_BYTES) this.#refuse('OUT_OF_RANGE', 'an integer has more than 256 bits')
    this.#head(TAG, value < 0n ? NEGATIVE_BIG : POSITIVE_BIG)
    this.#bytes(BYTES, bytes)
  }

  /** Seconds since 1970. As a float they have all milliseconds of a Date: its digits reach to the microsecond until year 10000. */
  #date(value) {
    const millis = value.getTime()
    if (Number.isNaN(millis)) this.#refuse('TYPE_MISMATCH', 'an invalid Date does not fit')
    this.#head(TAG, SECONDS_SINCE_1970)
    if (millis % 1000 === 0) this.#number(millis / 1000)
    else this.#float(millis / 1000)
  }

  #text(value) {
    const { length } = value
    if (length <= SHORT_TEXT && this.#ascii(value, length)) return
    if (!isWellFormed(value)) this.#refuse('TYPE_MISMATCH', 'a string has half of a character (a lone surrogate)')
    const bytes = Buffer.byteLength(value)
    this.#head(TEXT, bytes)
    this.#reserve(bytes)
    this.#end += this.#buffer.write(value, this.#end, bytes, 'utf8')
  }

  /** Writes a short text that is ASCII; `false`: it is not, and nothing is written. */
  #ascii(value, length) {
    this.#reserve(length + 1)
    const at = this.#end + 1
    for (let i = 0; i < length; i++) {
      const code = value.charCodeAt(i)
      if (code > 0x7f) return false
      this.#buffer[at + i] = code
    }
    this.#buffer[this.#end] = TEXT | length
    this.#end = at + length
    return true
  }

  #bytes(major, bytes) {
    this.#head(major, bytes.length)
    this.#reserve(bytes.length)
    this.#buffer.set(bytes, this.#end)
    this.#end += bytes.length
  }

  /** The kind of a value, with a number below 2^53. */
  #head(major, number) {
    this.#reserve(9)
    const buffer = this.#buffer
    const at = this.#end
    if (number < 24) {
      buffer[at] = major | number
      this.#end = at + 1
    } else if (number < 0x100) {
      buffer[at] = major | 24
      this.#end = buffer.writeUInt8(number, at + 1)
    } else if (number < 0x10000) {
      buffer[at] = major | 25
      this.#end = buffer.writeUInt16BE(number, at + 1)
    } else if (number < 0x100000000) {
      buffer[at] = major | 26
      this.#end = buffer.writeUInt32BE(number, at + 1)
    } else {
      buffer[at] = major | 27
      buffer.writeUInt32BE(Math.floor(number / 0x100000000), at + 1)
      this.#end = buffer.writeUInt32BE(number % 0x100000000, at + 5)
    }
  }

  #byte(byte) {
    this.#reserve(1)
    this.#buffer[this.#end++] = byte
  }

  #reserve(bytes) {
    if (this.#end + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.#buffer.length, this.#end + bytes))
    this.#buffer.copy(larger, 0, 0, this.#end)
    this.#buffer = larger
  }

  /** @returns {never} */
  #refuse(code, what) {
    const column = this.#column
    const about = column === undefined ? '' : `column ${column}: `
    throw new MillraceError({ code, message: `row ${this.#row}: ${about}${what}`, row: this.#row, column })
  }
}

/** A value as an error names it. */
function described(value) {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'a list'
  const name = typeof value === 'object' ? (value.constructor?.name ?? 'object') : typeof value
  return `${/^[aeio]/i.test(name) ? 'an' : 'a'} ${name}`
}

/** @param {string} text */
function isWellFormed(text) {
  // ES2024: Node.js 20 and Bun have it.
  return /** @type {any} */ (text).isWellFormed()
}

module.exports = { RowEncoder }
