// The batch that a transform gets, on a fake call of the engine: columns, rows, verdicts, errors, and what crosses when.

import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { MillraceError } from '../../index.js'
import { Runner } from '../../lib/transform/runner.js'
import { FakeCall, column, runOn } from '../support/fake-transform-call.mjs'

const WHERE = { table: 'positions', route: 3, topicFilter: 'drivers/+/position' }

/** Runs a function on columns, and returns the call once it is answered. */
const run = (columns, transform, options) => runOn(new Runner(WHERE, transform), new FakeCall(columns, options))

/** The same where the function must succeed. */
async function succeed(columns, transform, options) {
  const call = await run(columns, transform, options)
  assert.equal(call.failed, undefined, call.failed?.stack)
  return call
}

const errorOf = (call) => {
  try {
    call()
  } catch (error) {
    return error
  }
  return assert.fail('nothing was thrown')
}

/** Asserts that a call throws a MillraceError with this code about this column. */
function refused(call, code, about = {}) {
  const error = errorOf(call)
  assert.ok(error instanceof MillraceError, String(error?.stack))
  assert.equal(error.code, code, error.message)
  for (const [name, value] of Object.entries(about)) assert.equal(error[name], value, `${name}: ${error.message}`)
  return error
}

test('a batch says what it is, and its columns can be destructured', async () => {
  await succeed([column('lat', 'Float64', [1, 2, 3]), column('id', 'String', ['a', 'b', 'c'])], (batch) => {
    const { length, table, route, topicFilter, columns } = batch
    assert.deepEqual([length, table, route, topicFilter], [3, 'positions', 3, 'drivers/+/position'])
    assert.deepEqual(Object.keys(columns), ['lat', 'id'])
    const { lat, id } = columns
    assert.deepEqual([lat.name, lat.type, lat.length], ['lat', 'Float64', 3])
    assert.deepEqual([id.name, id.type, id.length], ['id', 'String', 3])
    assert.equal(columns.nothing, undefined)
    assert.equal(columns.toString, undefined, 'any name is a column’s, so none is there that is not')
  })
})

test('any name can be a column', async () => {
  const names = ['__proto__', 'constructor', 'toString', 'get', 'a b', 'ключ', '"]; throw 1; //', '`', '${1}', '\u2028', 'values', '_', '_row', '__values0']
  const call = await succeed(
    names.map((name, i) => column(name, 'UInt8', [i, i])),
    (batch) => {
      assert.deepEqual(Object.keys(batch.columns), names)
      for (const [i, name] of names.entries()) assert.equal(batch.columns[name].get(0), i)
      for (const row of batch.rows()) for (const name of names) row[name] += 100
    },
  )
  for (const [i, name] of names.entries()) assert.deepEqual(Object.getOwnPropertyDescriptor(call.written, name)?.value ?? call.written[name], [100 + i, 100 + i], name)
})

test('a column crosses when it is first touched, and back only if it may have changed', async () => {
  const columns = ['untouched', 'got', 'taken', 'set', 'nulls'].map((name) => column(name, 'Nullable(Float64)', [1, null]))
  const call = await succeed(columns, ({ columns }) => {
    columns.got.get(0)
    columns.got.get(1)
    assert.equal(columns.taken.values[0], 1)
    assert.equal(columns.taken.values[0], 1)
    columns.set.set(1, 5)
    assert.deepEqual([...columns.nulls.nulls], [0, 1])
  })
  assert.deepEqual(call.crossings, ['columns', 'read got', 'read taken', 'read set', 'read nulls', 'write taken', 'write set', 'write nulls'])
  assert.deepEqual(call.written, { taken: [1, null], set: [1, 5], nulls: [1, null] })
})

test('texts and other types cross when they are first touched, and back only if they were set', async () => {
  const columns = [
    column('untouched', 'String', ['a', 'b']),
    column('got', 'String', ['a', 'b']),
    column('set', 'String', ['a', 'b']),
    column('list', 'Array(UInt8)', [[1], [2]]),
    column('other', 'Array(UInt8)', [[1], [2]]),
  ]
  const call = await succeed(columns, ({ columns }) => {
    assert.equal(columns.got.get(1), 'b')
    columns.set.set(0, 'c')
    assert.deepEqual(columns.list.get(1), [2])
    columns.other.set(0, [3])
  })
  assert.deepEqual(call.crossings, ['columns', 'read got', 'read list', 'set other', 'read set', 'write set'])
  assert.deepEqual(call.written, { set: ['c', 'b'] })
  assert.deepEqual(call.set, [['other', 0, '8103']])
})

/** @type {[string, any, any[]][]} */
const FIXED = [
  ['Float64', Float64Array, [0, 1.5, -1e300]],
  ['Float32', Float32Array, [0, 1.5, -2]],
  ['Int8', Int8Array, [0, -128, 127]],
  ['UInt8', Uint8Array, [0, 1, 255]],
  ['Int16', Int16Array, [0, -32768, 32767]],
  ['UInt16', Uint16Array, [0, 1, 65535]],
  ['Int32', Int32Array, [0, -2147483648, 2147483647]],
  ['UInt32', Uint32Array, [0, 1, 4294967295]],
  ['Int64', BigInt64Array, [0n, -(2n ** 63n), 2n ** 63n - 1n]],
  ['UInt64', BigUint64Array, [0n, 1n, 2n ** 64n - 1n]],
]

test('columns of fixed width are typed arrays of exactly the rows', async () => {
  for (const [type, Array, cells] of FIXED) {
    const call = await succeed([column('c', type, cells)], ({ columns: { c } }) => {
      assert.ok(c.values instanceof Array, type)
      assert.equal(c.values.length, 3)
      assert.deepEqual([...c.values], cells)
      assert.equal(c.nulls, undefined)
      for (let row = 0; row < 3; row++) assert.equal(c.get(row), cells[row])
      for (let row = 0; row < 3; row++) c.set(row, cells[2 - row])
      assert.deepEqual([...c.values], [...cells].reverse())
      c.values[1] = cells[0]
    })
    assert.deepEqual(call.written.c, [cells[2], cells[0], cells[0]], type)
  }
})

test('Nullable adds nulls, and what is written to both is what is inserted', async () => {
  for (const [type, , [zero, low, high]] of FIXED) {
    const call = await succeed([column('c', `Nullable(${type})`, [low, null, high, null])], ({ columns: { c } }) => {
      assert.deepEqual([0, 1, 2, 3].map((row) => c.get(row)), [low, null, high, null])
      assert.deepEqual([...c.nulls], [0, 1, 0, 1])
      c.set(0, null)
      c.set(1, low)
      c.set(2, undefined)
      c.values[3] = high
      c.nulls[3] = 0
      assert.deepEqual([...c.nulls], [1, 0, 1, 0])
      assert.equal(c.get(0), null)
      assert.equal(c.get(2), null)
      assert.notEqual(zero, undefined)
    })
    assert.deepEqual(call.written.c, [null, low, null, high], type)
  }
})

test('get and set by type', async () => {
  /** @type {any[]} */
  const cases = [
    ['Bool', 1, true, false, false, 0],
    ['UInt8', 1, 1, 2n, 2],
    ["Enum8('idle' = -1, 'moving' = 5)", -1, 'idle', 'moving', 'moving', 5],
    ["Enum16('idle' = -1000, 'moving' = 5)", -1000, 'idle', 5, 'moving', 5],
    ['Int64', -5n, -5n, 7, 7n],
    ['Date', 20_000, new Date('2024-10-04T00:00:00Z'), new Date('2024-10-05T23:59:59.999Z'), new Date('2024-10-05T00:00:00Z'), 20_001],
    ['Date32', -1, new Date('1969-12-31T00:00:00Z'), new Date('1969-12-30T12:00:00Z'), new Date('1969-12-30T00:00:00Z'), -2],
    ['DateTime', 1_700_000_000, new Date(1_700_000_000_000), new Date(1_700_000_001_999), new Date(1_700_000_001_000), 1_700_000_001],
    ['DateTime64(0)', 17n, new Date(17_000), new Date(18_999), new Date(18_000), 18n],
    ['DateTime64(3)', 1_700_000_000_123n, new Date(1_700_000_000_123), new Date(-1), new Date(-1), -1n],
    ['DateTime64(6)', 1_700_000_000_123_999n, new Date(1_700_000_000_123), new Date(-1), new Date(-1), -1000n],
    ['DateTime64(9)', 1_700_000_000_123_999_999n, new Date(1_700_000_000_123), new Date(1_700_000_000_001), new Date(1_700_000_000_001), 1_700_000_000_001_000_000n],
    ['Time', -3_661, '-01:01:01', '100:00:09', '100:00:09', 360_009],
    ['Time64(3)', 3_661_005n, '01:01:01.005', '-00:00:00.25', '-00:00:00.250', -250n],
  ]
  for (const [type, cell, got, value, after, cellAfter = after] of cases) {
    for (const full of [type, `Nullable(${type})`]) {
      const call = await succeed([column('c', full, [cell, cell])], ({ columns: { c } }) => {
        assert.deepEqual(c.get(0), got, full)
        c.set(0, value)
        assert.deepEqual(c.get(0), after, full)
        assert.deepEqual(c.get(1), got, full)
      })
      assert.deepEqual(call.written.c, [cellAfter, cell], full)
    }
  }
})

test('ticks hold times beyond a Date', async () => {
  /** @type {Record<string, any[]>} */
  const ticks = { 'Date': [1, 1n], 'DateTime': [17, 17n], 'DateTime64(9)': [1_700_000_000_123_456_789n, 1_700_000_000_123_456_789n] }
  for (const [type, [cell, expected]] of Object.entries(ticks)) {
    const call = await succeed([column('c', `Nullable(${type})`, [cell, null])], ({ columns: { c } }) => {
      assert.equal(c.ticks(0), expected)
      assert.equal(c.ticks(1), null)
      assert.equal(c.get(1), null)
      c.set(1, c.ticks(0))
      assert.equal(c.ticks(1), expected, 'a bigint is ticks')
      refused(() => c.ticks(2), 'OUT_OF_RANGE')
    })
    assert.deepEqual(call.written.c, [cell, cell], type)
  }
  await succeed([column('c', 'Float64', [1])], ({ columns: { c } }) => assert.equal(c.ticks, undefined))
})

test('milliseconds of DateTime64 are exact, whatever the precision and the year', async () => {
  for (let precision = 0; precision <= 9; precision++) {
    const perSecond = 10n ** BigInt(precision)
    const millis = [0, 1, -1, 999, -999, 1_000, 1_732_924_800_123, -1_732_924_800_123, -2_208_988_800_000, 9_214_646_399_999]
    const cells = millis.map((ms) => (BigInt(ms) * perSecond - (ms < 0 && precision < 3 ? 999n : 0n)) / 1000n)
    await succeed([column('c', `DateTime64(${precision})`, cells)], ({ columns: { c } }) => {
      for (const [row, cell] of cells.entries()) {
        const scaled = cell * 1000n
        const floor = scaled >= 0n || scaled % perSecond === 0n ? scaled / perSecond : scaled / perSecond - 1n
        assert.equal(BigInt(c.get(row).getTime()), floor, `DateTime64(${precision}) ${cell}`)
        c.set(row, new Date(millis[row]))
        const wanted = precision >= 3 ? BigInt(millis[row]) * 10n ** BigInt(precision - 3) : BigInt(Math.floor(millis[row] / 10 ** (3 - precision)))
        assert.equal(c.ticks(row), wanted, `DateTime64(${precision}) of ${millis[row]} ms`)
      }
    })
  }
})

test('set refuses values outside the type, names the column, and changes nothing', async () => {
  const [mismatch, range] = ['TYPE_MISMATCH', 'OUT_OF_RANGE']
  /** @type {Record<string, any[]>} */
  const cases = {
    Float64: [['1', mismatch], [1n, mismatch], [true, mismatch], [new Date(), mismatch]],
    Float32: [[1e300, range], ['1', mismatch]],
    Int8: [[128, range], [-129, range], [1.5, mismatch], [Number.NaN, mismatch], [Infinity, mismatch], ['1', mismatch], [300n, range]],
    UInt8: [[256, range], [-1, range], [-1n, range]],
    Int16: [[32_768, range]],
    UInt16: [[65_536, range]],
    Int32: [[2 ** 31, range]],
    UInt32: [[2 ** 32, range], [-1, range]],
    Int64: [[2n ** 63n, range], [1.5, mismatch], [2 ** 53, mismatch], ['1', mismatch], [Number.NaN, mismatch]],
    UInt64: [[-1n, range], [-1, range], [2n ** 64n, range]],
    Bool: [[1, mismatch], ['true', mismatch]],
    "Enum8('a' = 1)": [['b', range], [2, range], [true, mismatch], [1.5, range]],
    Date: [[new Date(-1), range], [new Date('2200-01-01'), range], [new Date(Number.NaN), mismatch], ['2024-01-01', mismatch], [5, mismatch], [70_000n, range]],
    Date32: [[new Date('2300-01-01'), range], [new Date('1899-12-31'), range]],
    DateTime: [[new Date(-1), range], [new Date('2107-01-01'), range], [1_700_000_000, mismatch]],
    'DateTime64(9)': [[new Date('2300-01-01'), range], [2n ** 63n, range], ['2024-01-01', mismatch], [5, mismatch]],
    Time: [['1:2', mismatch], ['1000:00:00', mismatch], [4_000_000n, range], [5, mismatch]],
    'Time64(3)': [['00:60:00', mismatch], [4_000_000_000n, range]],
    String: [[5, mismatch], [{}, mismatch], ['\ud800', mismatch]],
  }
  for (const [type, values] of Object.entries(cases)) {
    const isText = type === 'String'
    const isWide = /^(U?Int64|DateTime64|Time64)/.test(type)
    const cell = isText ? 'a' : isWide ? 1n : 1
    const call = await succeed([column('c', type, [cell])], ({ columns: { c } }) => {
      const before = c.get(0)
      for (const [value, code] of values) refused(() => c.set(0, value), code, { column: 'c', row: 0 })
      refused(() => c.set(0, null), mismatch, { column: 'c', row: 0 })
      refused(() => c.set(0, undefined), mismatch, { column: 'c', row: 0 })
      assert.deepEqual(c.get(0), before)
    })
    assert.deepEqual(call.written, {}, type)
  }
})

test('an enum has no other names, also after a number that it has not was written', async () => {
  await succeed([column('c', "Enum8('a' = 1)", [1])], ({ columns: { c } }) => {
    c.values[0] = 2
    refused(() => c.get(0), 'OUT_OF_RANGE', { column: 'c', row: 0 })
  })
})

test('row numbers beyond the batch, and values that are not a row number', async () => {
  const types = { Float64: 1, String: 'a', 'Array(UInt8)': [1], 'DateTime': 1 }
  const columns = Object.entries(types).map(([type, value], i) => column(`c${i}`, type, [value, value]))
  await succeed(columns, (batch) => {
    for (const row of [2, -1, 1e9, 2 ** 32]) {
      for (const c of Object.values(batch.columns)) {
        refused(() => c.get(row), 'OUT_OF_RANGE', { row, column: c.name })
        refused(() => c.set(row, c.get(0)), 'OUT_OF_RANGE', { row, column: c.name })
        if (c.ticks) refused(() => c.ticks(row), 'OUT_OF_RANGE')
        if (c.bytes) refused(() => c.bytes(row), 'OUT_OF_RANGE')
      }
      refused(() => batch.drop(row), 'OUT_OF_RANGE', { row })
      refused(() => batch.reject(row, 'reason'), 'OUT_OF_RANGE', { row })
      refused(() => batch.message(row), 'OUT_OF_RANGE', { row })
    }
    for (const row of [0.5, Number.NaN, '0', undefined, null, {}, true, 0n]) {
      for (const c of Object.values(batch.columns)) {
        refused(() => c.get(row), 'TYPE_MISMATCH', { column: c.name })
        refused(() => c.set(row, 1), 'TYPE_MISMATCH', { column: c.name })
      }
      refused(() => batch.drop(row), 'TYPE_MISMATCH')
      refused(() => batch.reject(row, 'reason'), 'TYPE_MISMATCH')
      refused(() => batch.message(row), 'TYPE_MISMATCH')
    }
  })
})

test('drop and reject: reject wins in either order, and the first reason counts', async () => {
  const call = await succeed([column('c', 'UInt8', [0, 1, 2, 3, 4])], (batch) => {
    batch.drop(1)
    batch.drop(1)
    batch.drop(2)
    batch.reject(2, 'dropped before')
    batch.reject(3, 'dropped later')
    batch.drop(3)
    batch.reject(3, 'a second reason')
    for (const reason of [undefined, 5, new Error('x')]) refused(() => batch.reject(4, reason), 'TYPE_MISMATCH', { row: 4 })
  })
  assert.deepEqual(call.finished, { verdicts: [0, 1, 2, 2, 0], reasons: [[2, 'dropped before'], [3, 'dropped later']] })
})

test('without verdicts none cross, and a batch may have no rows', async () => {
  const call = await succeed([column('c', 'UInt8', [0])], () => {})
  assert.deepEqual(call.finished, { verdicts: null, reasons: [] })
  const empty = await succeed([column('c', 'UInt8', []), column('s', 'String', [])], (batch) => {
    assert.deepEqual([...batch.columns.c.values], [])
    assert.deepEqual([...batch.rows()], [])
    refused(() => batch.columns.s.get(0), 'OUT_OF_RANGE')
  })
  assert.deepEqual(empty.written, { c: [] })
})

test('emit passes rows to the engine, and an error of the engine names the column', async () => {
  const refuse = (method, table) => method === 'emit' && table === 'nowhere' && { code: 'CONFIG_INVALID', message: 'no', path: 'emits' }
  const call = await succeed(
    [column('c', 'UInt8', [0])],
    (batch) => {
      batch.emit('alerts', { a: 1, b: undefined, at: new Date(0), big: 2n ** 64n })
      refused(() => batch.emit('nowhere', {}), 'CONFIG_INVALID')
      refused(() => batch.emit('alerts', { f() {} }), 'TYPE_MISMATCH', { column: 'f' })
      refused(() => batch.emit('alerts', 5), 'NOT_AN_OBJECT')
      batch.emit('alerts', {})
    },
    { refuse },
  )
  assert.deepEqual(call.emitted, [
    ['alerts', 'bf6161016261 74c1006362 6967c249010000000000000000ff'.replaceAll(' ', '')],
    ['alerts', 'bfff'],
  ])
})

test('the engine’s errors about a value of another type name the column', async () => {
  const refuse = (method, _place, row) => method === 'setValue' && row === 1 && { code: 'OUT_OF_RANGE', message: 'too large', path: 'c' }
  const call = await succeed(
    [column('c', 'Nullable(Decimal(9, 2))', ['1.25', null])],
    ({ columns: { c } }) => {
      assert.equal(c.get(0), '1.25')
      assert.equal(c.get(1), null)
      c.set(0, null)
      assert.equal(c.get(0), null)
      refused(() => c.set(1, '1e99'), 'OUT_OF_RANGE', { column: 'c' })
      assert.equal(c.get(1), null)
      refused(() => c.set(1, () => {}), 'TYPE_MISMATCH', { column: 'c', row: 1 })
    },
    { refuse },
  )
  assert.deepEqual(call.set, [['c', 0, null]])
})

test('values of other types are those of the client of ClickHouse, with bigint for 64 bits and more', async () => {
  /** @type {any[]} */
  const cases = [
    ['UUID', 'b0e1c2a4-0000-4000-8000-000000000000', 'b0e1c2a4-0000-4000-8000-000000000000'],
    ['Int256', '-99999999999999999999', -99999999999999999999n],
    ['Nullable(UInt128)', '99999999999999999999', 99999999999999999999n],
    ['Array(UInt64)', ['1', '18446744073709551615'], [1n, 18446744073709551615n]],
    ['Array(Nullable(Int64))', ['1', null], [1n, null]],
    ['Array(Array(String))', [['1'], []], [['1'], []]],
    ['Map(String, Int64)', { a: '1', b: '2' }, { a: 1n, b: 2n }],
    ['Map(String, String)', { a: '1' }, { a: '1' }],
    ['Tuple(id UInt64, `a \\`,(b` Int64, s String)', { id: '1', 'a `,(b': '2', s: '3' }, { id: 1n, 'a `,(b': 2n, s: '3' }],
    ['Tuple(UInt64, String)', ['1', '2'], [1n, '2']],
    ["Tuple(Enum8('a,(' = 1), Array(Tuple(x Int64)))", ['a,(', [{ x: '7' }]], ['a,(', [{ x: 7n }]]],
    ['SimpleAggregateFunction(sum, UInt64)', '5', 5n],
    ['Array(Float64)', [1.5, 'nan', '-inf'], [1.5, Number.NaN, Number.NEGATIVE_INFINITY]],
    ['Decimal(18, 4)', '1.2500', '1.2500'],
    ['JSON', { a: { b: '1' } }, { a: { b: '1' } }],
  ]
  for (const [type, value, expected] of cases) {
    const call = await succeed([column('c', type, [value, value])], ({ columns: { c } }) => {
      assert.deepEqual(c.get(1), expected, type)
      assert.deepEqual(c.get(1), expected, type)
      c.set(0, expected)
      assert.equal(c.get(0), expected, 'what was set')
      assert.equal('values' in c, false)
    })
    assert.equal(call.set.length, 1)
  }
})

test('texts: ASCII, others, bytes that are not UTF-8, a BOM, runs and long ones', async () => {
  const texts = ['', 'driver-1', 'Ключ', '\ufeffwith a BOM', '𝄞', 'a'.repeat(5_000), 'é', '\0', ...Array.from({ length: 200 }, (_, i) => `text ${i}`)]
  await succeed([column('c', 'String', texts), column('n', 'Nullable(String)', texts.map((text, i) => (i % 3 ? text : null)))], ({ columns: { c, n } }) => {
    // Backwards too: no order of reading is expected.
    for (const [row, text] of [...texts.entries(), ...[...texts.entries()].reverse()]) {
      assert.equal(c.get(row), text)
      assert.deepEqual(Buffer.from(c.bytes(row)), Buffer.from(text))
      assert.equal(n.get(row), row % 3 ? text : null)
      assert.deepEqual(n.bytes(row), row % 3 ? Buffer.from(text) : null)
    }
  })
})

test('bytes that are not UTF-8 lie between texts without moving them', async () => {
  const bytes = [Buffer.from([0xff]), Buffer.from('abc'), Buffer.from([0xe2, 0x82]), Buffer.from([0xc3]), Buffer.from([0xa9, 0x41])]
  const expected = ['\ufffd', 'abc', '\ufffd', '\ufffd', '\ufffdA']
  const call = await succeed([column('c', 'String', bytes)], ({ columns: { c } }) => {
    assert.deepEqual(expected.map((_, row) => c.get(row)), expected)
    assert.deepEqual(bytes.map((_, row) => Buffer.from(c.bytes(row))), bytes)
    c.set(1, 'x')
  })
  assert.deepEqual(call.written.c, bytes.map((its, row) => (row === 1 ? 'x' : its.toString('latin1'))), 'the others stay as they are')
})

test('texts that are set: strings, bytes and NULL', async () => {
  const texts = ['zero', 'one', null, 'three', 'Ключ', null]
  const call = await succeed([column('c', 'LowCardinality(Nullable(String))', texts)], ({ columns: { c } }) => {
    c.set(0, 'Ä')
    c.set(2, Buffer.from([0xff, 0x00]))
    c.set(3, null)
    const own = new Uint8Array([0x41])
    c.set(5, own)
    own[0] = 0x42
    assert.deepEqual([0, 1, 2, 3, 4, 5].map((row) => c.get(row)), ['Ä', 'one', '\ufffd\0', null, 'Ключ', 'A'])
    assert.deepEqual(c.bytes(2), Buffer.from([0xff, 0x00]))
    assert.deepEqual(c.bytes(0), Buffer.from('Ä'))
    assert.equal(c.bytes(3), null)
  })
  const latin1 = (text) => Buffer.from(text).toString('latin1')
  assert.deepEqual(call.written.c, [latin1('Ä'), 'one', '\xff\0', null, latin1('Ключ'), 'A'])
})

test('a computed column: an unfilled cell is NULL, or gets its DEFAULT, else it is zero', async () => {
  const none = [null, null, null]
  const columns = [
    column('a', 'Float64', [0, 0, 0], { computed: true }),
    column('b', 'Nullable(Float64)', none, { computed: true }),
    column('c', 'String', ['', '', ''], { computed: true }),
    column('d', 'Nullable(String)', none, { computed: true }),
    column('e', 'UInt8', none, { computed: true, default: true }),
    column('f', 'Nullable(Int64)', none, { computed: true }),
    column('g', 'Float32', [1, null, null], { default: true }),
    column('h', 'DateTime', none, { computed: true, default: true }),
    column('i', 'Nullable(Float32)', none, { computed: true }),
  ]
  const call = await succeed(columns, ({ columns }) => {
    columns.a.set(1, 1.5)
    columns.b.set(1, Number.NaN)
    columns.c.set(1, 'x')
    columns.d.set(1, '')
    assert.deepEqual([0, 1].map((row) => columns.b.get(row)), [null, Number.NaN])
    assert.deepEqual([0, 1].map((row) => columns.c.get(row)), ['', 'x'])
    assert.deepEqual([0, 1].map((row) => columns.d.get(row)), [null, ''])
    // Through the array, whatever nulls say; taken back by set(row, null).
    columns.e.values[2] = 7
    columns.e.set(0, 255)
    columns.f.values.fill(5n)
    columns.f.set(1, null)
    columns.g.values[2] = 0.5
    columns.h.values[1] = 1_700_000_000
    // A user who has the array of nulls sets NULL there.
    columns.i.values[0] = 1
    assert.deepEqual([...columns.i.nulls], [0, 1, 1])
    columns.i.values.fill(2)
    columns.i.nulls[1] = 0
    columns.i.nulls[0] = 1
    assert.deepEqual([0, 1, 2].map((row) => columns.i.get(row)), [null, 2, null])
    assert.deepEqual([0, 1, 2].map((row) => columns.e.get(row)), [255, null, 7])
    assert.deepEqual([0, 1, 2].map((row) => columns.f.get(row)), [5n, null, 5n])
    assert.deepEqual([0, 1, 2].map((row) => columns.g.get(row)), [1, null, 0.5])
    assert.deepEqual([columns.h.get(0), columns.h.get(1), columns.h.ticks(0)], [null, new Date(1_700_000_000_000), null])
  })
  assert.deepEqual(call.written, {
    a: [0, 1.5, 0],
    b: [null, Number.NaN, null],
    c: ['', 'x', ''],
    d: [null, '', null],
    e: [255, null, 7],
    f: [5n, null, 5n],
    g: [1, null, 0.5],
    h: [null, 1_700_000_000, null],
    i: [null, 2, null],
  })
})

test('row views fill computed columns, and read the filled cells', async () => {
  const call = await succeed([column('a', 'Nullable(Float64)', [null, null, null], { computed: true }), column('b', 'UInt8', [null, null, null], { default: true })], (batch) => {
    const { values } = batch.columns.b
    values[1] = 9
    for (const row of batch.rows()) {
      if (row.b === 9) row.a = 1.5
      if (row.b === null) row.a = null
    }
    assert.deepEqual([...batch.rows()].length, 3)
    assert.deepEqual(Array.from(batch.rows(), ({ a, b }) => [a, b]), [[null, null], [1.5, 9], [null, null]])
  })
  assert.deepEqual(call.written, { b: [null, 9, null], a: [null, 1.5, null] })
})

test('rows: one view with a getter and a setter for each column', async () => {
  const columns = [
    column('speed', 'Float64', [10, 20, 30]),
    column('kmh', 'Nullable(Float64)', [null, null, null], { computed: true }),
    column('id', 'String', ['a', 'b', 'c']),
    column('ok', 'Bool', [1, 0, 1]),
    column('big', 'UInt64', [1n, 2n, 3n]),
    column('small', 'Nullable(Int8)', [1, null, 3]),
    column('f32', 'Float32', [1, 2, 3]),
    column('u32', 'UInt32', [1, 2, 3]),
    column('ts', 'DateTime64(3)', [1n, 2n, 3n]),
    column('list', 'Array(UInt8)', [[1], [2], [3]]),
  ]
  const call = await succeed(columns, (batch) => {
    const views = new Set()
    const ids = []
    for (const row of batch.rows()) {
      views.add(row)
      ids.push(`${row.id} ${row.ok} ${row.big} ${row.small} ${row.ts.getTime()} ${row.list}`)
      row.kmh = row.speed * 3.6
      row.id = `${row.id}!`
      row.ok = !row.ok
      row.big += 1n
      row.small = row.small === null ? 9 : null
      row.f32 *= 2
      row.u32 = 4_294_967_295
      refused(() => (row.speed = '5'), 'TYPE_MISMATCH', { column: 'speed' })
      refused(() => (row.small = 128), 'OUT_OF_RANGE', { column: 'small' })
      refused(() => (row.small = 1.5), 'TYPE_MISMATCH', { column: 'small' })
      refused(() => (row.u32 = -1), 'OUT_OF_RANGE', { column: 'u32' })
      refused(() => (row.f32 = 1e300), 'OUT_OF_RANGE', { column: 'f32' })
      refused(() => (row.speed = null), 'TYPE_MISMATCH', { column: 'speed' })
    }
    assert.equal(views.size, 1, 'the view is reused')
    assert.deepEqual(ids, ['a true 1 1 1 1', 'b false 2 null 2 2', 'c true 3 3 3 3'])
    assert.deepEqual([...batch.columns.kmh.values], [36, 72, 108], 'columns and views share what they have')
  })
  assert.deepEqual(call.written, {
    kmh: [36, 72, 108],
    id: ['a!', 'b!', 'c!'],
    ok: [0, 1, 0],
    big: [2n, 3n, 4n],
    small: [null, 9, null],
    f32: [2, 4, 6],
    u32: [4_294_967_295, 4_294_967_295, 4_294_967_295],
  })
})

test('a row view is a row for drop, reject and message, and only a read column crosses back', async () => {
  const call = await succeed([column('a', 'UInt8', [0, 1, 2]), column('b', 'UInt8', [0, 1, 2])], (batch) => {
    for (const row of batch.rows()) {
      if (row.a === 1) batch.drop(row)
      if (row.a === 2) batch.reject(row, batch.message(row).topic)
    }
  })
  assert.deepEqual(call.finished, { verdicts: [0, 1, 2], reasons: [[2, 'drivers/2/position']] })
  assert.deepEqual(call.crossings, ['columns', 'read a'])
})

test('row views work where no code is made from text', () => {
  const program = fileURLToPath(new URL('../support/programs/row-views.mjs', import.meta.url))
  // Bun has no such option; there the test shows that the program does what it says.
  const options = process.versions.bun ? [] : ['--disallow-code-generation-from-strings']
  const text = execFileSync(process.execPath, [...options, program], { encoding: 'utf8' })
  assert.deepEqual(JSON.parse(text), { written: { kmh: [36, 72] }, verdicts: [0, 1], names: ['speed', 'kmh', '__proto__'] })
})

test('message returns the payload and topic', async () => {
  await succeed([column('c', 'UInt8', [0, 1])], (batch) => {
    assert.deepEqual(batch.message(1), {
      topic: 'drivers/1/position',
      payload: Buffer.from('payload 1'),
      receivedAt: new Date(1_700_000_000_001),
      qos: 1,
      retain: false,
      userProperties: [['a', 'b']],
    })
  })
})

/** Everything a batch can be asked after its call, by name. */
function uses(batch, { a, t, o, ts }, row) {
  return {
    drop: () => batch.drop(0),
    reject: () => batch.reject(0, 'late'),
    emit: () => batch.emit('alerts', {}),
    message: () => batch.message(0),
    rows: () => batch.rows(),
    signal: () => batch.signal,
    values: () => a.values,
    nulls: () => a.nulls,
    get: () => a.get(0),
    set: () => a.set(0, 1),
    ticks: () => ts.ticks(0),
    text: () => t.get(0),
    bytes: () => t.bytes(0),
    'set of a text': () => t.set(0, 'x'),
    other: () => o.get(0),
    'set of another': () => o.set(0, [1]),
    'a row view': () => row.a,
    'a row view of a text': () => row.t,
    'a row view that sets': () => (row.a = 5),
  }
}

test('after its call a batch is closed, whether or not the columns were touched, and also during the next call', async () => {
  const columns = () => [
    column('a', 'Nullable(Float64)', [1, 2]),
    column('t', 'String', ['a', 'b']),
    column('o', 'Array(UInt8)', [[1], [2]]),
    column('ts', 'DateTime', [1, 2]),
  ]
  for (const isTouched of [true, false]) {
    for (const ending of ['returns', 'throws', 'resolves', 'rejects']) {
      let kept
      let check = () => {}
      const runner = new Runner(WHERE, (batch) => {
        if (kept) return check()
        const [row] = batch.rows()
        kept = uses(batch, batch.columns, row)
        if (isTouched) for (const use of Object.values(kept)) use()
        if (ending === 'throws') throw new Error('on purpose')
        if (ending === 'resolves') return Promise.resolve()
        if (ending === 'rejects') return Promise.reject(new Error('on purpose'))
      })
      await runOn(runner, new FakeCall(columns()))
      check = () => {
        for (const [name, use] of Object.entries(kept)) {
          const error = errorOf(use)
          assert.equal(error.code, 'INVALID_STATE', `${name} after it ${ending}: ${error.stack}`)
          assert.ok(error instanceof MillraceError)
        }
      }
      check()
      const next = await runOn(runner, new FakeCall(columns()))
      assert.equal(next.failed, undefined, next.failed?.message)
    }
  }
})

test('an iterator over rows ends with the batch', async () => {
  let iterator
  await succeed([column('a', 'UInt8', [1, 2])], (batch) => {
    iterator = batch.rows()
    iterator.next()
  })
  refused(() => iterator.next(), 'INVALID_STATE')
})

test('a later step of an asynchronous transform finds the batch closed', async () => {
  let late
  await succeed([column('a', 'UInt8', [1, 2])], async (batch) => {
    late = new Promise((resolve) => setTimeout(resolve, 5)).then(() => errorOf(() => batch.drop(0)))
    await null
    batch.columns.a.values[0] = 7
  }).then((call) => assert.deepEqual(call.written, { a: [7, 2] }))
  assert.equal((await late).code, 'INVALID_STATE')
})

test('memory is kept and used again: it grows, has the exact length, and is never of the pool', async () => {
  const seen = []
  const runner = new Runner(WHERE, ({ columns: { a } }) => {
    seen.push(a.values)
    a.values.fill(a.length)
  })
  const lengths = [5, 5, 3, 5_000, 4_999, 5]
  for (const rows of lengths) {
    const call = await runOn(runner, new FakeCall([column('a', 'Float64', new Array(rows).fill(1))]))
    assert.equal(call.failed, undefined, call.failed?.message)
    assert.deepEqual(call.written.a, new Array(rows).fill(rows))
  }
  assert.deepEqual(seen.map(({ length }) => length), lengths)
  assert.equal(seen[0], seen[1], 'the same array')
  assert.equal(seen[2].buffer, seen[0].buffer, 'the same memory')
  assert.equal(seen[4].buffer, seen[3].buffer)
  assert.equal(seen[5].buffer, seen[3].buffer)
  assert.notEqual(seen[3].buffer, seen[0].buffer)
  const pool = Buffer.from('x').buffer
  for (const values of seen) assert.notEqual(values.buffer, pool)
})

test('memory that one large batch needed is given back', async () => {
  let buffer
  const runner = new Runner(WHERE, ({ columns: { a } }) => {
    buffer = a.values.buffer
  })
  const batch = (rows) => runOn(runner, new FakeCall([column('a', 'Float64', new Array(rows).fill(1))]))
  await batch(100_000)
  assert.ok(buffer.byteLength >= 800_000)
  for (let i = 0; i < 40; i++) await batch(10)
  assert.ok(buffer.byteLength <= 8_192, `${buffer.byteLength} bytes for 10 rows`)
})

test('a typed array that was kept holds a poison value', async () => {
  const kept = []
  await succeed([column('a', 'Float64', [1, 2]), column('b', 'UInt32', [1, 2]), column('t', 'String', ['ab', 'c'])], ({ columns: { a, b, t } }) => {
    kept.push(a.values, b.values, t.bytes(0))
  })
  const [floats, integers, bytes] = kept
  assert.deepEqual([...floats], [Number.NaN, Number.NaN])
  assert.deepEqual([...integers], [0xa5a5a5a5, 0xa5a5a5a5])
  assert.deepEqual([...bytes], [0xa5, 0xa5])
})

test('in production it is left as it is', async () => {
  const before = process.env.NODE_ENV
  process.env.NODE_ENV = 'production'
  try {
    let kept
    await succeed([column('a', 'Float64', [1, 2])], ({ columns: { a } }) => (kept = a.values))
    assert.deepEqual([...kept], [1, 2])
  } finally {
    if (before === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = before
  }
})

test('memory that was transferred fails the batch, and the next one has other memory', async () => {
  const takes = {
    values: ({ a }) => structuredClone(a.values, { transfer: [a.values.buffer] }),
    nulls: ({ a }) => structuredClone(a.nulls, { transfer: [a.nulls.buffer] }),
    bytes: ({ t }) => structuredClone(t.bytes(0), { transfer: [t.bytes(0).buffer] }),
  }
  for (const [what, take] of Object.entries(takes)) {
    let isTaken = false
    const runner = new Runner(WHERE, ({ columns }) => {
      if (!isTaken) {
        isTaken = true
        return take(columns)
      }
      columns.a.set(0, 5)
      assert.equal(columns.t.get(1), 'b')
    })
    const columns = () => [column('a', 'Nullable(Float64)', [1, 2]), column('t', 'String', ['a', 'b'])]
    const first = await runOn(runner, new FakeCall(columns()))
    assert.match(first.failed?.message ?? '', what === 'bytes' ? /column t was transferred/ : /column a was transferred/, what)
    const second = await runOn(runner, new FakeCall(columns()))
    assert.equal(second.failed, undefined, second.failed?.message)
    assert.deepEqual(second.written, { a: [5, 2] })
  }
})

test('another generation has other columns', async () => {
  const seen = []
  const runner = new Runner(WHERE, ({ columns }) => {
    seen.push(Object.entries(columns).map(([name, { type }]) => `${name} ${type}`).join())
    for (const its of Object.values(columns)) its.get(0)
  })
  const first = await runOn(runner, new FakeCall([column('a', 'UInt8', [1])]))
  const same = await runOn(runner, new FakeCall([column('a', 'UInt8', [2])]))
  await runOn(runner, new FakeCall([column('b', 'String', ['x']), column('a', 'Float64', [1])], { generation: 2 }))
  assert.deepEqual(seen, ['a UInt8', 'a UInt8', 'b String,a Float64'])
  assert.deepEqual([first.crossings[0], same.crossings[0]], ['columns', 'read a'], 'described once')
})

test('any value that a transform throws fails the batch', async () => {
  const proxy = new Proxy({}, { get: () => assert.fail('a trap'), getPrototypeOf: () => assert.fail('a trap') })
  /** @type {any[]} */
  const cases = [
    [new Error('too hot'), /^too hot$/],
    [new TypeError(''), /^TypeError$/],
    ['a string', /^a string$/],
    [{ code: 5 }, /code: 5/],
    [undefined, /^undefined$/],
    [null, /^null$/],
    [Symbol('s'), /Symbol\(s\)/],
    ['', /empty string/],
    [Object.create(null), /null prototype/],
    [proxy, /./],
  ]
  for (const [thrown, expected] of cases) {
    for (const transform of [
      () => {
        throw thrown
      },
      () => Promise.reject(thrown),
      async () => {
        await null
        throw thrown
      },
      () => ({ then: (_, reject) => reject(thrown) }),
    ]) {
      const call = await run([column('a', 'UInt8', [1])], transform)
      assert.match(call.failed?.message ?? '', expected)
      assert.equal(typeof call.failed.stack, 'string')
      assert.equal(call.finished, undefined)
    }
  }
  const call = await run([column('a', 'UInt8', [1])], function judge() {
    throw new Error('with a stack')
  })
  assert.match(call.failed.stack, /judge.*transform-batch\.test/s)
})

test('nothing of a batch that failed crosses back', async () => {
  const call = await run([column('a', 'UInt8', [1, 2])], (batch) => {
    batch.columns.a.values[0] = 9
    batch.drop(1)
    throw new Error('late')
  })
  assert.deepEqual(call.written, {})
})

test('a value that the engine refuses at the end fails the batch', async () => {
  const refuse = (method) => method === 'write' && { code: 'OUT_OF_RANGE', message: 'column a: too large', path: 'a' }
  const call = await run([column('a', 'UInt8', [1, 2])], ({ columns: { a } }) => void a.values, { refuse })
  assert.equal(call.failed.message, 'column a: too large')
})

test('thenables are promises, their getters may throw, and other results mean nothing', async () => {
  for (const result of [5, 'x', null, [], { then: 5 }, () => {}]) {
    assert.equal((await run([column('a', 'UInt8', [1])], () => result)).failed, undefined)
  }
  let isSettled = false
  const call = await run([column('a', 'UInt8', [1])], ({ columns: { a } }) => ({
    then(resolve) {
      setTimeout(() => {
        a.values[0] = 6
        isSettled = true
        resolve()
      }, 5)
    },
  }))
  assert.ok(isSettled)
  assert.deepEqual(call.written, { a: [6] })
  const getter = {
    get then() {
      throw new Error('no then')
    },
  }
  assert.equal((await run([column('a', 'UInt8', [1])], () => getter)).failed.message, 'no then')
})

test('one call at a time: a second one before the answer fails, and the first goes on', async () => {
  let resolve = () => {}
  const runner = new Runner(WHERE, () => new Promise((done) => (resolve = () => done(undefined))))
  const first = new FakeCall([column('a', 'UInt8', [1])])
  const second = new FakeCall([column('a', 'UInt8', [1])])
  runner.run(first)
  runner.run(second)
  assert.match(second.failed.message, /second call/)
  assert.equal(first.isOver, false)
  resolve()
  await new Promise((done) => setImmediate(done))
  assert.ok(first.finished)
  const third = new FakeCall([column('a', 'UInt8', [1])])
  runner.run(third)
  resolve()
  await new Promise((done) => setImmediate(done))
  assert.ok(third.finished)
})

test('a batch of a pipeline that has ended takes no answer, without an error', async () => {
  const refuse = (method) => method !== 'columns' && { code: 'INVALID_STATE', message: 'the pipeline has ended' }
  const unheard = []
  const listener = (error) => unheard.push(error)
  process.on('unhandledRejection', listener)
  process.on('uncaughtException', listener)
  const runner = new Runner(WHERE, async ({ columns: { a } }) => {
    refused(() => a.get(0), 'INVALID_STATE')
    await null
  })
  const call = new FakeCall([column('a', 'UInt8', [1])], { refuse })
  runner.run(call)
  await new Promise((resolve) => setTimeout(resolve, 20))
  process.off('unhandledRejection', listener)
  process.off('uncaughtException', listener)
  assert.deepEqual(unheard, [])
  assert.equal(call.isOver, false)
})

test('the signal is aborted with the reason, before or after it was first asked for', async () => {
  const reason = Object.assign(new Error('too late'), { code: 'STOP_TIMEOUT' })
  const signals = []
  const runner = new Runner(WHERE, (batch) => void signals.push(batch.signal))
  await runOn(runner, new FakeCall([column('a', 'UInt8', [1])]))
  assert.equal(signals[0].aborted, false)
  runner.abort(reason)
  runner.abort(new Error('a second time'))
  assert.equal(signals[0].aborted, true)
  assert.equal(signals[0].reason, reason)
  await runOn(runner, new FakeCall([column('a', 'UInt8', [1])]))
  assert.equal(signals[1], signals[0])
  const late = new Runner(WHERE, (batch) => void signals.push(batch.signal))
  late.abort(reason)
  await runOn(late, new FakeCall([column('a', 'UInt8', [1])]))
  assert.equal(signals[2].reason, reason)
})

test('a transform runs in the context in which it was started', async () => {
  const storage = new AsyncLocalStorage()
  const seen = []
  const runner = storage.run('start', () => new Runner(WHERE, async () => {
    seen.push(storage.getStore())
    storage.enterWith('changed')
    await null
    seen.push(storage.getStore())
  }))
  await storage.run('call', () => runOn(runner, new FakeCall([column('a', 'UInt8', [1])])))
  await storage.run('call', () => runOn(runner, new FakeCall([column('a', 'UInt8', [1])])))
  assert.deepEqual(seen, ['start', 'changed', 'start', 'changed'])
})
