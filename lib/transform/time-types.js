'use strict'

// Times: cells are ticks since 1970, of days, seconds or parts of seconds. `get` gives a Date, which has milliseconds; a bigint is
// taken for ticks as they are. Time and Time64 are not moments but times of day or spans: `get` gives
// ClickHouse's text.

const { types } = require('node:util')
const { KINDS } = require('./cell-types.js')
const { mismatch, outOfRange } = require('./refusal.js')

const DAY_MS = 86_400_000
/** Date32 ends with the years 1900 and 2299; the array could hold more. */
const DATE32 = { min: -25_567, max: 120_529 }
/** 999:59:59, in seconds. */
const MAX_TIME = 3_599_999

/**
 * The type of the cells of a column of times.
 *
 * @returns {import('./fixed-column.js').CellType}
 */
function timeType({ type, kind, time: { unit, precision } }) {
  const range = KINDS[kind]
  if (/\bTime(64)?\b/.test(type)) return unit === 'ticks' ? span(precision, BigInt) : span(0, Number)
  if (unit === 'day') return moment(DAY_MS, kind === 'i32' ? DATE32 : range)
  if (unit === 'second') return moment(1000, range)
  return moment64(precision, range)
}

/** Cells of up to 32 bits, each worth `tickMs`; what is less than a tick is cut. */
const moment = (tickMs, range) => ({
  fromCell: (values, row) => new Date(values[row] * tickMs),

  toCell(values, row, value, { name, type }) {
    const ticks = typeof value === 'bigint' ? value : Math.floor(millis(value, row, name) / tickMs)
    if (ticks < range.min || ticks > range.max) throw outOfRange(name, row, value, type)
    values[row] = Number(ticks)
  },
})

/** DateTime64: ticks of 10^-precision seconds. */
function moment64(precision, range) {
  /** How many ticks a millisecond has, or how many milliseconds a tick. */
  const perMilli = 10 ** Math.max(0, precision - 3)
  const tickMs = 10 ** Math.max(0, 3 - precision)
  return {
    fromCell(values, row) {
      const halves = halvesOf(values)
      const high = halves[2 * row + 1]
      // Below 2^52 a number has all ticks, and is 10 times as quick as a bigint.
      if (high >= -0x100000 && high < 0x100000) {
        const ticks = high * 0x1_0000_0000 + (halves[2 * row] >>> 0)
        return new Date(Math.floor(ticks / perMilli) * tickMs)
      }
      return new Date(Number(floorDivided(values[row], BigInt(perMilli)) * BigInt(tickMs)))
    },

    toCell(values, row, value, { name, type }) {
      if (typeof value === 'bigint') {
        if (value < range.min || value > range.max) throw outOfRange(name, row, value, type)
        values[row] = value
        return
      }
      const ticks = Math.floor(millis(value, row, name) / tickMs) * perMilli
      if (Number.isSafeInteger(ticks)) {
        const halves = halvesOf(values)
        halves[2 * row] = ticks >>> 0
        halves[2 * row + 1] = Math.floor(ticks / 0x1_0000_0000)
        return
      }
      const exact = BigInt(millis(value, row, name)) * BigInt(perMilli)
      if (exact < range.min || exact > range.max) throw outOfRange(name, row, value, type)
      values[row] = exact
    },
  }
}

/** `[-]hh:mm:ss[.fraction]`; cells are numbers of seconds, or bigints of 10^-precision seconds. */
function span(precision, toCell) {
  const perSecond = 10n ** BigInt(precision)
  const most = BigInt(MAX_TIME) * perSecond + perSecond - 1n
  return {
    fromCell(values, row) {
      const ticks = BigInt(values[row])
      const magnitude = ticks < 0n ? -ticks : ticks
      const seconds = Number(magnitude / perSecond)
      const two = (number) => String(number).padStart(2, '0')
      const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map(two).join(':')
      const fraction = precision > 0 ? `.${String(magnitude % perSecond).padStart(precision, '0')}` : ''
      return `${ticks < 0n ? '-' : ''}${clock}${fraction}`
    },

    toCell(values, row, value, { name, type }) {
      /** @type {bigint} */
      let ticks = value
      if (typeof value === 'string') {
        const [match, sign, hours, minutes, seconds, fraction = ''] = SPAN.exec(value) ?? []
        if (match === undefined) throw mismatch(name, row, value, 'a time as [-]hh:mm:ss[.fraction]')
        const whole = BigInt(Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds))
        ticks = whole * perSecond + BigInt(fraction.padEnd(precision, '0').slice(0, precision) || '0')
        if (sign) ticks = -ticks
      } else if (typeof value !== 'bigint') {
        throw mismatch(name, row, value, 'a time as [-]hh:mm:ss[.fraction], or ticks as a bigint')
      }
      if (ticks < -most || ticks > most) throw outOfRange(name, row, value, type)
      values[row] = toCell(ticks)
    },
  }
}

const SPAN = /^(-?)(\d{1,3}):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?$/

/** The milliseconds of a Date. */
function millis(value, row, name) {
  const time = types.isDate(value) ? value.getTime() : Number.NaN
  if (Number.isNaN(time)) throw mismatch(name, row, value, 'a Date, or ticks as a bigint')
  return time
}

/** @param {bigint} number @param {bigint} divisor */
function floorDivided(number, divisor) {
  const quotient = number / divisor
  return number < 0n && quotient * divisor !== number ? quotient - 1n : quotient
}

const HALVES = Symbol('halves')

/** The same memory as 32-bit halves, the lower one first: reading 64 bits as a bigint takes ten times as long. */
function halvesOf(values) {
  if (values[HALVES] === undefined) {
    const value = new Int32Array(values.buffer, values.byteOffset, values.length * 2)
    Object.defineProperty(values, HALVES, { value })
  }
  return values[HALVES]
}

module.exports = { timeType }
