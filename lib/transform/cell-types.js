'use strict'

// Numbers, booleans and enums: what `get` makes of a cell of the typed array, and what `set` accepts. Typed arrays would take
// anything, and cut it without a word.

const { mismatch, outOfRange } = require('./refusal.js')

/** By the kind of the engine: the class of the array, and for integers the range. @type {Record<string, any>} */
const KINDS = {
  bool: { Array: Uint8Array },
  i8: { Array: Int8Array, min: -128, max: 127 },
  u8: { Array: Uint8Array, min: 0, max: 255 },
  i16: { Array: Int16Array, min: -32_768, max: 32_767 },
  u16: { Array: Uint16Array, min: 0, max: 65_535 },
  i32: { Array: Int32Array, min: -2_147_483_648, max: 2_147_483_647 },
  u32: { Array: Uint32Array, min: 0, max: 4_294_967_295 },
  i64: { Array: BigInt64Array, min: -(2n ** 63n), max: 2n ** 63n - 1n },
  u64: { Array: BigUint64Array, min: 0n, max: 2n ** 64n - 1n },
  f32: { Array: Float32Array },
  f64: { Array: Float64Array },
}

/**
 * By kind: what a row holds that nothing fills, in columns where ClickHouse is then to compute the DEFAULT, and in computed ones that
 * can be NULL. A cell that holds another value at the end is filled. `src/transform/columns.rs` has the
 * same table. @type {Record<string, any>}
 */
const UNFILLED = {
  bool: 0xff,
  i8: -128,
  u8: 0xff,
  i16: -32_768,
  u16: 0xffff,
  i32: -2_147_483_648,
  u32: 0xffff_ffff,
  i64: -(2n ** 63n),
  u64: 2n ** 64n - 1n,
  // A NaN that no arithmetic gives.
  f32: 0x7fc0_6d72,
  f64: 0x7ff8_0000_6d69_6c6cn,
}

/** @param {any} descriptor @returns {number | bigint | undefined} as bits */
function unfilledOf({ kind, nullable, computed, default: hasDefault }) {
  return nullable && (computed || hasDefault) ? UNFILLED[kind] : undefined
}

const FLOAT_64 = {
  toCell(values, row, value, { name }) {
    if (typeof value !== 'number') throw mismatch(name, row, value, 'a number')
    values[row] = value
  },
}

const FLOAT_32 = {
  toCell(values, row, value, { name, type }) {
    if (typeof value !== 'number') throw mismatch(name, row, value, 'a number')
    // Rounded to 32 bits it would be infinite.
    if (Number.isFinite(value) && !Number.isFinite(Math.fround(value))) throw outOfRange(name, row, value, type)
    values[row] = value
  },
}

/** Integers of up to 32 bits. */
const integer = ({ min, max }) => ({
  toCell(values, row, value, { name, type }) {
    if (typeof value !== 'bigint' && !Number.isInteger(value)) throw mismatch(name, row, value, 'an integer')
    if (value < min || value > max) throw outOfRange(name, row, value, type)
    values[row] = Number(value)
  },
})

/** Integers of 64 bits: a bigint each. */
const wideInteger = ({ min, max }) => ({
  toCell(values, row, value, { name, type }) {
    if (typeof value !== 'bigint') {
      if (!Number.isInteger(value)) throw mismatch(name, row, value, 'a bigint')
      // A number beyond has lost digits already.
      if (!Number.isSafeInteger(value)) throw mismatch(name, row, value, 'exact: beyond 2^53 it must be a bigint')
    }
    if (value < min || value > max) throw outOfRange(name, row, value, type)
    values[row] = BigInt(value)
  },
})

const BOOL = {
  fromCell: (values, row) => values[row] !== 0,

  toCell(values, row, value, { name }) {
    if (typeof value !== 'boolean') throw mismatch(name, row, value, 'a boolean')
    values[row] = value ? 1 : 0
  },
}

/** @param {[string, number][]} pairs */
function enumeration(pairs) {
  const names = new Map(pairs.map(([name, number]) => [number, name]))
  const numbers = new Map(pairs)
  return {
    fromCell(values, row, { name, type }) {
      const text = names.get(values[row])
      if (text === undefined) throw outOfRange(name, row, values[row], type)
      return text
    },

    toCell(values, row, value, { name, type }) {
      if (typeof value !== 'string' && typeof value !== 'number') {
        throw mismatch(name, row, value, 'a name of the enum, or its number')
      }
      const number = typeof value === 'string' ? numbers.get(value) : value
      if (!names.has(number)) throw outOfRange(name, row, value, type)
      values[row] = number
    },
  }
}

/** The type of the cells of a column that is not a time. @returns {import('./fixed-column.js').CellType} */
function cellType({ kind, enum: pairs }) {
  if (pairs) return enumeration(pairs)
  switch (kind) {
    case 'bool':
      return BOOL
    case 'f32':
      return FLOAT_32
    case 'f64':
      return FLOAT_64
    case 'i64':
    case 'u64':
      return wideInteger(KINDS[kind])
    default:
      return integer(KINDS[kind])
  }
}

module.exports = { KINDS, cellType, unfilledOf }
