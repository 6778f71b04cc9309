'use strict'

// The map of a lookup as the engine reads it: JSON, `{ key: scalar }` or `{ key: { field: scalar } }`. Values that JSON.stringify
// would drop or change without a word are refused here, and a bigint keeps its digits.

const { configError } = require('./native.js')

/**
 * @param {unknown} map a Map, or an object
 * @returns {string}
 */
function lookupToJson(map) {
  if (typeof map !== 'object' || map === null || Array.isArray(map)) throw configError('map', 'must be a Map or an object')
  const entries = []
  for (const [key, value] of map instanceof Map ? map : Object.entries(map)) {
    if (!KEYS.has(typeof key)) throw configError('map', `has a key that is no text and no number: ${typeof key}`)
    const text = isFields(value) ? fieldsText(value, key) : scalarText(value, () => path(key))
    entries.push(`${JSON.stringify(String(key))}:${text}`)
  }
  return `{${entries.join(',')}}`
}

const KEYS = new Set(['string', 'number', 'bigint', 'boolean'])

const path = (key, field = undefined) => `map[${JSON.stringify(String(key))}]${field === undefined ? '' : `.${field}`}`

const isFields = (value) => typeof value === 'object' && value !== null && !(value instanceof Date)

function fieldsText(fields, key) {
  if (Array.isArray(fields)) throw configError(path(key), 'must be a scalar or an object of scalars, not a list')
  const members = []
  for (const [name, value] of Object.entries(fields)) {
    members.push(`${JSON.stringify(name)}:${scalarText(value, () => path(key, name))}`)
  }
  return `{${members.join(',')}}`
}

function scalarText(value, path) {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value)
    case 'boolean':
    case 'bigint':
      return String(value)
    case 'undefined':
      return 'null'
    case 'number':
      if (!Number.isFinite(value)) throw configError(path(), `must not be ${value}`)
      return String(value)
  }
  if (value === null) return 'null'
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw configError(path(), 'must not be an invalid date')
    return JSON.stringify(value)
  }
  throw configError(path(), `must be a text, a number, a bigint, a boolean, a Date or null, not ${Array.isArray(value) ? 'a list' : `a ${typeof value}`}`)
}

module.exports = { lookupToJson }
