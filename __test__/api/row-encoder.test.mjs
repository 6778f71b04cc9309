// Row objects as the bytes that the engine reads: what each JavaScript value is written as, and which are refused.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'

const { RowEncoder } = createRequire(import.meta.url)('../../lib/row-encoder.js')

/** The bytes of the value of the one column of a row, in hexadecimal. */
function encoded(value) {
  const encoder = new RowEncoder()
  encoder.add({ v: value })
  const text = encoder.bytes.toString('hex')
  assert.match(text, /^bf6176.*ff$/)
  return text.slice(6, -2)
}

class Position {
  constructor() {
    this.lat = 1
  }
}

const WRITTEN = [
  [0, '00'],
  [23, '17'],
  [24, '1818'],
  [255, '18ff'],
  [256, '190100'],
  [65536, '1a00010000'],
  [2 ** 32, '1b0000000100000000'],
  [Number.MAX_SAFE_INTEGER, '1b001fffffffffffff'],
  [-1, '20'],
  [-25, '3818'],
  [Number.MIN_SAFE_INTEGER, '3b001ffffffffffffe'],
  [-0, 'fb8000000000000000'],
  [1.5, 'fb3ff8000000000000'],
  [2 ** 53, 'fb4340000000000000'],
  [1e300, 'fb7e37e43c8800759c'],
  [NaN, 'fb7ff8000000000000'],
  [-Infinity, 'fbfff0000000000000'],
  [0n, '1b0000000000000000'],
  [18446744073709551615n, '1bffffffffffffffff'],
  [-18446744073709551616n, '3bffffffffffffffff'],
  [18446744073709551616n, 'c249010000000000000000'],
  [-18446744073709551617n, 'c349010000000000000000'],
  [2n ** 256n - 1n, `c25820${'ff'.repeat(32)}`],
  ['', '60'],
  ['a', '6161'],
  ['x'.repeat(23), `77${'78'.repeat(23)}`],
  ['x'.repeat(24), `7818${'78'.repeat(24)}`],
  ['é', '62c3a9'],
  ['😀', '64f09f9880'],
  ['\0', '6100'],
  [true, 'f5'],
  [false, 'f4'],
  [null, 'f6'],
  [[], '80'],
  [[1, null, undefined, 'a'], '8401f6f66161'],
  // A hole is null, as in JSON.
  // eslint-disable-next-line no-sparse-arrays
  [[, 1], '82f601'],
  [{}, 'bfff'],
  [{ a: 1, b: undefined, c: { d: [] } }, 'bf6161016163bf616480ffff'],
  [new Map(/** @type {[unknown, number][]} */ ([['a', 1], [2, 3], [4n, 5], [true, 6]])), 'bf616101613203613405647472756506ff'],
  [new Uint8Array([1, 2, 255]), '430102ff'],
  [Buffer.from('é'), '42c3a9'],
  [new Float64Array([1.5]), '81fb3ff8000000000000'],
  [new BigInt64Array([-1n]), '813b0000000000000000'],
  [new Date(0), 'c100'],
  [new Date(-1000), 'c120'],
  [new Date(1_730_000_000_123), 'c1fb41d9c76d2007df3b'],
  [new Position(), 'bf636c617401ff'],
  [new URL('http://x/'), '69687474703a2f2f782f'],
  [Object.assign(Object.create(null), { a: 1 }), 'bf616101ff'],
  [new Number(1), '01'],
  [new String('a'), '6161'],
  [new Boolean(true), 'f5'],
]

test('each value is written in its own way', () => {
  for (const [value, expected] of WRITTEN) assert.equal(encoded(value), expected)
})

test('a Date keeps its milliseconds', () => {
  for (const millis of [1, 999, 1_730_000_000_001, 253_402_300_799_999, -62_135_596_799_999]) {
    const text = encoded(new Date(millis))
    assert.ok(text.startsWith('c1fb'), text)
    const seconds = Buffer.from(text.slice(4), 'hex').readDoubleBE()
    // As the engine reads it: by the digits up to the microsecond.
    assert.equal(Math.round(Number(seconds.toFixed(6)) * 1000), millis)
  }
})

function nested(depth) {
  let value = []
  for (let i = 1; i < depth; i++) value = [value]
  return value
}

const circular = {}
circular.self = circular

const REFUSED = [
  [() => {}, 'TYPE_MISMATCH', 'row 0: column v: a function does not fit'],
  [Symbol('x'), 'TYPE_MISMATCH', 'row 0: column v: a symbol does not fit'],
  [{ a: [() => {}] }, 'TYPE_MISMATCH', 'row 0: column v: a function does not fit'],
  [new Set([1]), 'TYPE_MISMATCH', 'row 0: column v: a Set does not fit'],
  [Promise.resolve(1), 'TYPE_MISMATCH', 'row 0: column v: a Promise does not fit'],
  [/x/, 'TYPE_MISMATCH', 'row 0: column v: a RegExp does not fit'],
  [new Error('x'), 'TYPE_MISMATCH', 'row 0: column v: an Error does not fit'],
  [new ArrayBuffer(1), 'TYPE_MISMATCH', 'row 0: column v: an ArrayBuffer does not fit'],
  [new Map([[{}, 1]]), 'TYPE_MISMATCH', 'row 0: column v: an Object is no key'],
  [new Date(NaN), 'TYPE_MISMATCH', 'row 0: column v: an invalid Date does not fit'],
  ['\ud800', 'TYPE_MISMATCH', 'row 0: column v: a string has half of a character (a lone surrogate)'],
  [2n ** 256n, 'OUT_OF_RANGE', 'row 0: column v: an integer has more than 256 bits'],
  [-(2n ** 256n) - 1n, 'OUT_OF_RANGE', 'row 0: column v: an integer has more than 256 bits'],
  [nested(128), 'TYPE_MISMATCH', 'row 0: column v: it is nested more than 127 deep'],
  [circular, 'TYPE_MISMATCH', 'row 0: column v: it is nested more than 127 deep'],
]

test('a value that would be lost is refused with its row and column', () => {
  for (const [value, code, message] of REFUSED) {
    assert.throws(() => encoded(value), { name: 'MillraceError', code, message, row: 0, column: 'v' })
  }
  encoded(nested(127))
  for (const [row, what] of [
    [undefined, 'undefined'],
    [null, 'null'],
    [1, 'a number'],
    ['x', 'a string'],
    [[1], 'a list'],
    [new Date(), 'a Date'],
    [new Uint8Array(1), 'a Uint8Array'],
    [() => {}, 'a function'],
  ]) {
    const encoder = new RowEncoder()
    assert.throws(
      () => encoder.add(row, 7),
      (/** @type {any} */ error) => {
        assert.deepEqual([error.code, error.row, error.column], ['NOT_AN_OBJECT', 7, undefined])
        assert.equal(error.message, `row 7: it must be an object, not ${what}`)
        return true
      },
    )
  }
})

test('a refused row leaves nothing behind, and memory is used again', () => {
  const encoder = new RowEncoder()
  encoder.add({ a: 1 })
  assert.throws(() => encoder.add({ a: 2, b: 'x'.repeat(5000), c: Symbol('x') }), { row: 1, column: 'c' })
  encoder.add({ a: 3 })
  assert.equal(encoder.rows, 2)
  assert.equal(encoder.bytes.toString('hex'), 'bf616101ffbf616103ff')
  encoder.clear()
  assert.deepEqual([encoder.rows, encoder.bytes.length], [0, 0])
  encoder.add({ toJSON: () => ({ a: 4 }) })
  encoder.add(new Map([['a', 5]]))
  assert.equal(encoder.bytes.toString('hex'), 'bf616104ffbf616105ff')
  assert.throws(
    () =>
      encoder.add({
        get a() {
          throw new RangeError('a getter')
        },
      }),
    RangeError,
  )
  assert.equal(encoder.rows, 2)
})

test('rows larger than the buffer so far are written completely', () => {
  const encoder = new RowEncoder()
  const text = 'é'.repeat(40_000)
  encoder.add({ a: text, b: new Uint8Array(70_000).fill(7), c: Array.from({ length: 70_000 }, (_, i) => i) })
  const { bytes } = encoder
  assert.equal(bytes.subarray(3, 8).toString('hex'), '7a00013880')
  assert.equal(bytes.subarray(8, 80_008).toString(), text)
  assert.ok(bytes.length > 80_000 + 70_000 + 70_000)
})
