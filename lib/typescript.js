'use strict'

// ClickHouse's types as TypeScript's: of a field in a message, as the decoder reads it, and of a column in a row, as
// `FORMAT JSONEachRow` gives it.

const { enumNames, parseElement, parseType } = require('./type-names.js')

/** 64 bits and more are not exact as numbers of JavaScript: a text is taken too, and ClickHouse may give one. */
const WIDE = ['number', 'string']
/** In a message also a number since 1970. */
const TIME = { message: ['string', 'number'], row: ['string'] }
const POINT = '[number, number]'

const SCALARS = {
  ...same(['Int8', 'Int16', 'Int32', 'UInt8', 'UInt16', 'UInt32', 'Float32', 'Float64', 'BFloat16'], ['number']),
  ...same(['Int64', 'Int128', 'Int256', 'UInt64', 'UInt128', 'UInt256'], WIDE),
  ...same(['Decimal', 'Decimal32', 'Decimal64', 'Decimal128', 'Decimal256'], WIDE),
  ...same(['String', 'FixedString', 'UUID', 'IPv4', 'IPv6'], ['string']),
  ...same(['JSON', 'Object'], ['Record<string, unknown>']),
  Bool: ['boolean'],
  Nothing: ['null'],
  Point: [POINT],
  ...same(['Ring', 'LineString'], [`${POINT}[]`]),
  ...same(['Polygon', 'MultiLineString'], [`${POINT}[][]`]),
  MultiPolygon: [`${POINT}[][][]`],
}
const TIMES = ['Date', 'Date32', 'DateTime', 'DateTime64', 'Time', 'Time64']

function same(names, type) {
  return Object.fromEntries(names.map((name) => [name, type]))
}

/**
 * The types that a value may have.
 *
 * @param {string} type ClickHouse's name of it
 * @param {'message' | 'row'} side
 * @returns {string[]} to be joined by ` | `
 */
function typesOf(type, side) {
  const { name, args } = parseType(type)
  switch (name) {
    case 'Nullable':
      return unique([...typesOf(args[0], side), 'null'])
    case 'LowCardinality':
      return typesOf(args[0], side)
    case 'SimpleAggregateFunction':
      return typesOf(args.at(-1), side)
    case 'Array':
      return [listOf(typesOf(args[0], side))]
    case 'Nested':
      return [listOf([objectOf(args, side)])]
    case 'Tuple':
      return [args.some((arg) => parseElement(arg).name !== undefined) ? objectOf(args, side) : tupleOf(args, side)]
    case 'Map':
      return [`Record<string, ${typesOf(args[1], side).join(' | ')}>`]
    case 'Variant':
      return unique(args.flatMap((arg) => typesOf(arg, side)))
    case 'Enum8':
    case 'Enum16':
      return enumNames(args).map((text) => JSON.stringify(text))
  }
  if (TIMES.includes(name)) return TIME[side]
  if (name.startsWith('Interval')) return WIDE
  return SCALARS[name] ?? ['unknown']
}

function objectOf(args, side) {
  const members = args.map(parseElement).map(({ name, type }) => {
    const mark = side === 'message' && isNullable(type) ? '?' : ''
    return `${property(name)}${mark}: ${typesOf(type, side).join(' | ')}`
  })
  return `{ ${members.join('; ')} }`
}

function tupleOf(args, side) {
  return `[${args.map((arg) => typesOf(parseElement(arg).type, side).join(' | ')).join(', ')}]`
}

function listOf(types) {
  return types.length > 1 ? `(${types.join(' | ')})[]` : `${types[0]}[]`
}

/**
 * The type of a point, or of lists of points, that comes as objects with these fields.
 *
 * @param {string} type
 * @param {string[]} fields
 */
function typeWithFields(type, fields) {
  const { name, args } = parseType(type)
  if (name === 'Array') return `${typeWithFields(args[0], fields)}[]`
  const types = name === 'Tuple' ? args.map((arg) => typesOf(parseElement(arg).type, 'message').join(' | ')) : []
  const object = `{ ${fields.map((field, i) => `${property(field)}: ${types[i] ?? 'number'}`).join('; ')} }`
  return name === 'Tuple' ? object : (SCALARS[name]?.[0] ?? POINT).replace(POINT, object)
}

function isNullable(type) {
  const { name, args } = parseType(type)
  const isWrapper = name === 'LowCardinality' || name === 'SimpleAggregateFunction'
  return name === 'Nullable' || (isWrapper && isNullable(args.at(-1)))
}

/** The name of a property, in quotes where it needs them. */
function property(name) {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name)
}

function unique(items) {
  return [...new Set(items)]
}

module.exports = { isNullable, listOf, property, typeWithFields, typesOf, unique }
