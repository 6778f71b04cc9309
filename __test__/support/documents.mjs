// Random JSON documents for tables with a column of every supported type. They are texts, not values, so that every way to
// write a value occurs.

import {
  array, either, fraction, json, junk, map, optional, record, shuffled, some, tuple, word,
} from './composites.mjs'
import {
  bfloat16, bool, date, fixedPoint, float32, float64, integer, ipv4, ipv6, names, shortString, string, time, timeOfDay,
  unicodeEscape, uuid,
} from './values.mjs'

const SIGNED = { signed: true }
const SECONDS_OF_32_BITS = 4_294_967_295
const position = tuple(float64(), float64())
// Numbers as a Variant or a Dynamic reads them.
const number = either(plain(64), fraction())

/** By family: each column's type and what may stand for it: `edges` in turn, then `random`. All are JSON texts. */
export const FAMILIES = {
  numbers: {
    UInt8: integer(8),
    UInt16: integer(16),
    UInt32: integer(32),
    UInt64: integer(64),
    UInt128: integer(128),
    UInt256: integer(256),
    Int8: integer(8, SIGNED),
    Int16: integer(16, SIGNED),
    Int32: integer(32, SIGNED),
    Int64: integer(64, SIGNED),
    Int128: integer(128, SIGNED),
    Int256: integer(256, SIGNED),
    Float32: float32(),
    Float64: float64(),
    BFloat16: bfloat16(),
    'Decimal(9, 2)': fixedPoint(9, 2),
    'Decimal(9, 9)': fixedPoint(9, 9),
    'Decimal(18, 0)': fixedPoint(18, 0),
    'Decimal(18, 6)': fixedPoint(18, 6),
    'Decimal(38, 10)': fixedPoint(38, 10),
    'Decimal(76, 38)': fixedPoint(76, 38),
    Bool: bool(),
    'SimpleAggregateFunction(sum, UInt64)': integer(64),
    'SimpleAggregateFunction(max, Float64)': float64(),
  },
  texts: {
    String: string(),
    'LowCardinality(String)': string(),
    'FixedString(4)': shortString(4),
    'FixedString(33)': shortString(33),
    'LowCardinality(FixedString(4))': shortString(4),
    UUID: uuid(),
    'LowCardinality(UUID)': uuid(),
    IPv4: ipv4(),
    IPv6: ipv6(),
    "Enum8('' = 0, 'low' = -128, 'high' = 127, 'it\\'s' = 3, 'ü\\\\ / 🚚' = 4)": names(['', 'low', 'high', "it's", 'ü\\ / 🚚']),
    "Enum16('a' = -32768, 'b' = 32767, 'c,d' = 300, '(e = 5)' = 301)": names(['a', 'b', 'c,d', '(e = 5)']),
    'SimpleAggregateFunction(anyLast, LowCardinality(String))': string(),
  },
  times: {
    DateTime: time({ max: SECONDS_OF_32_BITS, scale: 0 }),
    "DateTime('UTC')": time({ max: SECONDS_OF_32_BITS, scale: 0 }),
    "DateTime('Europe/Berlin')": time({ max: SECONDS_OF_32_BITS, scale: 0, zone: 'Europe/Berlin' }),
    "DateTime('Asia/Kathmandu')": time({ max: SECONDS_OF_32_BITS, scale: 0, zone: 'Asia/Kathmandu' }),
    'DateTime64(0)': time({ scale: 0 }),
    "DateTime64(3, 'UTC')": time({ scale: 3 }),
    "DateTime64(3, 'America/New_York')": time({ scale: 3, zone: 'America/New_York' }),
    'DateTime64(6)': time({ scale: 6 }),
    "DateTime64(6, 'Asia/Kathmandu')": time({ scale: 6, zone: 'Asia/Kathmandu' }),
    "DateTime64(9, 'UTC')": time({ max: 9_223_372_036, scale: 9 }),
    Date: date(0, 65_535),
    Date32: date(-25_567, 120_529),
    Time: timeOfDay({ scale: 0 }),
    'Time64(0)': timeOfDay({ scale: 0 }),
    'Time64(3)': timeOfDay({ scale: 3 }),
    'Time64(9)': timeOfDay({ scale: 9 }),
    "SimpleAggregateFunction(max, DateTime64(3, 'UTC'))": time({ scale: 3 }),
  },
  composites: {
    'Array(UInt8)': array(integer(8)),
    'Array(Nullable(Int128))': array(optional(integer(128, SIGNED))),
    'Array(Array(String))': array(array(string())),
    'Array(LowCardinality(String))': array(string()),
    'Array(LowCardinality(Nullable(String)))': array(optional(string())),
    'Array(FixedString(4))': array(shortString(4)),
    'Array(Bool)': array(bool()),
    'Array(Decimal(18, 6))': array(fixedPoint(18, 6)),
    "Array(DateTime64(3, 'UTC'))": array(time({ scale: 3 })),
    "Array(Enum8('a' = 1, 'b' = -2))": array(names(['a', 'b'])),
    'Tuple(UInt8, String)': tuple(integer(8), string()),
    'Tuple(Nullable(Float64), Array(UInt16), IPv4)': tuple(optional(float64()), array(integer(16)), ipv4()),
    'Tuple(a UInt8, b Nullable(String))': record({ a: integer(8), b: optional(string()) }, { omissible: ['b'] }),
    'Tuple(a Tuple(b Int32, `c d` Array(String)), e LowCardinality(Nullable(String)))': record(
      { a: record({ b: integer(32, SIGNED), 'c d': array(string()) }), e: optional(string()) },
      { omissible: ['e'] },
    ),
    'Array(Tuple(lat Float64, lng Float64))': array(record({ lat: float64(), lng: float64() })),
    'Array(Nested(a UInt8, b Nullable(String)))': array(array(record({ a: integer(8), b: optional(string()) }))),
    'Nested(a UInt8, b Array(String))': array(record({ a: integer(8), b: array(string()) })),
    'Map(String, UInt64)': map(string(), integer(64)),
    'Map(String, Array(Float64))': map(string(), array(float64())),
    'Map(LowCardinality(String), Nullable(Int32))': map(string(), optional(integer(32, SIGNED))),
    'Map(UInt16, String)': map(integer(16), string()),
    'Map(Int128, Bool)': map(integer(128, SIGNED), bool()),
    'Map(UUID, Tuple(a UInt8, b String))': map(uuid(), record({ a: integer(8), b: string() })),
    'Map(Date, Map(String, UInt8))': map(date(0, 65_535), map(string(), integer(8))),
    "Map(Enum8('a' = 1, 'b' = 2), Decimal(9, 2))": map(names(['a', 'b']), fixedPoint(9, 2)),
    'SimpleAggregateFunction(groupArrayArray, Array(UInt8))': array(integer(8)),
    Point: position,
    Ring: array(position),
    LineString: array(position),
    Polygon: array(array(position)),
    MultiLineString: array(array(position)),
    MultiPolygon: array(array(array(position)), { most: 3 }),
    'Tuple(at Point, `in` Array(Ring))': record({ at: position, in: array(array(position)) }),
  },
  free: {
    JSON: json(),
    'JSON(a.b UInt32, max_dynamic_paths = 4)': record(
      { a: record({ b: plain(32) }, { closed: true }), c: json(), 'd e': word() },
      { closed: true },
    ),
    'Array(JSON)': array(json()),
    'Map(String, JSON)': map(word(), json()),
    'Tuple(a JSON, b Nullable(JSON))': record({ a: json(), b: optional(json()) }, { omissible: ['b'] }),
    'Variant(String, UInt64)': optional(either(word(), plain(64))),
    'Variant(Array(Float64), JSON)': optional(either(array(number), json())),
    'Variant(Float64, Map(String, Int64))': optional(either(fraction(), map(word(), plain(64, SIGNED)))),
    'Variant(Point, String)': optional(either(word(), tuple(number, number))),
    'Array(Variant(String, UInt64))': array(optional(either(word(), plain(64)))),
    'Map(LowCardinality(String), Variant(Array(Float64), String, UInt64))': map(
      string(),
      optional(either(word(), plain(64), array(number))),
    ),
    Dynamic: optional(either(word(), plain(64), plain(64, SIGNED), fraction(), literal('true', 'false'))),
    'Array(Dynamic)': array(optional(either(word(), plain(64), fraction()))),
    'Map(String, Dynamic)': map(word(), optional(either(word(), plain(64, SIGNED), fraction()))),
    'Tuple(a Dynamic, b Dynamic(max_types = 2))': record({
      a: optional(word()),
      b: optional(either(word(), fraction())),
    }),
  },
}

/** Integers without the ways of writing them that could be something else. */
function plain(bits, options = {}) {
  const { edges, random } = integer(bits, options)
  const digits = /^(-[1-9]|\d)\d*$/
  return {
    edges: edges.filter((text) => digits.test(text)),
    random: (r) => random(r).replaceAll('"', ''),
  }
}

function literal(...texts) {
  return { edges: texts, random: (r) => r.pick(texts) }
}

/** The columns of a family's table: each type once as it is and, where there is such a thing, once Nullable. */
export function columnsOf(family) {
  return Object.entries(FAMILIES[family]).flatMap(([type, texts], i) => {
    const column = { name: `c${i}`, type, nullable: false, ...texts }
    const canBeNull = texts.canBeNull ?? !/^(Variant|Dynamic)/.test(type)
    return canBeNull ? [column, { ...column, name: `n${i}`, type: nullable(type), nullable: true }] : [column]
  })
}

function nullable(type) {
  const wrapped = /^(LowCardinality|SimpleAggregateFunction)\((\w+, )?(.*)\)$/.exec(type)
  if (!wrapped) return `Nullable(${type})`
  const [, wrapper, name = '', inner] = wrapped
  return `${wrapper}(${name}${nullable(inner)})`
}

/** The i-th document for these columns: its `id`, then each one's i-th edge while there are any, then what is random. */
export function document(random, i, columns) {
  const fields = [['id', String(i)]]
  for (const column of columns) {
    if (column.nullable && random.chance(0.3)) {
      if (random.chance(0.5)) fields.push([column.name, 'null'])
    } else if (i < column.edges.length) {
      fields.push([column.name, column.edges[i]])
    } else {
      fields.push([column.name, some(random, column)])
    }
  }
  while (random.chance(0.3)) fields.push([`unknown ${fields.length}`, junk(random, 3)])
  const space = random.chance(0.5) ? () => '' : () => random.pick(['', ' ', '  ', '\t', '\r'])
  const text = (random.chance(0.7) ? shuffled(random, fields) : fields).map(
    ([name, value]) => `${space()}${key(random, name)}${space()}:${space()}${value}${space()}`,
  )
  return `{${text.join(',')}}`
}

function key(random, name) {
  if (random.chance(0.95)) return JSON.stringify(name)
  return `"${[...name].map((c) => (c === ' ' ? c : unicodeEscape(random, c))).join('')}"`
}
