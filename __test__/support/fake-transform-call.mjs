// A call of the engine for one batch, written in JavaScript: what lib/transform asks of a NativeCall, and a record of it.

import { MillraceError } from '../../lib/error.js'

const ARRAYS = {
  bool: Uint8Array,
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f32: Float32Array,
  f64: Float64Array,
}

/** The engine's description of a type. */
const KINDS = {
  Bool: { kind: 'bool' },
  UInt8: { kind: 'u8' },
  Int8: { kind: 'i8' },
  UInt16: { kind: 'u16' },
  Int16: { kind: 'i16' },
  UInt32: { kind: 'u32' },
  Int32: { kind: 'i32' },
  UInt64: { kind: 'u64' },
  Int64: { kind: 'i64' },
  Float32: { kind: 'f32' },
  Float64: { kind: 'f64' },
  String: { kind: 'text' },
  Date: { kind: 'u16', time: { unit: 'day', precision: 0, zone: 'UTC' } },
  Date32: { kind: 'i32', time: { unit: 'day', precision: 0, zone: 'UTC' } },
  DateTime: { kind: 'u32', time: { unit: 'second', precision: 0, zone: 'UTC' } },
  Time: { kind: 'i32', time: { unit: 'second', precision: 0, zone: '' } },
}

/** The bytes of an unfilled row, as in `src/transform/columns.rs`. */
const UNFILLED = {
  bool: [0xff],
  i8: [0x80],
  u8: [0xff],
  i16: [0, 0x80],
  u16: [0xff, 0xff],
  i32: [0, 0, 0, 0x80],
  u32: [0xff, 0xff, 0xff, 0xff],
  i64: [0, 0, 0, 0, 0, 0, 0, 0x80],
  u64: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  f32: [0x72, 0x6d, 0xc0, 0x7f],
  f64: [0x6c, 0x6c, 0x69, 0x6d, 0, 0, 0xf8, 0x7f],
}

/** Whether rows without a value are marked, so that it is seen which are filled. */
const isMarked = ({ nullable, computed, default: hasDefault }) => nullable && (computed || hasDefault)

/** @param {string} type */
function described(type) {
  const inner = /^Nullable\((.*)\)$/s.exec(type)?.[1] ?? /^LowCardinality\((?:Nullable\()?(String)\)?\)$/.exec(type)?.[1] ?? type
  const nullable = type.includes('Nullable(') && (type.startsWith('Nullable(') || type.startsWith('LowCardinality('))
  const ticks = /^(?:Date)?Time64\((\d)/.exec(inner)
  if (ticks) return { nullable, kind: 'i64', time: { unit: 'ticks', precision: Number(ticks[1]), zone: 'UTC' } }
  const names = /^Enum(8|16)\((.*)\)$/s.exec(inner)
  if (names) {
    const pairs = Array.from(names[2].matchAll(/'([^']*)' = (-?\d+)/g), ([, name, number]) => [name, Number(number)])
    return { nullable, kind: `i${names[1]}`, enum: pairs }
  }
  return { nullable, ...(KINDS[inner] ?? { kind: 'other' }) }
}

/**
 * A column of a fake call: `values` as the cells of the typed array (or strings and bytes, or values of JSON), null where NULL.
 *
 * @param {string} name
 * @param {string} type
 * @param {any[]} values
 * @param {{ computed?: boolean, input?: boolean, default?: boolean }} [flags]
 */
export function column(name, type, values, { computed = false, input = false, default: hasDefault = false } = {}) {
  const its = described(type)
  return { descriptor: { name, type, computed, input, default: hasDefault, ...its, nullable: its.nullable || hasDefault }, values }
}

export class FakeCall {
  generation
  rows
  /** The columns that crossed, each as `read lat` or `write lat`. */
  crossings = []
  /** By name: what was written back. @type {Record<string, any>} */
  written = {}
  /** `[column, row, bytes]` of each value that was set by itself. */
  set = []
  /** `[table, bytes]` of each row that was emitted. */
  emitted = []
  /** `{ verdicts, reasons }`, once it is finished. @type {any} */
  finished
  /** `{ message, stack }`, once it has failed. @type {any} */
  failed
  #columns
  #answer

  /**
   * @param {any[]} columns those of `column()`
   * @param {{ rows?: number, generation?: number, refuse?: (method: string, ...args: any[]) => any, answer?: string | null }} [options]
   *   `refuse` returns the description of an error that a method is to throw
   */
  constructor(columns, { rows = columns[0]?.values.length ?? 0, generation = 1, refuse, answer = null } = {}) {
    this.rows = rows
    this.generation = generation
    this.#columns = columns
    this.#answer = answer
    for (const method of ['columns', 'read', 'textBytes', 'readTexts', 'readJson', 'write', 'writeTexts', 'setValue', 'emit', 'message', 'finish', 'fail']) {
      const its = this[method].bind(this)
      this[method] = (...args) => {
        if (this.isOver) throw nativeError({ code: 'INVALID_STATE', message: 'the call is over' })
        const error = refuse?.(method, ...args)
        if (error) throw nativeError(error)
        return its(...args)
      }
    }
  }

  get isOver() {
    return this.finished !== undefined || this.failed !== undefined
  }

  columns() {
    this.crossings.push('columns')
    return JSON.stringify(this.#columns.map(({ descriptor }) => descriptor))
  }

  read(place, bytes, nulls) {
    const { descriptor, values } = this.#column('read', place)
    const cells = new ARRAYS[descriptor.kind](values.map((value) => value ?? (descriptor.kind.endsWith('64') && !descriptor.kind.startsWith('f') ? 0n : 0)))
    check(bytes, cells.byteLength, nulls, descriptor, this.rows)
    bytes.set(new Uint8Array(cells.buffer))
    const mark = UNFILLED[descriptor.kind]
    if (isMarked(descriptor)) values.forEach((value, row) => value === null && bytes.set(mark, row * mark.length))
    nulls?.set(values.map((value) => Number(value === null)))
  }

  textBytes(place) {
    return this.#columns[place].values.reduce((sum, value) => sum + Buffer.byteLength(value ?? ''), 0)
  }

  readTexts(place, bytes, ends, nulls) {
    const { descriptor, values } = this.#column('read', place)
    const all = Buffer.concat(values.map((value) => Buffer.from(value ?? '')))
    check(bytes, all.length, nulls, descriptor, this.rows)
    bytes.set(all)
    let end = 0
    ends.set(values.map((value) => (end += Buffer.byteLength(value ?? ''))))
    nulls?.set(values.map((value) => Number(value === null)))
  }

  readJson(place) {
    return JSON.stringify(this.#column('read', place).values)
  }

  write(place, bytes, nulls) {
    const { descriptor, values } = this.#column('write', place)
    const Type = ARRAYS[descriptor.kind]
    check(bytes, this.rows * Type.BYTES_PER_ELEMENT, nulls, descriptor, this.rows)
    const cells = Array.from(new Type(Uint8Array.from(bytes).buffer))
    const mark = Buffer.from(UNFILLED[descriptor.kind])
    const isFilled = (row) => isMarked(descriptor) && values[row] === null && !mark.equals(bytes.subarray(row * mark.length, (row + 1) * mark.length))
    this.written[descriptor.name] = cells.map((cell, row) => (nulls?.[row] === 1 && !isFilled(row) ? null : cell))
  }

  writeTexts(place, bytes, ends, nulls) {
    const { descriptor, values } = this.#column('write', place)
    check(bytes, ends.at(-1) ?? 0, nulls, descriptor, this.rows)
    if (ends.length !== this.rows) throw new Error(`${ends.length} ends for ${this.rows} rows`)
    const texts = Array.from(ends, (end, row) => Buffer.from(bytes.subarray(row === 0 ? 0 : ends[row - 1], end)))
    const isFilled = (row) => isMarked(descriptor) && values[row] === null && texts[row].length > 0
    this.written[descriptor.name] = texts.map((text, row) => (nulls?.[row] === 1 && !isFilled(row) ? null : text.toString('latin1')))
  }

  setValue(place, row, bytes) {
    const { descriptor } = this.#column('set', place)
    this.set.push([descriptor.name, row, bytes && Buffer.from(bytes).toString('hex')])
  }

  emit(table, bytes) {
    this.emitted.push([table, Buffer.from(bytes).toString('hex')])
  }

  message(row) {
    return {
      topic: `drivers/${row}/position`,
      payload: Buffer.from(`payload ${row}`),
      receivedAt: 1_700_000_000_000 + row,
      qos: 1,
      retain: false,
      userProperties: [['a', 'b']],
    }
  }

  finish(verdicts, reasons) {
    if (verdicts !== null && verdicts.length !== this.rows) throw new Error(`${verdicts.length} verdicts for ${this.rows} rows`)
    this.finished = { verdicts: verdicts && Array.from(verdicts), reasons: JSON.parse(reasons) }
    return this.#answer
  }

  fail(message, stack) {
    this.failed = { message, stack }
  }

  #column(what, place) {
    const its = this.#columns[place]
    this.crossings.push(`${what} ${its.descriptor.name}`)
    return its
  }
}

/** The engine copies exactly what it expects, and nothing of the pool behind Buffer.from. */
function check(bytes, length, nulls, { name, nullable }, rows) {
  if (!(bytes instanceof Uint8Array) || bytes.length !== length) throw new Error(`${name}: ${bytes.length} bytes, not ${length}`)
  if (nullable !== (nulls !== null)) throw new Error(`${name}: nulls where there are none, or none where there are`)
  if (nulls !== null && nulls.length !== rows) throw new Error(`${name}: ${nulls.length} nulls for ${rows} rows`)
}

/** An error as the engine throws it. */
function nativeError(description) {
  return new Error(JSON.stringify(description))
}

/** Runs a transform on a fake call, and returns the call once it is answered. */
export async function runOn(runner, call) {
  runner.run(call)
  const deadline = Date.now() + 10_000
  while (!call.isOver) {
    if (Date.now() > deadline) throw new MillraceError({ code: 'TIMEOUT', message: 'the call was not answered' })
    await new Promise((resolve) => setImmediate(resolve))
  }
  return call
}
