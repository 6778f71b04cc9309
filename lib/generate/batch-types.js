'use strict'

// The type of a transform's batch: for each column the type of its array, and what get and set have to do with.

const { parse } = require('../transform/type-name.js')
const { property } = require('./typescript.js')

/** By ClickHouse's name: the class of the array. */
const ARRAYS = {
  Bool: 'Uint8Array',
  Int8: 'Int8Array',
  UInt8: 'Uint8Array',
  Int16: 'Int16Array',
  UInt16: 'Uint16Array',
  Int32: 'Int32Array',
  UInt32: 'Uint32Array',
  Int64: 'BigInt64Array',
  UInt64: 'BigUint64Array',
  Float32: 'Float32Array',
  Float64: 'Float64Array',
  Enum8: 'Int8Array',
  Enum16: 'Int16Array',
  Date: 'Uint16Array',
  Date32: 'Int32Array',
  DateTime: 'Uint32Array',
  DateTime64: 'BigInt64Array',
  Time: 'Int32Array',
  Time64: 'BigInt64Array',
}

/**
 * A type alias for the batch of a route.
 *
 * @param {string} name
 * @param {{ name: string, type: string, isNullable: boolean, doc: string }[]} columns
 * @returns {{ text: string, imports: string[] }} `imports` are the types of millrace that it names
 */
function printBatch(name, columns) {
  const types = columns.map(({ type, isNullable }) => columnType(type, isNullable))
  const lines = columns.map((column, i) => `  /** ${column.doc} */\n  ${property(column.name)}: ${types[i]}\n`)
  const imports = ['Batch', ...types.map((type) => type.split('<', 1)[0])]
  return { text: `export type ${name} = Batch<{\n${lines.join('')}}>\n`, imports }
}

/**
 * @param {string} type of ClickHouse
 * @param {boolean} canBeNull also where the type has no NULL, but a DEFAULT
 */
function columnType(type, canBeNull) {
  const { name, parts } = unwrapped(type)
  const orNull = canBeNull || isNullable(type) ? 'null' : 'never'
  const parameters = (...all) => {
    // Trailing parameters that are the defaults of the type are left out.
    while (all.at(-1) === undefined) all.pop()
    return `<${all.join(', ')}>`
  }
  const array = ARRAYS[name]
  const last = orNull === 'null' ? 'null' : undefined
  if (name === 'String') return `TextColumn${last ? '<null>' : ''}`
  if (/^Date/.test(name)) return `TimeColumn${parameters(array, ...(last ? ['Date', 'Date | bigint', last] : []))}`
  if (/^Time/.test(name)) return `TimeColumn${parameters(array, 'string', 'string | bigint', last)}`
  if (array) {
    const [get, set] = valueTypes(name, parts)
    return `ArrayColumn${parameters(array, get, set ?? (last && get), last)}`
  }
  const get = jsonType(type)
  return `Column<${orNull === 'null' && !/\bnull$/.test(get) ? `${get} | null` : get}, unknown>`
}

/** The type that `get` gives for a type with an array, and the one that `set` takes if that is more. */
function valueTypes(name, parts) {
  if (name.startsWith('Float')) return ['number']
  if (name === 'Bool') return ['boolean']
  if (name.endsWith('64')) return ['bigint', 'bigint | number']
  if (name.startsWith('Enum')) {
    const names = enumNames(parts)
    return [names, `${names} | number`]
  }
  return ['number', 'number | bigint']
}

const enumNames = (parts) => parts.map((part) => JSON.stringify(unquoted(part))).join(' | ')

/** `'it''s' = 1` → it's */
function unquoted(part) {
  const text = /^'((?:[^'\\]|\\.|'')*)'/.exec(part)?.[1] ?? part
  return text.replace(/\\(.)|''/g, (_, escaped) => escaped ?? "'")
}

/** The type that `get` gives for any type, as it is within others. */
function jsonType(type) {
  const { name, parts } = parse(type)
  switch (name) {
    case 'Nullable':
      return `${jsonType(parts[0])} | null`
    case 'LowCardinality':
      return jsonType(parts[0])
    case 'SimpleAggregateFunction':
      return jsonType(parts.at(-1))
    case 'Array':
      return `${inParentheses(jsonType(parts[0]))}[]`
    case 'Map':
      return `Record<string, ${jsonType(parts[1])}>`
    case 'Tuple':
      return tuple(parts)
    case 'JSON':
      return 'Record<string, unknown>'
    case 'Bool':
      return 'boolean'
    case 'Enum8':
    case 'Enum16':
      return enumNames(parts)
  }
  if (/^U?Int(8|16|32)$|^B?Float\d+$/.test(name)) return 'number'
  if (/^U?Int\d+$/.test(name)) return 'bigint'
  return TEXTS.test(name) ? 'string' : 'unknown'
}

const TEXTS = /^(String|FixedString|UUID|IPv4|IPv6|Decimal\d*|Date|Date32|DateTime|DateTime64|Time|Time64)$/

function tuple(parts) {
  const elements = parts.map((part) => /^(?:`((?:[^`\\]|\\.)*)`|([A-Za-z_]\w*)) +(.*)$/s.exec(part))
  if (!elements.every(Boolean)) return `[${parts.map(jsonType).join(', ')}]`
  const members = elements.map(([, quoted, plain, type]) => `${property(quoted?.replace(/\\(.)/g, '$1') ?? plain)}: ${jsonType(type)}`)
  return `{ ${members.join('; ')} }`
}

const inParentheses = (type) => (/ [|&] /.test(type) ? `(${type})` : type)

function unwrapped(type) {
  const { name, parts } = parse(type)
  if (name === 'Nullable' || name === 'LowCardinality') return unwrapped(parts[0])
  return name === 'SimpleAggregateFunction' ? unwrapped(parts.at(-1)) : { name, parts }
}

const isNullable = (type) => /^(LowCardinality\()?Nullable\(/.test(type)

module.exports = { printBatch }
