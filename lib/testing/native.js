'use strict'

// Native blocks of ClickHouse into objects: see src/clickhouse/native.rs for how they are laid out. Only what millrace
// writes: no LowCardinality, since it sends the type within.

const SECOND = 1000
const DAY = 86_400 * SECOND

/**
 * The frames that ClickHouse calls compressed blocks, here with nothing compressed: a checksum of 16 bytes, the method in
 * one, the length of the frame without the checksum and that of its content in four each, and the content.
 *
 * @param {Buffer} body
 * @returns {Buffer}
 */
function unframe(body) {
  const parts = []
  for (let at = 0; at < body.length; ) {
    if (body[at + 16] !== 0x02) throw new Error("the pipeline must have clickhouse.compression 'none'")
    const end = at + 16 + body.readUInt32LE(at + 17)
    parts.push(body.subarray(at + 25, end))
    at = end
  }
  return Buffer.concat(parts)
}

/**
 * @param {Buffer} bytes Native blocks, one behind the other
 * @returns {Record<string, any>[]} a row each, by the names of the columns
 */
function readBlocks(bytes) {
  const reader = new Reader(bytes)
  /** @type {Record<string, any>[]} */
  const rows = []
  while (!reader.isAtEnd) {
    const columns = reader.varint()
    const count = reader.varint()
    const first = rows.length
    for (let i = 0; i < count; i++) rows.push({})
    for (let i = 0; i < columns; i++) {
      const name = reader.text()
      const type = parseType(reader.text())
      if (count === 0) continue
      reader.prefix(type)
      for (const [row, value] of reader.values(type, count).entries()) rows[first + row][name] = value
    }
  }
  return rows
}

/**
 * @typedef {object} Type
 * @property {string} name
 * @property {string[]} texts its arguments
 * @property {Type[]} parts the types among them
 * @property {string[]} names those of a Tuple, if it has any
 */

/** The types that these are made of. @type {Record<string, string>} */
const ALIASES = {
  Point: 'Tuple(Float64, Float64)',
  Ring: 'Array(Point)',
  LineString: 'Array(Point)',
  Polygon: 'Array(Ring)',
  MultiLineString: 'Array(LineString)',
  MultiPolygon: 'Array(Polygon)',
}

/** @param {string} text @returns {Type} */
function parseType(text) {
  if (Object.hasOwn(ALIASES, text)) return parseType(ALIASES[text])
  const open = text.indexOf('(')
  if (open < 0) return { name: text, texts: [], parts: [], names: [] }
  const name = text.slice(0, open)
  const texts = split(text.slice(open + 1, text.lastIndexOf(')')))
  if (name === 'Tuple' || name === 'Nested') {
    const pairs = texts.map((part) => /^(`(?:[^`\\]|\\.)+`|[A-Za-z_]\w*) (.+)$/s.exec(part))
    const isNamed = pairs.every((pair) => pair !== null)
    return {
      name,
      texts,
      names: isNamed ? pairs.map((pair) => /** @type {RegExpExecArray} */ (pair)[1].replace(/^`|`$/g, '')) : [],
      parts: texts.map((part, i) => parseType(isNamed ? /** @type {RegExpExecArray} */ (pairs[i])[2] : part)),
    }
  }
  const isWrapper = ['Array', 'Map', 'Nullable', 'LowCardinality', 'Variant'].includes(name)
  if (name === 'SimpleAggregateFunction') return parseType(texts[1])
  // ClickHouse would make states of the values that are sent.
  if (name === 'AggregateFunction') return parseType(valuesOf(texts))
  return { name, texts, parts: isWrapper ? texts.map(parseType) : [], names: [] }
}

/** The type of the values that fill a column of states. @param {string[]} texts the arguments of its type */
function valuesOf(texts) {
  const values = texts.slice(/^\d+$/.test(texts[0]) ? 2 : 1)
  if (values.length === 0) return 'Nullable(Bool)'
  return values.length === 1 ? values[0] : `Tuple(${values.join(', ')})`
}

const READABLE =
  /^(String|FixedString|Bool|Float(32|64)|Nothing|Date|Date32|DateTime|DateTime64|Time|Time64|UUID|IPv[46]|Enum(8|16)|Decimal|Nullable|LowCardinality|Array|Nested|Tuple|Map|Variant|U?Int(8|16|32|64|128|256))$/

/**
 * @param {string} text
 * @returns {string | undefined} the type within it that cannot be read
 */
function unreadable(text) {
  const find = (/** @type {Type} */ { name, parts }) => {
    if (!READABLE.test(name)) return name
    for (const part of parts) {
      const found = find(part)
      if (found !== undefined) return found
    }
    return undefined
  }
  return find(parseType(text))
}

/** At the commas that are neither in brackets nor in quotes. @param {string} text */
function split(text) {
  const parts = []
  let [depth, start, quote] = [0, 0, '']
  for (let i = 0; i < text.length; i++) {
    const char = text[i]
    if (quote) {
      if (char === '\\') i++
      else if (char === quote) quote = ''
    } else if (char === "'" || char === '`') quote = char
    else if (char === '(') depth++
    else if (char === ')') depth--
    else if (char === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim())
      start = i + 1
    }
  }
  parts.push(text.slice(start).trim())
  return parts
}

class Reader {
  #bytes
  #at = 0

  /** @param {Buffer} bytes */
  constructor(bytes) {
    this.#bytes = bytes
  }

  get isAtEnd() {
    return this.#at >= this.#bytes.length
  }

  varint() {
    let value = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = this.#take(1)[0]
      value += (byte & 0x7f) * shift
      if (byte < 0x80) return value
    }
  }

  text() {
    return this.#take(this.varint()).toString('utf8')
  }

  /** @param {number} length */
  #take(length) {
    if (this.#at + length > this.#bytes.length) throw new Error('the block is cut off')
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  /** How Variant within a type is written: all of it stands before the values. @param {Type} type */
  prefix(type) {
    if (type.name === 'Variant') this.#take(8)
    for (const part of type.parts) this.prefix(part)
  }

  /** @param {Type} type @param {number} count @returns {any[]} */
  values(type, count) {
    const { name, parts, texts } = type
    const each = (/** @type {() => any} */ read) => Array.from({ length: count }, read)
    const [bits] = /\d+$/.exec(name) ?? []
    switch (name) {
      case 'String':
        return each(() => this.text())
      case 'FixedString':
        return each(() => this.#take(Number(texts[0])).toString('utf8'))
      case 'Bool':
        return each(() => this.#take(1)[0] === 1)
      case 'Float32':
        return each(() => shortest(this.#take(4).readFloatLE(0)))
      case 'Float64':
        return each(() => this.#take(8).readDoubleLE(0))
      case 'Nothing':
        return each(() => (this.#take(1), null))
      case 'Date':
        return each(() => date(this.#take(2).readUInt16LE(0)))
      case 'Date32':
        return each(() => date(this.#take(4).readInt32LE(0)))
      case 'DateTime':
        return each(() => new Date(this.#take(4).readUInt32LE(0) * SECOND).toISOString().replace('.000', ''))
      case 'DateTime64':
        return each(() => time(this.#take(8).readBigInt64LE(0), Number(texts[0])))
      case 'Time':
        return each(() => clock(BigInt(this.#take(4).readInt32LE(0)), 0))
      case 'Time64':
        return each(() => clock(this.#take(8).readBigInt64LE(0), Number(texts[0])))
      case 'UUID':
        return each(() => uuid(this.#take(16)))
      case 'IPv4':
        return each(() => [...this.#take(4)].reverse().join('.'))
      case 'IPv6':
        return each(() => ipv6(this.#take(16)))
      case 'Enum8':
      case 'Enum16': {
        const names = enumNames(texts)
        return each(() => names.get(name === 'Enum8' ? this.#take(1).readInt8(0) : this.#take(2).readInt16LE(0)))
      }
      case 'Decimal': {
        const [precision, scale] = texts.map(Number)
        const bytes = precision <= 9 ? 4 : precision <= 18 ? 8 : precision <= 38 ? 16 : 32
        return each(() => decimal(this.#integer(bytes, true), scale))
      }
      case 'Nullable': {
        const nulls = [...this.#take(count)]
        return this.values(parts[0], count).map((value, i) => (nulls[i] ? null : value))
      }
      case 'Array':
        return this.#lists(count, (total) => this.values(parts[0], total))
      case 'Nested':
        return this.#lists(count, (total) => this.#tuples(type, total))
      case 'Tuple':
        return this.#tuples(type, count)
      case 'Map':
        return this.#lists(count, (total) => {
          const keys = this.values(parts[0], total)
          const values = this.values(parts[1], total)
          return keys.map((key, i) => [key, values[i]])
        }).map((entries) => Object.fromEntries(entries))
      case 'Variant':
        return this.#variants(parts, texts, count)
      default:
    }
    if (bits && /^U?Int\d+$/.test(name)) {
      return each(() => {
        const value = this.#integer(Number(bits) / 8, name.startsWith('Int'))
        const isSafe = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER
        return isSafe ? Number(value) : value
      })
    }
    throw new Error(`columns of type ${name} cannot be read in tests`)
  }

  /** @param {number} bytes @param {boolean} isSigned */
  #integer(bytes, isSigned) {
    let value = 0n
    for (const byte of [...this.#take(bytes)].reverse()) value = (value << 8n) | BigInt(byte)
    return isSigned ? BigInt.asIntN(bytes * 8, value) : value
  }

  /** @param {number} count @param {(total: number) => any[]} read */
  #lists(count, read) {
    const ends = Array.from({ length: count }, () => Number(this.#take(8).readBigUInt64LE(0)))
    const all = read(ends.at(-1) ?? 0)
    return ends.map((end, i) => all.slice(i === 0 ? 0 : ends[i - 1], end))
  }

  /** @param {Type} type @param {number} count */
  #tuples({ parts, names }, count) {
    const columns = parts.map((part) => this.values(part, count))
    return Array.from({ length: count }, (_, row) => {
      const values = columns.map((column) => column[row])
      return names.length > 0 ? Object.fromEntries(names.map((name, i) => [name, values[i]])) : values
    })
  }

  /** The part of each row, 255 being none, in the order of their names; then the values of each part. */
  #variants(/** @type {Type[]} */ parts, /** @type {string[]} */ texts, /** @type {number} */ count) {
    const which = [...this.#take(count)]
    const order = texts.map((text, i) => ({ text, part: parts[i] })).sort((one, other) => (one.text < other.text ? -1 : 1))
    const columns = order.map(({ part }, i) => this.values(part, which.filter((number) => number === i).length))
    return which.map((number) => (number === 255 ? null : columns[number].shift()))
  }
}

/** The fewest digits that are this float again, as ClickHouse writes it. @param {number} float */
function shortest(float) {
  for (let digits = 6; digits < 9; digits++) {
    const value = Number(float.toPrecision(digits))
    if (Math.fround(value) === float) return value
  }
  return float
}

/** @param {number} days */
const date = (days) => new Date(days * DAY).toISOString().slice(0, 10)

/** @param {bigint} ticks @param {number} digits */
function time(ticks, digits) {
  const [seconds, fraction] = divide(ticks, digits)
  const text = new Date(Number(seconds) * SECOND).toISOString().slice(0, -5)
  return `${text}${fraction}Z`
}

/** @param {bigint} ticks @param {number} digits */
function clock(ticks, digits) {
  const [seconds, fraction] = divide(ticks < 0n ? -ticks : ticks, digits)
  const parts = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n].map((part) => String(part).padStart(2, '0'))
  return `${ticks < 0n ? '-' : ''}${parts.join(':')}${fraction}`
}

/**
 * @param {bigint} ticks @param {number} digits @returns {[bigint, string]} full seconds, rounded down,
 * and the rest as `.123`
 */
function divide(ticks, digits) {
  const unit = 10n ** BigInt(digits)
  const rest = ((ticks % unit) + unit) % unit
  return [(ticks - rest) / unit, digits > 0 ? `.${String(rest).padStart(digits, '0')}` : '']
}

/** @param {bigint} value @param {number} scale */
function decimal(value, scale) {
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0')
  const text = scale > 0 ? `${digits.slice(0, -scale)}.${digits.slice(-scale)}` : digits
  return value < 0n ? `-${text}` : text
}

/** Two halves of 64 bits, each little-endian. @param {Buffer} bytes */
function uuid(bytes) {
  const hex = [bytes.readBigUInt64LE(0), bytes.readBigUInt64LE(8)].map((half) => half.toString(16).padStart(16, '0')).join('')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** @param {Buffer} bytes */
function ipv6(bytes) {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16))
  // The way a URL writes it: the longest run of zeros is left out.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

/** @param {string[]} texts `'name' = 1` */
function enumNames(texts) {
  return new Map(
    texts.map((text) => {
      const [, name, number] = /^'((?:[^'\\]|\\.)*)' = (-?\d+)$/s.exec(text) ?? []
      return [Number(number), name.replace(/\\(.)/gs, '$1')]
    }),
  )
}

module.exports = { readBlocks, unframe, unreadable }
