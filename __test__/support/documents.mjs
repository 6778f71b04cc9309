// Random JSON documents for a table that has a column of every supported type: texts, not values, so that every way of
// writing the same value is met.

/** Each column's type and what may stand for it: `edges` in turn, then `random`. All are JSON texts. */
export const TYPES = {
  UInt8: integer(0n, 2n ** 8n - 1n),
  UInt16: integer(0n, 2n ** 16n - 1n),
  UInt32: integer(0n, 2n ** 32n - 1n),
  UInt64: integer(0n, 2n ** 64n - 1n),
  Int8: integer(-(2n ** 7n), 2n ** 7n - 1n),
  Int16: integer(-(2n ** 15n), 2n ** 15n - 1n),
  Int32: integer(-(2n ** 31n), 2n ** 31n - 1n),
  Int64: integer(-(2n ** 63n), 2n ** 63n - 1n),
  Float32: float32(),
  Float64: float64(),
  Bool: { edges: ['true', 'false'], random: (r) => r.pick(['true', 'false']) },
  String: string(),
  'LowCardinality(String)': string(),
  DateTime: time({ max: 4_294_967_295, scale: 0 }),
  "DateTime('UTC')": time({ max: 4_294_967_295, scale: 0 }),
  "DateTime('Europe/Berlin')": time({ max: 4_294_967_295, scale: 0, zone: 'Europe/Berlin' }),
  "DateTime('Asia/Kathmandu')": time({ max: 4_294_967_295, scale: 0, zone: 'Asia/Kathmandu' }),
  'DateTime64(0)': time({ scale: 0 }),
  "DateTime64(3, 'UTC')": time({ scale: 3 }),
  "DateTime64(3, 'America/New_York')": time({ scale: 3, zone: 'America/New_York' }),
  'DateTime64(6)': time({ scale: 6 }),
  "DateTime64(6, 'Asia/Kathmandu')": time({ scale: 6, zone: 'Asia/Kathmandu' }),
  "DateTime64(9, 'UTC')": time({ max: 9_223_372_036, scale: 9 }),
  Date: date(),
  UUID: uuid(),
  "Enum8('' = 0, 'low' = -128, 'high' = 127, 'it\\'s' = 3, 'ü\\\\ / 🚚' = 4)": names(['', 'low', 'high', "it's", 'ü\\ / 🚚']),
  "Enum16('a' = -32768, 'b' = 32767, 'c,d' = 300, '(e = 5)' = 301)": names(['a', 'b', 'c,d', '(e = 5)']),
}

/** The columns of the table, by name: each type once as it is and once Nullable. */
export const COLUMNS = Object.entries(TYPES).flatMap(([type, texts], i) => [
  { name: `c${i}`, type, nullable: false, ...texts },
  { name: `n${i}`, type: nullable(type), nullable: true, ...texts },
])

function nullable(type) {
  return type === 'LowCardinality(String)' ? 'LowCardinality(Nullable(String))' : `Nullable(${type})`
}

/** The i-th document: its `id`, then each column's i-th edge while there are any, then what is random. */
export function document(random, i) {
  const fields = [['id', String(i)]]
  for (const column of COLUMNS) {
    if (column.nullable && random.chance(0.3)) {
      if (random.chance(0.5)) fields.push([column.name, 'null'])
    } else if (i < column.edges.length) {
      fields.push([column.name, column.edges[i]])
    } else {
      fields.push([column.name, random.chance(0.1) ? random.pick(column.edges) : column.random(random)])
    }
  }
  while (random.chance(0.3)) fields.push([`unknown ${fields.length}`, junk(random, 3)])
  if (random.chance(0.7)) shuffle(random, fields)
  const space = random.chance(0.5) ? () => '' : () => random.pick(['', ' ', '  ', '\t', '\r'])
  const text = fields.map(([name, value]) => `${space()}${key(random, name)}${space()}:${space()}${value}${space()}`)
  return `{${text.join(',')}}`
}

function key(random, name) {
  if (random.chance(0.95)) return JSON.stringify(name)
  return `"${[...name].map((c) => (c === ' ' ? c : unicodeEscape(random, c))).join('')}"`
}

function shuffle(random, list) {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.below(i + 1)
    ;[list[i], list[j]] = [list[j], list[i]]
  }
}

/** Any JSON, for fields that nobody reads. */
function junk(random, depth) {
  switch (random.below(depth > 0 ? 6 : 4)) {
    case 0:
      return random.pick(['null', 'true', 'false'])
    case 1:
      return float64().random(random)
    case 2:
      return string().random(random)
    case 3:
      return random.pick(['""', '{}', '[]', '"}"', '"\\""'])
    case 4:
      return `[${Array.from({ length: random.below(4) }, () => junk(random, depth - 1)).join(', ')}]`
    default:
      return `{${Array.from({ length: random.below(4) }, (_, i) => `"c${i}": ${junk(random, depth - 1)}`).join(',')}}`
  }
}

function integer(min, max) {
  const edges = [min, max, 0n, 1n, min + 1n, max - 1n, max / 2n, max / 2n + 1n]
  if (min < 0n) edges.push(-1n, -2n)
  return {
    edges: edges.map(String),
    // As many short numbers as long ones.
    random: (r) => {
      const value = r.between(min, max)
      return String(r.chance(0.5) ? value : value >> BigInt(r.below(64)))
    },
  }
}

function float64() {
  const edges = [
    '0', '-0', '-0.0', '0.0', '1', '-1', '0.1', '0.30000000000000004', '1e0', '1E5', '1e+5', '-2.5e-3', '123456789012345678',
    '9007199254740993', '18446744073709551615', '18446744073709551616', '-9223372036854775808', '5e-324', '4.9e-324',
    '2.2250738585072014e-308', '2.2250738585072011e-308', '1.7976931348623157e308', '-1.7976931348623157e308',
    '1e-400', '0.1000000000000000055511151231257827', '8.98846567431158e307', '9007199254740992.5',
  ]
  return {
    edges,
    random: (r) => {
      if (r.chance(0.4)) return decimal(r, 20, 300)
      const view = new DataView(new ArrayBuffer(8))
      do {
        view.setUint32(0, r.bits())
        view.setUint32(4, r.bits())
      } while (!Number.isFinite(view.getFloat64(0)))
      return String(view.getFloat64(0))
    },
  }
}

function float32() {
  const edges = [
    '0', '-0.0', '1', '0.1', '16777216', '16777217', '16777219', '3.4028234663852886e38', '-3.4028235e38', '1e-45',
    '1.4e-45', '1.17549435e-38', '1e-50', '0.333333343267440796',
    '33554433', '1.1', '9.999999e-5', '3.4e38',
  ]
  return {
    edges,
    random: (r) => {
      if (r.chance(0.5)) return decimal(r, 12, 37)
      const view = new DataView(new ArrayBuffer(4))
      do view.setUint32(0, r.bits())
      while (!Number.isFinite(view.getFloat32(0)))
      return String(view.getFloat32(0))
    },
  }
}

/** A number of up to `digits` digits, with a point somewhere and perhaps an exponent. */
function decimal(random, digits, exponent) {
  const length = 1 + random.below(digits)
  let text = String(random.below(10))
  if (length > 1) text += '.'
  for (let i = 1; i < length; i++) text += random.below(10)
  if (random.chance(0.5)) text += `${random.pick('eE')}${random.pick(['', '+', '-'])}${random.below(exponent)}`
  return (random.chance(0.5) ? '-' : '') + text
}

function string() {
  const edges = [
    '""', '"a"', '"\\u0000"', '"a\\u0000b"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\ud83d\\ude9a"', '"🚚"', '"\\uD83D\\uDE9A x"', '"é"',
    '"e\\u0301"', '"\\u00e9"', '"\\u2028\\u2029"', '"\u2028"', '"\\uffff"', '"\\u007f"', '"\u007f"', '"null"', '"\'"', '"`\'%"',
    '" leading and trailing "', '"日本語"', '"\\u65e5\\u672c"', '"مرحبا"', '"\u202e"', '"𐍈"', '"\\udbff\\udfff"',
    `"${'x'.repeat(127)}"`, `"${'y'.repeat(128)}"`, `"${'ü'.repeat(8200)}"`,
  ]
  return {
    edges,
    random: (r) => {
      let text = ''
      const length = r.chance(0.05) ? r.below(3000) : r.below(20)
      for (let i = 0; i < length; i++) text += character(r)
      return `"${text}"`
    },
  }
}

function character(random) {
  const roll = random.below(20)
  if (roll < 12) return JSON.stringify(String.fromCharCode(32 + random.below(95))).slice(1, -1)
  if (roll < 14) return random.pick(['\\n', '\\t', '\\r', '\\b', '\\f', '\\/', '\\\\', '\\"'])
  let code
  do code = random.chance(0.5) ? random.below(0x800) : random.below(0x110000)
  while (code >= 0xd800 && code < 0xe000)
  const c = String.fromCodePoint(code)
  return code < 0x20 || random.chance(0.4) ? unicodeEscape(random, c) : JSON.stringify(c).slice(1, -1)
}

function unicodeEscape(random, c) {
  let text = ''
  for (let i = 0; i < c.length; i++) {
    const hex = c.charCodeAt(i).toString(16).padStart(4, '0')
    text += `\\u${random.chance(0.5) ? hex : hex.toUpperCase()}`
  }
  return text
}

/**
 * Points in time up to `max` seconds since 1970, written as text with an offset, as text in the column's own zone, or as
 * a number in the unit of the column where its magnitude says the same. What ClickHouse and millrace read differently
 * is not here but in the list of types.test.mjs.
 */
function time({ max = 10_000_000_000, scale, zone = 'UTC' }) {
  const random = (r) => {
    const seconds = Number(r.between(0n, BigInt(max - 1)))
    const digits = scale > 0 && r.chance(0.8) ? String(r.below(10 ** scale)).padStart(scale, '0') : ''
    const fraction = digits === '' ? '' : `.${digits.slice(0, 1 + r.below(scale))}`
    const quoted = (text) => JSON.stringify(text)
    switch (r.below(4)) {
      case 0:
        return quoted(`${clock(seconds, 'UTC').replace(' ', r.pick(['T', ' ']))}${fraction}Z`)
      case 1: {
        const minutes = r.pick([0, 60, -480, 330, 345, -210, 840, -720])
        const local = seconds + minutes * 60
        if (local < 0) return random(r)
        const hours = `${two(Math.trunc(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`
        return quoted(`${clock(local, 'UTC').replace(' ', 'T')}${fraction}${minutes < 0 ? '-' : '+'}${hours}`)
      }
      case 2:
        if (scale === 0) return String(seconds)
        return seconds < 100_000_000 ? random(r) : `${seconds}${digits.padEnd(scale, '0')}`
      default: {
        const local = clock(seconds, zone)
        // Where clocks are changed one text can mean two points in time, or none.
        const changing = [-7200, -3600, 3600, 7200].some((s) => {
          const there = Date.parse(`${clock(seconds + s, zone).replace(' ', 'T')}Z`)
          return there - Date.parse(`${local.replace(' ', 'T')}Z`) !== s * 1000
        })
        return changing || seconds < 86_400 ? random(r) : quoted(`${local}${fraction}`)
      }
    }
  }
  const edges = [
    '"1970-01-01T00:00:00Z"', '"1970-01-01T00:00:01Z"', '"2000-02-29T23:59:59Z"', '"2024-02-29 12:34:56"', '0',
    JSON.stringify(`${clock(max, 'UTC').replace(' ', 'T')}Z`), '"2038-01-19T03:14:08Z"', '"2016-12-31T23:59:59+01:00"',
    '"2016-12-31T23:59:60Z"', '"2024-02-29"', '"2024-02-29 12:34"', '"2024-10-27T03:33:20.999999999Z"',
  ]
  if (max > 4_294_967_295 && scale > 0) {
    edges.push('"1969-12-31T23:59:59.9Z"', '"1900-01-01T00:00:00Z"', '"1905-06-07T08:09:10.5Z"', '"1950-06-01 12:00:00"')
  }
  return { edges, random }
}

const formats = new Map()

/** 'YYYY-MM-DD hh:mm:ss' of a point in time as the clocks of `zone` show it. */
function clock(seconds, zone) {
  if (zone === 'UTC') return new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')
  if (!formats.has(zone)) {
    formats.set(zone, new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'medium' }))
  }
  return formats.get(zone).format(seconds * 1000)
}

const two = (n) => String(n).padStart(2, '0')

function date() {
  const day = (n) => JSON.stringify(new Date(n * 86_400_000).toISOString().slice(0, 10))
  return { edges: [0, 1, 59, 11_016, 19_782, 65_534, 65_535].map(day), random: (r) => day(r.below(65_536)) }
}

function uuid() {
  const random = (r) => {
    const hex = Array.from({ length: 4 }, () => r.bits().toString(16).padStart(8, '0')).join('')
    const text = hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
    return JSON.stringify(r.chance(0.7) ? text : text.toUpperCase())
  }
  const edges = ['"00000000-0000-0000-0000-000000000000"', '"ffffffff-ffff-ffff-ffff-ffffffffffff"', '"01234567-89ab-cdef-FEDC-BA9876543210"']
  return { edges, random }
}

function names(list) {
  const texts = list.map((name) => JSON.stringify(name))
  return { edges: texts, random: (r) => r.pick(texts) }
}
