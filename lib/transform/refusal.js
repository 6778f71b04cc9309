'use strict'

// The errors of a batch and its columns. `row` and `column` say what they are about, as the errors of other rows do.

const { types } = require('node:util')
const { MillraceError } = require('../error.js')

/** A value is of a type that the column does not take. */
function mismatch(column, row, value, wanted) {
  const message = `column ${column}, row ${row}: ${described(value)} is not ${wanted}`
  return new MillraceError({ code: 'TYPE_MISMATCH', message, row, column })
}

/** A value has the right type, and does not fit the column. */
function outOfRange(column, row, value, type) {
  const message = `column ${column}, row ${row}: ${described(value)} is out of range for ${type}`
  return new MillraceError({ code: 'OUT_OF_RANGE', message, row, column })
}

/** A row that the batch has not. */
function noSuchRow(row, length, column) {
  const about = column === undefined ? '' : `column ${column}: `
  const isInteger = Number.isInteger(row)
  const is = isInteger ? 'is no row of this batch' : 'is no number of a row'
  const message = `${about}${described(row)} ${is}: its ${length} rows are numbered from 0`
  return new MillraceError({
    code: isInteger ? 'OUT_OF_RANGE' : 'TYPE_MISMATCH',
    message,
    ...(isInteger && { row }),
    ...(column !== undefined && { column }),
  })
}

/** The batch was used after its call. */
function closed() {
  const message =
    'this batch is closed: a batch and its columns are valid until the transform returns, or until its promise is settled'
  return new MillraceError({ code: 'INVALID_STATE', message })
}

/** A sample of a tap was written to. */
function sampled() {
  return new MillraceError({ code: 'INVALID_STATE', message: 'the batch of a tap is a copy, to be read alone' })
}

/** A value as an error names it: short, and without running code of its own. */
function described(value) {
  switch (typeof value) {
    case 'string':
      return value.length > 40 ? `${JSON.stringify(value.slice(0, 40))}…` : JSON.stringify(value)
    case 'bigint':
      return `${value}n`
    case 'number':
    case 'boolean':
    case 'undefined':
      return String(value)
    case 'function':
    case 'symbol':
      return `a ${typeof value}`
  }
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (types.isDate(value)) return Number.isNaN(value.getTime()) ? 'an invalid Date' : 'a Date'
  return ArrayBuffer.isView(value) ? 'bytes' : 'an object'
}

module.exports = { closed, described, mismatch, noSuchRow, outOfRange, sampled }
