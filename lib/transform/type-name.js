'use strict'

// The name of a ClickHouse type, as far as values of it need converting: integers of 64 bits and more come as text.

/**
 * Makes the value that `get` gives of a value of JSON; undefined where that is the same.
 *
 * @param {string} type such as `Array(Tuple(id UInt64, name String))`
 * @param {(digits: string) => number | bigint} [integer] of 64 bits and more
 * @returns {((value: any) => any) | undefined}
 */
function converter(type, integer = BigInt) {
  const { name, parts } = parse(type)
  switch (name) {
    case 'Nullable':
    case 'LowCardinality':
      return converter(parts[0], integer)
    case 'SimpleAggregateFunction':
      return converter(parts.at(-1), integer)
    case 'Array':
      return ofList(parts[0], integer)
    case 'Map':
      return ofMap(parts[1], integer)
    case 'Tuple':
      return ofTuple(parts, integer)
  }
  if (/^U?Int(64|128|256)$/.test(name)) return optional(integer)
  // JSON has no other way to write these.
  if (/^(B?Float)\d+$/.test(name)) return (value) => (typeof value === 'string' ? DENORMAL[value] : value)
  return undefined
}

const DENORMAL = { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, '-inf': Number.NEGATIVE_INFINITY }

/** NULL needs no converting. */
const optional = (convert) => convert && ((value) => (value === null ? null : convert(value)))

function ofList(part, integer) {
  const convert = converter(part, integer)
  return optional(convert && ((items) => items.map(convert)))
}

function ofMap(part, integer) {
  const convert = converter(part, integer)
  return optional(
    convert && ((map) => Object.fromEntries(Object.entries(map).map(([key, value]) => [key, convert(value)]))),
  )
}

function ofTuple(parts, integer) {
  const members = parts.map((part) => {
    const [, quoted, plain, type] = ELEMENT.exec(part) ?? []
    return { name: quoted?.replace(/\\(.)/g, '$1') ?? plain, convert: converter(type ?? part, integer) }
  })
  if (members.every(({ convert }) => convert === undefined)) return undefined
  const byName = new Map(members.map(({ name, convert }) => [name, convert]))
  return optional((tuple) => {
    if (Array.isArray(tuple)) return tuple.map((value, i) => members[i]?.convert?.(value) ?? value)
    return Object.fromEntries(Object.entries(tuple).map(([name, value]) => [name, byName.get(name)?.(value) ?? value]))
  })
}

/** An element of a Tuple that has a name. */
const ELEMENT = /^(?:`((?:[^`\\]|\\.)*)`|([A-Za-z_]\w*)) +(.*)$/s

/** `Map(String, Array(UInt64))` → its name and `['String', 'Array(UInt64)']`. */
function parse(type) {
  const open = type.indexOf('(')
  if (open < 0) return { name: type, parts: [] }
  const parts = []
  let depth = 0
  let start = open + 1
  for (let at = open; at < type.length; at++) {
    const char = type[at]
    if (char === '`' || char === "'") {
      do {
        at += type[at] === '\\' ? 2 : 1
      } while (at < type.length && type[at] !== char)
    } else if (char === '(') {
      depth += 1
    } else if (char === ')') {
      depth -= 1
      if (depth === 0) parts.push(type.slice(start, at).trim())
    } else if (char === ',' && depth === 1) {
      parts.push(type.slice(start, at).trim())
      start = at + 1
    }
  }
  return { name: type.slice(0, open), parts }
}

module.exports = { converter, parse }
