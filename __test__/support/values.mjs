// JSON texts for one value of a type. They are texts, not values, so that every way to write a value occurs. types.test.mjs
// lists texts that ClickHouse and millrace read differently.

/**
 * Texts for a value: some that are always tried, and any number of others.
 *
 * @typedef {{ edges: string[], random: (r: import('./random.mjs').Random) => string }} Texts
 */

/** @returns {Texts} */
export function integer(bits, { signed = false } = {}) {
  const max = 2n ** BigInt(signed ? bits - 1 : bits) - 1n
  const min = signed ? -max - 1n : 0n
  const numbers = [min, max, 0n, 1n, min + 1n, max - 1n, max / 2n, max / 2n + 1n]
  if (signed) numbers.push(-1n, -2n)
  const edges = numbers.map(String)
  return {
    edges: [...edges, `"${max}"`, `"${min}"`, '"+7"', '"007"', 'true', 'false'],
    // Short and long numbers are equally frequent.
    random: (r) => {
      const value = r.between(min, max)
      const text = String(r.chance(0.5) ? value : value >> BigInt(r.below(bits)))
      return r.chance(0.1) ? `"${text}"` : text
    },
  }
}

/**
 * Decimals of `precision` digits, `scale` of them behind the point.
 *
 * @returns {Texts}
 */
export function fixedPoint(precision, scale) {
  const most = '9'.repeat(precision)
  const least = '1'.padStart(scale + 1, '0')
  const extremes = [most, `-${most}`, least, `-${least}`, '1'.padEnd(scale + 1, '0')]
  const edges = extremes.map((digits) => pointed(digits, scale))
  if (precision === scale) edges.pop()
  edges.push('0', '-0', '0.0', '"0"', `1e-${scale}`, `${most}e-${scale}`, `-${most}E-${scale}`)
  edges.push(`"${pointed(most, scale)}"`)
  if (precision - scale > 2) edges.push('1e2', '"+1.5e1"', '0.1e1', '7e+0', '10', '"1."', '".0"', '"007"')
  return {
    edges,
    random: (r) => {
      const digits = String(r.between(0n, 10n ** BigInt(1 + r.below(precision)) - 1n))
      const sign = r.chance(0.5) ? '-' : ''
      const text = sign + scaled(r, digits, scale)
      return r.chance(0.1) ? `"${text}"` : text
    },
  }
}

/** A number of `digits`, the last `scale` of them behind the point, written in one of many ways. */
function scaled(random, digits, scale) {
  switch (random.below(4)) {
    case 0:
      return `${digits}${random.pick(['e', 'E'])}-${scale}`
    case 1: {
      const behind = random.below(digits.length + 1)
      return `${pointed(digits, behind)}e${behind - scale}`
    }
    case 2:
      return pointed(digits, scale).replace(/\.?0+$/, '') || '0'
    default:
      return pointed(digits, scale)
  }
}

/** '12345' with 2 digits behind the point is '123.45'. */
function pointed(digits, behind) {
  if (behind === 0) return digits
  const sign = digits.startsWith('-') ? '-' : ''
  const all = digits.slice(sign.length).padStart(behind + 1, '0')
  return `${sign}${all.slice(0, -behind)}.${all.slice(-behind)}`
}

export function bool() {
  const edges = ['true', 'false', '1', '0']
  return { edges, random: (r) => r.pick(edges) }
}

export function float64() {
  const edges = [
    '0', '-0', '-0.0', '0.0', '1', '-1', '0.1', '0.30000000000000004', '1e0', '1E5', '1e+5', '-2.5e-3', '123456789012345678',
    '9007199254740993', '18446744073709551615', '18446744073709551616', '-9223372036854775808', '5e-324', '4.9e-324',
    '2.2250738585072014e-308', '2.2250738585072011e-308', '1.7976931348623157e308', '-1.7976931348623157e308',
    '1e-400', '0.1000000000000000055511151231257827', '8.98846567431158e307', '9007199254740992.5', '"1.5"', '"-inf"',
    '"Infinity"', 'true',
  ]
  return {
    edges,
    random: (r) => {
      if (r.chance(0.4)) return float(r, 20, 300)
      const view = new DataView(new ArrayBuffer(8))
      do {
        view.setUint32(0, r.bits())
        view.setUint32(4, r.bits())
      } while (!Number.isFinite(view.getFloat64(0)))
      return String(view.getFloat64(0))
    },
  }
}

export function float32() {
  const edges = [
    '0', '-0.0', '1', '0.1', '16777216', '16777217', '16777219', '3.4028234663852886e38', '-3.4028235e38', '1e-45',
    '1.4e-45', '1.17549435e-38', '1e-50', '0.333333343267440796',
    '33554433', '1.1', '9.999999e-5', '3.4e38', '"0.1"', '"inf"', 'true',
    // Rounded to a Float64 first, these would be others.
    '1.00000017881393421514957253748434595763683319091797', '7.038531e-26',
  ]
  return {
    edges,
    random: (r) => {
      if (r.chance(0.5)) return float(r, 12, 37)
      const view = new DataView(new ArrayBuffer(4))
      do view.setUint32(0, r.bits())
      while (!Number.isFinite(view.getFloat32(0)))
      return String(view.getFloat32(0))
    },
  }
}

/** A number of up to `digits` digits, with a point somewhere and perhaps an exponent. */
export function float(random, digits, exponent) {
  const length = 1 + random.below(digits)
  let text = String(random.below(10))
  if (length > 1) text += '.'
  for (let i = 1; i < length; i++) text += random.below(10)
  if (random.chance(0.5)) text += `${random.pick('eE')}${random.pick(['', '+', '-'])}${random.below(exponent)}`
  return (random.chance(0.5) ? '-' : '') + text
}

/** The same, where the lower half of a Float32 is cut off. */
export function bfloat16() {
  const { edges, random } = float32()
  const between = [
    '1.00390625', '1.005859375', '1.01171875', '1.999', '257', '259', '9.2e-41', '4.6e-41', '3.3961775e38',
  ]
  return { edges: [...edges, ...between], random }
}

export function string() {
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

/** Strings of at most `bytes` bytes of UTF-8. */
export function shortString(bytes) {
  const fits = (text) => Buffer.byteLength(JSON.parse(text)) <= bytes
  const edges = [...string().edges.filter(fits), `"${'z'.repeat(bytes)}"`, `"${'\\u0000'.repeat(bytes)}"`]
  const random = (r) => {
    let text = ''
    for (let next = character(r); fits(`"${text}${next}"`); next = character(r)) {
      text += next
      if (r.chance(0.2)) break
    }
    return `"${text}"`
  }
  return { edges, random }
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

export function unicodeEscape(random, c) {
  let text = ''
  for (let i = 0; i < c.length; i++) {
    const hex = c.charCodeAt(i).toString(16).padStart(4, '0')
    text += `\\u${random.chance(0.5) ? hex : hex.toUpperCase()}`
  }
  return text
}

/**
 * Points in time up to `max` seconds since 1970, written as text with an offset, as text in the column's own zone, or as
 * a number in the unit of the column where its magnitude says the same. Texts that ClickHouse and
 * millrace read differently are not here but in the list of types.test.mjs.
 */
export function time({ max = 10_000_000_000, scale, zone = 'UTC' }) {
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
        // When clocks change, one text can mean two points in time, or none.
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

/** Days from `min` to `max`, counted from 1970. */
export function date(min, max) {
  const day = (n) => JSON.stringify(new Date(n * 86_400_000).toISOString().slice(0, 10))
  const days = [min, min + 1, 0, 1, 59, 11_016, 19_782, max - 1, max]
  return { edges: days.map(day), random: (r) => day(min + r.below(max - min + 1)) }
}

/** A time of day, which may be negative and longer than a day. */
export function timeOfDay({ scale }) {
  const most = 3_599_999
  const text = (seconds, fraction) => {
    const [hours, minutes] = [Math.trunc(Math.abs(seconds) / 3600), Math.trunc(Math.abs(seconds) / 60) % 60]
    return `"${seconds < 0 ? '-' : ''}${two(hours)}:${two(minutes)}:${two(Math.abs(seconds) % 60)}${fraction}"`
  }
  const edges = [0, 1, -1, 59, 86_399, 86_400, most, -most].map((seconds) => text(seconds, ''))
  if (scale > 0) {
    const digits = `.${'9'.repeat(scale)}`
    edges.push(text(most, digits), text(-most, digits), text(3723, '.5'), text(-3723, '.5'), '"-00:00:00.5"')
  }
  const random = (r) => {
    const seconds = Number(r.between(0n, BigInt(r.pick([59, 86_399, most])))) * r.pick([1, -1])
    const fraction = scale > 0 && r.chance(0.7) ? String(r.below(10 ** scale)).padStart(scale, '0') : ''
    return text(seconds, fraction && `.${fraction.slice(0, 1 + r.below(scale))}`)
  }
  return { edges, random }
}

export function uuid() {
  const random = (r) => {
    const hex = Array.from({ length: 4 }, () => r.bits().toString(16).padStart(8, '0')).join('')
    const text = hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
    return JSON.stringify(r.chance(0.7) ? text : text.toUpperCase())
  }
  const edges = ['"00000000-0000-0000-0000-000000000000"', '"ffffffff-ffff-ffff-ffff-ffffffffffff"', '"01234567-89ab-cdef-FEDC-BA9876543210"']
  return { edges, random }
}

export function names(list) {
  const texts = list.map((name) => JSON.stringify(name))
  return { edges: texts, random: (r) => r.pick(texts) }
}

export function ipv4() {
  const text = (n) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join('.')
  const edges = [0, 1, 0x01020304, 0x7f000001, 0xffffffff].map((n) => JSON.stringify(text(n)))
  return { edges, random: (r) => JSON.stringify(text(r.bits())) }
}

export function ipv6() {
  const edges = [
    '::', '::1', '1::', '2001:db8::1', '2001:DB8::A', '2001:0db8:0000:0000:0000:0000:0000:0001', '1:2:3:4:5:6:7:8',
    '1:2:3:4:5:6:7::', '::2:3:4:5:6:7:8', '::ffff:1.2.3.4', '::FFFF:255.255.255.255', '1.2.3.4', '::1.2.3.4',
    '1:2:3:4:5:6:1.2.3.4', '64:ff9b::192.0.2.33', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fe80::1', '0:0::0:0',
  ]
  const group = (r) => {
    const hex = r.pick([0, r.below(16), r.below(65_536)]).toString(16)
    return r.chance(0.2) ? hex.padStart(4, '0').toUpperCase() : hex
  }
  const random = (r) => {
    const groups = Array.from({ length: 8 }, () => group(r))
    if (r.chance(0.5)) return JSON.stringify(groups.join(':'))
    const [from, count] = [r.below(7), 1 + r.below(7)]
    const [before, after] = [groups.slice(0, from), groups.slice(from + count)]
    return JSON.stringify(`${before.join(':')}::${after.join(':')}`)
  }
  return { edges: edges.map((text) => JSON.stringify(text)), random }
}
