// Payloads of every shape: lists of rows, lists of documents, nested objects, the payload in one
// column, and columns with parts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assertLedger } from '../support/ledger.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 30_000

/**
 * Publishes `messages` (objects, or texts as they are) through one route to a new table with the columns `table`, and
 * gives what came of it: the rows of `select`, ordered, the dead letters and the warnings. The remaining options are the
 * route's.
 *
 * @param {any} options
 */
async function arrive(t, options) {
  const { table: ddl, messages, select = '*', order = 'seq', create = {}, ...route } = options
  const table = await servers.table(ddl, create)
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table, ...route }] })
  const [letters, warnings] = [collect(pipeline, 'deadLetters'), collect(pipeline, 'warning')]
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const message of messages) await publisher.publish(topic, message)
  await settled(pipeline, messages.length, { timeoutMs: 15_000, warnings })
  await heard(pipeline, letters)
  assertLedger(pipeline.metrics())
  const rows = await servers.rows(`SELECT ${select} FROM ${table} ORDER BY ${order}`)
  return { rows, letters, warnings, pipeline, table }
}

const codes = (letters) => letters.map((letter) => letter.code)

/** Every message arrived, and these rows came of them. */
function assertRows({ rows, letters }, expected) {
  assert.deepEqual(letters.map(({ code, message, payload }) => `${code}: ${message}: ${payload}`), [])
  assert.deepEqual(rows, expected)
}

test('rows: one row per element; a column looks in the element, then in the document', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: 'seq UInt32, device String, unit String, t Float64',
    rows: 'data.readings',
    columns: { t: 'value.t' },
    messages: [
      {
        device: 'd1',
        unit: 'C',
        data: { readings: [{ seq: 1, value: { t: 1.5 } }, { seq: 2, value: { t: 2.5 }, unit: 'F', device: null }] },
      },
      // Fields after the list count as well.
      '{"data":{"other":[],"readings":[{"value":{"t":3.5},"seq":3}]},"unit":"K","device":"d2"}',
    ],
  })
  assertRows(result, [
    { seq: 1, device: 'd1', unit: 'C', t: 1.5 },
    { seq: 2, device: 'd1', unit: 'F', t: 2.5 },
    { seq: 3, device: 'd2', unit: 'K', t: 3.5 },
  ])
  const { messages, rows } = result.pipeline.metrics()
  assert.deepEqual([messages.inserted, rows.inserted], [2, 3])
})

test('rows: $ is the document, @ is the element', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: 'seq UInt32, sent UInt32, taken Nullable(UInt32), either UInt32, first String',
    rows: 'readings',
    columns: { sent: '$.ts', taken: '@.ts', either: 'ts', first: '$.readings[0].name' },
    messages: [{ ts: 5, readings: [{ seq: 1, ts: 6, name: 'a' }, { seq: 2, name: 'b' }] }],
  })
  assertRows(result, [
    { seq: 1, sent: 5, taken: 6, either: 6, first: 'a' },
    { seq: 2, sent: 5, taken: null, either: 5, first: 'a' },
  ])
})

test('rows: elements that are numbers, texts or lists', { timeout }, async (t) => {
  const numbers = await arrive(t, {
    table: 'seq Float64, device String',
    rows: 'values',
    columns: { seq: '@' },
    messages: [{ device: 'd', values: [1, 2.5, '3'] }],
  })
  assertRows(numbers, [1, 2.5, 3].map((seq) => ({ seq, device: 'd' })))

  const lists = await arrive(t, {
    table: 'seq UInt32, lat Float64, all Array(Float64)',
    rows: 'track',
    columns: { seq: '@[0]', lat: '@[1][0]', all: '@[1]' },
    messages: [{ track: [[1, [0.5, 1.5]], [2, [2.5]]] }],
  })
  assertRows(lists, [
    { seq: 1, lat: 0.5, all: [0.5, 1.5] },
    { seq: 2, lat: 2.5, all: [2.5] },
  ])
})

test('rows: topic, constants, defaults and the payload are in every row', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, device String, site String, n UInt8 DEFAULT seq * 2, raw String')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [
      {
        topic: `${prefix}/{device}`,
        table,
        rows: 'readings',
        columns: { site: { value: 'north' }, raw: { meta: 'payload' } },
      },
    ],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const payload = '{ "readings": [{"seq":1,"device":"not this"}, {"seq":2,"n":9}] }'
  await publisher.publish(`${prefix}/d1`, payload)
  await settled(pipeline, 1)
  const rest = { device: 'd1', site: 'north', raw: payload }
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table} ORDER BY seq`), [
    { seq: 1, ...rest, n: 2 },
    { seq: 2, ...rest, n: 9 },
  ])
})

test('rows: an empty list gives no row, a missing one a dead letter', { timeout }, async (t) => {
  const { rows, letters, pipeline } = await arrive(t, {
    table: 'seq UInt32',
    rows: 'list',
    messages: [{ list: [] }, { list: [{ seq: 1 }] }, { other: [] }, { list: { seq: 2 } }, { list: 3 }],
  })
  assert.deepEqual(rows, [{ seq: 1 }])
  assert.deepEqual(codes(letters), ['FIELD_MISSING', 'TYPE_MISMATCH', 'TYPE_MISMATCH'])
  assert.match(letters[0].message, /rows/)
  const { messages } = pipeline.metrics()
  assert.deepEqual([messages.inserted, messages.deadLettered], [2, 3])
})

test('rows: one bad element makes the message a dead letter', { timeout }, async (t) => {
  const good = (from) => Array.from({ length: 3 }, (_, i) => ({ seq: from + i, tags: ['a'], at: { x: 1 } }))
  const bad = [{ seq: 300 }, { seq: 5, tags: ['a', 300, {}], at: { x: 1 } }, { seq: 6, tags: [], at: { x: 'far' } }, 7]
  const messages = bad.map((element) => ({ list: [...good(100), element, ...good(110)] }))
  const { rows, letters, pipeline } = await arrive(t, {
    table: 'seq UInt8, tags Array(FixedString(3)), at Tuple(x Float64)',
    rows: 'list',
    messages: [{ list: good(1) }, ...messages, { list: good(4) }],
  })
  assert.deepEqual(rows.map((row) => row.seq), [1, 2, 3, 4, 5, 6])
  assert.deepEqual(codes(letters), ['OUT_OF_RANGE', 'TYPE_MISMATCH', 'TYPE_MISMATCH', 'FIELD_MISSING'])
  assert.match(letters[1].message, /tags/)
  assert.match(letters[2].message, /at/)
  assert.deepEqual(letters.map((letter) => JSON.parse(letter.payload)), messages)
  assert.equal(pipeline.metrics().rows.inserted, 6)
})

test('a list of documents is a row for each', { timeout }, async (t) => {
  const { rows, letters, pipeline } = await arrive(t, {
    table: 'seq UInt32, note Nullable(String)',
    messages: [
      [{ seq: 1 }, { seq: 2, note: 'two' }],
      [],
      ' [ {"seq":3} ] ',
      [{ seq: 4 }, 5],
      [[{ seq: 6 }]],
      [{ seq: 7 }, { note: 'no seq' }],
      '[{"seq":8},]',
    ],
  })
  assert.deepEqual(rows, [
    { seq: 1, note: null },
    { seq: 2, note: 'two' },
    { seq: 3, note: null },
  ])
  assert.deepEqual(codes(letters), ['NOT_AN_OBJECT', 'NOT_AN_OBJECT', 'FIELD_MISSING', 'JSON_INVALID'])
  assert.equal(pipeline.metrics().messages.inserted, 3)
})

test('a list of documents that hold lists of rows', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: 'seq UInt32, device String',
    rows: 'list',
    messages: [
      [
        { device: 'a', list: [{ seq: 1 }, { seq: 2 }] },
        { device: 'b', list: [] },
        { device: 'c', list: [{ seq: 3 }] },
      ],
      '{"device":"d","list":[{"seq":4}]}\n{"list":[{"seq":5},{"seq":6}],"device":"e"}',
    ],
  })
  assertRows(result, [
    { seq: 1, device: 'a' },
    { seq: 2, device: 'a' },
    { seq: 3, device: 'c' },
    { seq: 4, device: 'd' },
    { seq: 5, device: 'e' },
    { seq: 6, device: 'e' },
  ])
})

test('several documents, on lines of their own or not', { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32',
    messages: [
      '{"seq":1}\n{"seq":2}',
      '{"seq":3}\r\n\r\n  {"seq":\n4}\n',
      '[{"seq":5},{"seq":6}]\n{"seq":7}\n',
      '{"seq":8}{"seq":9}',
      '{"seq":10} {"seq":11}',
      '{"seq":16} 17',
      '{"seq":12}\n{"seq":',
      '{"seq":13}\n{}',
      '{"seq":14}\n15',
    ],
  })
  assert.deepEqual(rows.map((row) => row.seq), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  assert.deepEqual(codes(letters), ['JSON_INVALID', 'JSON_INVALID', 'FIELD_MISSING', 'NOT_AN_OBJECT'])
})

test('the payload, or a part of it, as text and as JSON', { timeout }, async (t) => {
  const payload = '{ "seq": 1, "position": {"lat": 1.50, "path": [1, {"a":null}]}, "tags":["x"] }'
  const result = await arrive(t, {
    table: 'seq UInt32, raw String, text String, doc JSON, whole JSON, part String, sub JSON, list String, item JSON',
    columns: {
      raw: { meta: 'payload' },
      text: '$',
      doc: '$',
      whole: { meta: 'payload' },
      part: 'position',
      sub: 'position',
      list: 'position.path',
      item: 'position.path[1]',
    },
    // The integers in a JSON column are of 64 bits.
    select: '* REPLACE (toString(doc) AS doc, toString(whole) AS whole, toString(sub) AS sub, toString(item) AS item)',
    messages: [` ${payload}\n`],
  })
  // A JSON column keeps no nulls, and numbers as such.
  const sub = '{"lat":1.5,"path":["1",{}]}'
  const whole = `{"position":${sub},"seq":"1","tags":["x"]}`
  const [row] = result.rows
  assert.deepEqual(codes(result.letters), [])
  assert.equal(row.raw, ` ${payload}\n`)
  assert.equal(row.text, payload)
  assert.deepEqual(JSON.parse(row.doc), JSON.parse(whole))
  assert.deepEqual(JSON.parse(row.whole), JSON.parse(whole))
  assert.equal(row.part, '{"lat": 1.50, "path": [1, {"a":null}]}')
  assert.deepEqual(JSON.parse(row.sub), JSON.parse(sub))
  assert.equal(row.list, '[1, {"a":null}]')
  assert.equal(row.item, '{}')
})

test('a list as the payload of one row', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: 'seq Array(UInt8), raw String',
    columns: { seq: '$', raw: '$' },
    messages: ['[1, 2]', '[]', '[3]'],
  })
  assertRows(result, [
    { seq: [], raw: '[]' },
    { seq: [1, 2], raw: '[1, 2]' },
    { seq: [3], raw: '[3]' },
  ])
})

test('objects into points, in the order that `fields` gives', { timeout }, async (t) => {
  const fields = ['lng', 'lat']
  const at = (lng, lat) => ({ lat, lng, height: 5 })
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, p Point, u Tuple(Float64, Float64), r Ring, a Polygon, m MultiPolygon, l LineString',
    columns: {
      p: { path: 'position', fields },
      u: { path: 'position', fields: ['lat', 'lng'] },
      r: { path: 'ring', fields },
      a: { path: 'area', fields },
      m: { path: 'areas', fields },
      l: { path: 'ring', fields },
    },
    messages: [
      { seq: 1, position: at(1, 2), ring: [at(3, 4), at(5, 6)], area: [[at(7, 8)], []], areas: [[[at(9, 10)]]] },
      { seq: 2, position: { lat: 1 }, ring: [], area: [], areas: [] },
      { seq: 3, position: at(1, null), ring: [], area: [], areas: [] },
      { seq: 4, position: at(1, 2), ring: [at(1, 2), { lng: 1 }], area: [], areas: [] },
      { seq: 5, position: at(1, 'north'), ring: [], area: [], areas: [] },
    ],
  })
  assert.deepEqual(rows, [
    { seq: 1, p: [1, 2], u: [2, 1], r: [[3, 4], [5, 6]], a: [[[7, 8]], []], m: [[[[9, 10]]]], l: [[3, 4], [5, 6]] },
  ])
  assert.deepEqual(codes(letters), ['FIELD_MISSING', 'TYPE_MISMATCH', 'FIELD_MISSING', 'TYPE_MISMATCH'])
  assert.match(letters[0].message, /p/)
  assert.match(letters[0].message, /lng/)
})

test('`fields` that do not fit the column are a mistake in the configuration', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, p Point, s String')
  for (const [column, fields] of [['p', ['lat']], ['p', ['a', 'b', 'c']], ['s', ['lng', 'lat']]]) {
    const columns = { [String(column)]: { path: 'position', fields } }
    const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table, columns }] })
    await assert.rejects(pipeline.start(), { code: 'CONFIG_INVALID', path: `routes[0].columns.${column}.fields` })
  }
})

test('a Nested from a list of objects, from an object of lists, and from lists of their own', { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, n Nested(a UInt8, b Nullable(String), c Array(UInt8))',
    messages: [
      { seq: 1, n: [{ a: 1, b: 'x', c: [1] }, { c: [], b: null, a: 2, d: 'nobody reads it' }] },
      { seq: 2, n: { a: [1, 2], b: ['x', null], c: [[1], []] } },
      { seq: 3, 'n.a': [1, 2], 'n.b': ['x', null], 'n.c': [[1], []] },
      { seq: 4, n: [] },
      { seq: 5, n: { a: [], b: [], c: [] } },
      { seq: 6, n: [{ a: 1, c: [] }] },
      { seq: 7, n: [{ a: 1 }] },
      { seq: 8, n: { a: [1], b: ['x'] } },
      { seq: 9, n: { a: [1], b: ['x', 'y'], c: [[]] } },
      { seq: 10, n: [{ a: 300, c: [] }] },
      { seq: 11, n: [1] },
      { seq: 12 },
    ],
  })
  const nested = (seq, a, b, c) => ({ seq, 'n.a': a, 'n.b': b, 'n.c': c })
  assert.deepEqual(rows, [
    ...[1, 2, 3].map((seq) => nested(seq, [1, 2], ['x', null], [[1], []])),
    ...[4, 5].map((seq) => nested(seq, [], [], [])),
    nested(6, [1], [null], [[]]),
  ])
  assert.deepEqual(codes(letters), [
    'FIELD_MISSING',
    'FIELD_MISSING',
    'TYPE_MISMATCH',
    'OUT_OF_RANGE',
    'TYPE_MISMATCH',
    'FIELD_MISSING',
  ])
})

test('a Nested that is one column', { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, n Nested(a UInt8, b String)',
    create: { settings: { flatten_nested: 0 } },
    messages: [{ seq: 1, n: [{ a: 1, b: 'x' }, { b: 'y', a: 2 }] }, { seq: 2, n: [] }, { seq: 3, n: [{ a: 1 }] }],
  })
  assert.deepEqual(rows, [
    { seq: 1, n: [{ a: 1, b: 'x' }, { a: 2, b: 'y' }] },
    { seq: 2, n: [] },
  ])
  assert.deepEqual(codes(letters), ['FIELD_MISSING'])
})

test('names with dots that are not a Nested', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: 'seq UInt32, `p.a` UInt8, `p.b` Array(UInt8), `q.a` Array(UInt8) DEFAULT [7]',
    messages: [{ seq: 1, 'p.a': 1, 'p.b': [1, 2] }, { seq: 2, 'p.a': 2, 'p.b': [], 'q.a': [1, 2, 3] }],
  })
  assertRows(result, [
    { seq: 1, 'p.a': 1, 'p.b': [1, 2], 'q.a': [7] },
    { seq: 2, 'p.a': 2, 'p.b': [], 'q.a': [1, 2, 3] },
  ])
})

test('the last value of a key counts, as in JSON.parse', { timeout }, async (t) => {
  const payloads = [
    '{"seq":1,"a":1,"a":2,"t":{"x":1,"x":3},"p":{"y":1}}',
    '{"a":7,"seq":9,"t":{"x":1},"seq":2,"a":1,"p":{"y":1,"y":4}}',
    '{"seq":3,"t":{"x":1},"a":1,"a":null,"p":{"y":1}}',
    '{"seq":4,"t":{"x":1},"p":{"y":1},"p":{"z":2}}',
    '{"seq":5,"t":{"x":1},"p":{"y":1},"p":7}',
    '{"seq":6,"t":{"x":1},"t":{"x":2},"\\u0061":5,"a":6}',
  ]
  const result = await arrive(t, {
    table: 'seq UInt32, a Nullable(Int8), x Int8, y Nullable(Int8)',
    columns: { x: 't.x', y: 'p.y' },
    messages: payloads,
  })
  const expected = payloads.map((payload) => {
    const { seq, a = null, t, p } = JSON.parse(payload)
    return { seq, a, x: t.x, y: p?.y ?? null }
  })
  assertRows(result, expected)
})

test('escapes and surrogates in keys and values, at every depth', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: 'seq UInt32, `ключ 🚚` String, m Map(String, String), a Array(String), j JSON, t Tuple(`é"` String)',
    rows: 'l\u00efst',
    messages: [
      '{"l\\u00efst":[{"\\u0073eq":1,"\\u043a\\u043b\\u044e\\u0447 \\ud83d\\ude9a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000",' +
        '"m":{"\\ud83d\\uDE9A":"\\u00e9","":"e\\u0301"},"a":["\\u2028","🚚\\"]"],"j":{"\\u006b":"\\ud83d\\ude9a}"},' +
        '"t":{"\\u00e9\\"":"{\\"seq\\":2}"}}]}',
    ],
  })
  assertRows(result, [
    {
      seq: 1,
      'ключ 🚚': '"\\/\b\f\n\r\t\0',
      m: { '🚚': 'é', '': 'e\u0301' },
      a: ['\u2028', '🚚"]'],
      j: { k: '🚚}' },
      t: { 'é"': '{"seq":2}' },
    },
  ])
})

test('nesting to 128 deep; deeper documents are refused', { timeout }, async (t) => {
  // The document itself is the first level.
  const lists = (depth) => `${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}`
  const objects = (depth) => `${'{"a":'.repeat(depth - 1)}1${'}'.repeat(depth - 1)}`
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, s Nullable(String), j Nullable(JSON)',
    select: 'seq, length(s) AS length, length(toString(j)) > 0 AS hasJson',
    messages: [
      `{"seq":1,"s":${lists(128)}}`,
      `{"seq":2,"unknown":${objects(128)}}`,
      `{"seq":3,"j":${objects(128)}}`,
      `{"seq":4,"s":${lists(129)}}`,
      `{"seq":5,"unknown":${objects(129)}}`,
      `{"seq":6,"j":${objects(129)}}`,
      `{"seq":7,"unknown":${'['.repeat(200_000)}`,
    ],
  })
  assert.deepEqual(rows, [
    { seq: 1, length: '254', hasJson: null },
    { seq: 2, length: null, hasJson: null },
    { seq: 3, length: null, hasJson: 1 },
  ])
  assert.deepEqual(codes(letters), Array(4).fill('JSON_INVALID'))

  // The list and its element are levels as well.
  const within = await arrive(t, {
    table: 'seq UInt32, s String',
    rows: 'list',
    select: 'seq, length(s) AS length',
    messages: [`{"list":[{"seq":1,"s":${lists(126)}}]}`, `{"list":[{"seq":2,"s":${lists(127)}}]}`],
  })
  assert.deepEqual(within.rows, [{ seq: 1, length: '250' }])
  assert.deepEqual(codes(within.letters), ['JSON_INVALID'])
})

test('a list of 100,000 numbers, as one value and as rows', { timeout }, async (t) => {
  const count = 100_000
  const values = Array.from({ length: count }, (_, i) => i + 0.5)
  const sums = 'length(v) AS items, arraySum(v) AS sum, arraySort(v) = v AS inOrder'
  const one = await arrive(t, { table: 'seq UInt8, v Array(Float64)', select: sums, messages: [{ seq: 1, v: values }] })
  assertRows(one, [{ items: String(count), sum: count ** 2 / 2, inOrder: 1 }])

  const many = await arrive(t, {
    table: 'seq UInt8, v Float64',
    rows: 'v',
    columns: { v: '@' },
    select: 'count() AS items, sum(v) AS sum, uniqExact(v) AS different',
    order: 'tuple()',
    messages: [{ seq: 1, v: values }],
  })
  assertRows(many, [{ items: String(count), sum: count ** 2 / 2, different: String(count) }])
})

test("unknownFields: 'reject' looks everywhere but into JSON, maps and texts", { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, device String, t Tuple(x UInt8), m Map(String, UInt8), j JSON, s String, n Nested(a UInt8)',
    rows: 'list',
    unknownFields: 'reject',
    messages: [
      { device: 'd', list: [{ seq: 1, t: { x: 1 }, m: { free: 1 }, j: { free: 1 }, s: { free: 1 }, n: [{ a: 1 }] }] },
      { device: 'd', list: [], typo1: 1 },
      { device: 'd', list: [{ seq: 2, t: { x: 1 }, m: {}, j: {}, s: '', n: [], typo2: 1 }] },
      { device: 'd', list: [{ seq: 3, t: { x: 1, typo3: 1 }, m: {}, j: {}, s: '', n: [] }] },
      { device: 'd', list: [{ seq: 4, t: { x: 1 }, m: {}, j: {}, s: '', n: [{ a: 1, typo4: 1 }] }] },
    ],
  })
  assert.deepEqual(rows.map((row) => row.seq), [1])
  assert.deepEqual(codes(letters), Array(4).fill('UNKNOWN_FIELD'))
  for (const [i, { message }] of letters.entries()) assert.match(message, new RegExp(`typo${i + 1}`))
})

test('digits of a time that a column does not keep are cut, and a warning says so once for each column', { timeout }, async (t) => {
  const time = (fraction) => `2024-10-27T03:33:20${fraction}Z`
  const { rows, letters, warnings } = await arrive(t, {
    table: `seq UInt32, fine DateTime64(3, 'UTC'), coarse DateTime64(3, 'UTC'), whole DateTime('UTC'), day Date,
      list Array(DateTime64(1, 'UTC')), clock Time64(2), arrived DateTime('UTC')`,
    columns: { arrived: { meta: 'receivedAt' } },
    select: '* EXCEPT (arrived)',
    messages: Array.from({ length: 5 }, (_, i) => ({
      seq: i,
      fine: time('.123000'),
      coarse: i % 2 ? time('.1239') : 1_730_000_000.1239,
      whole: time('.999'),
      day: time('.999'),
      list: [time('.1'), time('.19')],
      clock: '01:02:03.456',
    })),
  })
  const second = '2024-10-27 03:33:20'
  const cut = {
    fine: `${second}.123`,
    coarse: `${second}.123`,
    whole: second,
    day: '2024-10-27',
    list: [`${second}.1`, `${second}.1`],
    clock: '01:02:03.45',
  }
  assertRows({ rows, letters }, Array.from({ length: 5 }, (_, seq) => ({ seq, ...cut })))
  const reported = warnings.filter((warning) => warning.code === 'TIME_PRECISION_CUT')
  for (const { message, column, route } of reported) {
    assert.ok(message.includes(`the column ${column} `), message)
    assert.equal(route, 0)
  }
  const named = ['coarse', 'whole', 'list', 'clock', 'fine', 'day', 'arrived'].map((column) => {
    return [column, reported.filter((warning) => warning.column === column).length]
  })
  assert.deepEqual(Object.fromEntries(named), { coarse: 1, whole: 1, list: 1, clock: 1, fine: 0, day: 0, arrived: 0 })
})

test('a DEFAULT of a column that has parts is computed where the value is missing, and only there', { timeout }, async (t) => {
  const given = {
    a: ['x'],
    m: { k: 1 },
    t: { x: 5, y: 'given' },
    p: [1, 2],
    j: { given: true },
    v: 'given',
    d: 'given',
    e: ['given', true],
    f: 'x'.repeat(300),
    n: null,
    s: 'given',
  }
  const missing = (seq) => ({
    seq,
    a: [`tag ${seq}`],
    m: {},
    t: { x: seq, y: 'none' },
    p: [seq, 0],
    j: { seq: String(seq) },
    v: 'none',
    d: seq,
    e: [seq, 'none'],
    f: 'y'.repeat(300),
    n: null,
    s: `s${seq}`,
  })
  const result = await arrive(t, {
    table: `seq UInt32,
      a Array(LowCardinality(String)) DEFAULT [concat('tag ', toString(seq))],
      m Map(String, UInt8) DEFAULT map(),
      t Tuple(x UInt32, y String) DEFAULT (seq, 'none'),
      p Point DEFAULT (seq, 0),
      j JSON DEFAULT concat('{"seq":', toString(seq), '}'),
      v Variant(String, UInt8) DEFAULT 'none',
      d Dynamic DEFAULT seq,
      e Array(Dynamic) DEFAULT [seq::Dynamic, 'none'::Dynamic],
      f FixedString(300) DEFAULT repeat('y', 300),
      n Nullable(UInt8),
      s String DEFAULT concat('s', toString(seq))`,
    create: { settings: { allow_suspicious_fixed_string_types: 1 } },
    messages: [
      { seq: 1 },
      { seq: 2, ...given },
      { seq: 3, a: null, m: null, t: null, p: null, j: null, v: null, d: null, e: null, f: null, s: null },
      { seq: 4, ...given, a: [], m: {} },
      { seq: 5, ...given, t: null },
    ],
  })
  assertRows(result, [
    missing(1),
    { seq: 2, ...given },
    missing(3),
    { seq: 4, ...given, a: [], m: {} },
    { seq: 5, ...given, t: { x: 5, y: 'none' } },
  ])
})

test('a column with the name of the internal column of another one', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: "seq UInt32, a Array(UInt8) DEFAULT [7], `missing a` String, `a.missing` Nullable(UInt8)",
    messages: [{ seq: 1, 'missing a': 'mine' }, { seq: 2, a: [], 'missing a': '', 'a.missing': 1 }],
  })
  assertRows(result, [
    { seq: 1, a: [7], 'missing a': 'mine', 'a.missing': null },
    { seq: 2, a: [], 'missing a': '', 'a.missing': 1 },
  ])
})

test('constants and defaults of routes for columns that have parts', { timeout }, async (t) => {
  const result = await arrive(t, {
    table: `seq UInt32, a Array(String), m Map(String, UInt8), t Tuple(x UInt8, y Nullable(String)), p Point, j JSON,
      v Variant(String, UInt8)`,
    columns: {
      a: { path: 'a', default: ['x', 'y'] },
      m: { value: { k: 1 } },
      t: { path: 't', default: { x: 1 } },
      p: { path: 'p', default: [1, 2] },
      j: { value: { deep: { list: [true] } } },
      v: { path: 'v', default: 7 },
    },
    messages: [{ seq: 1 }, { seq: 2, a: [], t: { x: 2, y: 'y' }, p: [3, 4], v: 'text', m: 'not read' }],
  })
  const constant = { m: { k: 1 }, j: { deep: { list: [true] } } }
  assertRows(result, [
    { seq: 1, a: ['x', 'y'], t: { x: 1, y: null }, p: [1, 2], v: 7, ...constant },
    { seq: 2, a: [], t: { x: 2, y: 'y' }, p: [3, 4], v: 'text', ...constant },
  ])

  const table = await servers.table('seq UInt32, a Array(UInt8)')
  for (const value of [[300], 'x', { a: 1 }, [null]]) {
    const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table, columns: { a: { value } } }] })
    await assert.rejects(pipeline.start(), { code: 'CONFIG_INVALID', path: 'routes[0].columns.a.value' })
  }
})

test("missingFields: 'zero' reaches into values", { timeout }, async (t) => {
  const result = await arrive(t, {
    table: `seq UInt32, a Array(UInt8), t Tuple(x UInt8, y String, z Nullable(UInt8)), m Map(String, UInt8),
      n Nested(a UInt8, b String), p Point`,
    missingFields: 'zero',
    messages: [
      { seq: 1 },
      { seq: 2, a: [1, null], t: { x: null }, m: { k: null }, n: [{ a: 1 }, {}], p: [null, 1] },
    ],
  })
  assertRows(result, [
    { seq: 1, a: [], t: { x: 0, y: '', z: null }, m: {}, 'n.a': [], 'n.b': [], p: [0, 0] },
    { seq: 2, a: [1, 0], t: { x: 0, y: '', z: null }, m: { k: 0 }, 'n.a': [1, 0], 'n.b': ['', ''], p: [0, 1] },
  ])
})

test('an AggregatingMergeTree with simple aggregate functions takes plain values', { timeout }, async (t) => {
  const { letters, table } = await arrive(t, {
    table: `seq UInt32, total SimpleAggregateFunction(sum, UInt64),
      last SimpleAggregateFunction(anyLast, Nullable(String)), latest SimpleAggregateFunction(max, DateTime('UTC')),
      tags SimpleAggregateFunction(groupArrayArray, Array(UInt8)), n SimpleAggregateFunction(sum, UInt64) DEFAULT 1`,
    create: { engine: 'AggregatingMergeTree', order: 'seq' },
    messages: [
      { seq: 1, total: 1, last: 'a', latest: 1_730_000_000, tags: [1, 2] },
      { seq: 1, total: '18446744073709551614', last: null, latest: 1_700_000_000_000, tags: [] },
      { seq: 2, total: 3, latest: '2024-10-27T03:33:20Z', tags: [3], n: 5 },
    ],
  })
  assert.deepEqual(codes(letters), [])
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table} FINAL ORDER BY seq`), [
    { seq: 1, total: '18446744073709551615', last: 'a', latest: '2024-10-27 03:33:20', tags: [1, 2], n: '2' },
    { seq: 2, total: '3', last: null, latest: '2024-10-27 03:33:20', tags: [3], n: '5' },
  ])
})
