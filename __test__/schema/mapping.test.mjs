// The source of each column: fields, topic names, meta, constants, and defaults of the route and of the table.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 30_000

/**
 * Publishes `messages` (objects, or [topic below the prefix, object]) through one route to a new table of the columns
 * `table`, and gives the rows that came of it, ordered by `seq`. The remaining options are the route's.
 *
 * @param {any} options
 */
async function arrive(t, options) {
  const { table: ddl, messages, topic = '#', publish = {}, pipeline: config, ...route } = options
  const name = await servers.table(ddl)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [{ topic: `${prefix}/${topic}`, table: name, ...route }],
    ...config,
  })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1, protocolVersion: 5 })
  for (const message of messages) {
    const [below, body] = Array.isArray(message) ? message : ['x', message]
    await publisher.publish(`${prefix}/${below}`, body, publish)
  }
  await settled(pipeline, messages.length)
  await heard(pipeline, letters)
  const rows = await servers.rows(`SELECT * FROM ${name} ORDER BY seq`)
  return { rows, letters, table: name, prefix, pipeline }
}

const seqs = (rows) => rows.map((row) => row.seq)

test('each column takes the field of its name; other fields are ignored', { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, a String, B Float64',
    messages: [
      { seq: 1, a: 'one', B: 1.5, unknown: { deep: [1, 2] } },
      { B: 2.5, seq: 2, a: 'the order of keys does not matter' },
      { seq: 3, b: 9, A: 'case matters', a: 'three', B: 3.5 },
    ],
  })
  assert.deepEqual(letters, [])
  assert.deepEqual(rows, [
    { seq: 1, a: 'one', B: 1.5 },
    { seq: 2, a: 'the order of keys does not matter', B: 2.5 },
    { seq: 3, a: 'three', B: 3.5 },
  ])
})

test('paths: nested names, indexes, names with dots', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: `seq UInt32, lat Float64, deep Int32, first Int16, third Int16, inner String, dotted String,
      quoted String, beside String, missing Nullable(String)`,
    messages: [
      {
        seq: 1,
        position: { lat: 1.25, more: { still: { deeper: -7 } }, lng: 3 },
        axes: [10, 20, 30],
        list: [{ name: 'a' }, { name: 'b', 'x.y': 'in the list' }],
        'a.b': 'dotted',
        a: { b: 'not this one' },
        "it's": 'quoted',
      },
    ],
    columns: {
      lat: 'position.lat',
      deep: 'position.more.still.deeper',
      first: 'axes[0]',
      third: 'axes[2]',
      inner: 'list[1].name',
      dotted: "['a.b']",
      beside: "list[1]['x.y']",
      quoted: "it's",
      missing: 'axes[3].name',
    },
  })
  assert.deepEqual(rows, [
    {
      seq: 1,
      lat: 1.25,
      deep: -7,
      first: 10,
      third: 30,
      inner: 'b',
      dotted: 'dotted',
      quoted: 'quoted',
      beside: 'in the list',
      missing: null,
    },
  ])
})

test('two columns from one field, and from a field and what lies below it', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: 'seq UInt32, again UInt64, text Nullable(String), below Nullable(Int8)',
    messages: [{ seq: 1, v: { w: 5 } }, { seq: 2, v: { w: null } }, { seq: 3 }],
    columns: { again: 'seq', text: 'v.t', below: 'v.w' },
  })
  assert.deepEqual(rows, [
    { seq: 1, again: '1', text: null, below: 5 },
    { seq: 2, again: '2', text: null, below: null },
    { seq: 3, again: '3', text: null, below: null },
  ])
})

test('a field that is given twice counts as its last', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: 'seq UInt32, a Nullable(Int32), b Nullable(Int32)',
    messages: [Buffer.from('{"seq":9,"a":1,"a":2,"seq":1}'), Buffer.from('{"seq":2,"a":1,"a":null}')],
  })
  assert.equal(rows.length, 2)
  assert.deepEqual(rows[0], { seq: 1, a: 2, b: null })
})

test('names of the topic fill the columns of those names', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: 'seq UInt32, site String, line LowCardinality(String), machine UInt16, rest String',
    topic: '{site}/{line}/m/{machine}/{rest#}',
    messages: [
      ['berlin/l1/m/7/a', { seq: 1 }],
      ['são paulo/L-2/m/65535/a/b//c', { seq: 2, site: 'the topic comes first' }],
      ['x/y/m/0', { seq: 3 }],
    ],
  })
  assert.deepEqual(rows, [
    { seq: 1, site: 'berlin', line: 'l1', machine: 7, rest: 'a' },
    { seq: 2, site: 'são paulo', line: 'L-2', machine: 65535, rest: 'a/b//c' },
    { seq: 3, site: 'x', line: 'y', machine: 0, rest: '' },
  ])
})

test('a name of the topic that does not fit its column is a dead letter', { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, machine UInt8',
    topic: '{machine}',
    messages: [
      ['12', { seq: 1 }],
      ['256', { seq: 2 }],
      ['twelve', { seq: 3 }],
    ],
  })
  assert.deepEqual(seqs(rows), [1])
  assert.deepEqual(
    letters.map((letter) => letter.code),
    ['OUT_OF_RANGE', 'TYPE_MISMATCH'],
  )
})

test('a name of the topic under another column, and + and # beside names', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: 'seq UInt32, device String, id String',
    topic: '+/{id}/#',
    messages: [['a/b/c/d', { seq: 1, id: 'from the payload' }]],
    columns: { device: { topic: 'id' }, id: 'id' },
  })
  assert.deepEqual(rows, [{ seq: 1, device: 'b', id: 'from the payload' }])
})

test('meta: topic, receivedAt, payload, qos, retain, clientId', { timeout }, async (t) => {
  const before = Date.now()
  const clientId = unique('client')
  const { rows, prefix } = await arrive(t, {
    table: `seq UInt32, topic String, at DateTime64(6, 'UTC'), seconds DateTime('UTC'), payload String, qos UInt8,
      retain Bool, client LowCardinality(String)`,
    messages: [Buffer.from('{"seq" : 1, "topic":"from the payload", "ü":"\\u00fc"}')],
    publish: { qos: 1 },
    pipeline: { mqtt: { clientId } },
    columns: {
      topic: { meta: 'topic' },
      at: { meta: 'receivedAt' },
      seconds: { meta: 'receivedAt' },
      payload: { meta: 'payload' },
      qos: { meta: 'qos' },
      retain: { meta: 'retain' },
      client: { meta: 'clientId' },
    },
  })
  const [{ at, seconds, ...row }] = rows
  assert.deepEqual(row, {
    seq: 1,
    topic: `${prefix}/x`,
    payload: '{"seq" : 1, "topic":"from the payload", "ü":"\\u00fc"}',
    qos: 1,
    retain: false,
    client: clientId,
  })
  const receivedAt = Date.parse(`${at.replace(' ', 'T')}Z`)
  assert.ok(receivedAt >= before - 1 && receivedAt <= Date.now(), at)
  assert.equal(seconds, at.slice(0, 19))
})

test('meta of a retained message at QoS 0', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, qos UInt8, retain Bool')
  const prefix = unique('topic')
  const publisher = await servers.publisher(t)
  await publisher.publish(prefix, { seq: 1 }, { retain: true })
  const columns = { qos: { meta: 'qos' }, retain: { meta: 'retain' } }
  const pipeline = await servers.started(t, { mqtt: { qos: 0 }, routes: [{ topic: prefix, table, columns }] })
  await settled(pipeline, 1)
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ seq: 1, qos: 0, retain: true }])
})

test('a payload that is stored as it came need not be JSON', { timeout }, async (t) => {
  const table = await servers.table('topic String, payload String')
  const prefix = unique('topic')
  const columns = { topic: { meta: 'topic' }, payload: { meta: 'payload' } }
  const pipeline = await servers.started(t, { routes: [{ topic: `${prefix}/#`, table, columns }] })
  const publisher = await servers.publisher(t)
  await publisher.publish(`${prefix}/a`, 'not JSON')
  await publisher.publish(`${prefix}/b`, '')
  await settled(pipeline, 2)
  const rows = await servers.rows(`SELECT * FROM ${table} ORDER BY topic`)
  assert.deepEqual(
    rows.map((row) => row.payload),
    ['not JSON', ''],
  )
})

test('user properties of MQTT 5', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: 'seq UInt32, site String, absent Nullable(String)',
    messages: [{ seq: 1 }],
    publish: { properties: { userProperties: { site: 'harbour', other: 'x' } } },
    columns: { site: { userProperty: 'site' }, absent: { userProperty: 'absent' } },
  })
  assert.deepEqual(rows, [{ seq: 1, site: 'harbour', absent: null }])
})

test('value: a constant, of any kind', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table:
      "seq UInt32, source LowCardinality(String), version UInt8, ratio Float64, live Bool, since DateTime('UTC'), nothing Nullable(Int8)",
    messages: [{ seq: 1, source: 'ignored' }, { seq: 2 }],
    columns: {
      source: { value: 'mill' },
      version: { value: 3 },
      ratio: { value: 0.5 },
      live: { value: true },
      since: { value: '2024-05-06T07:08:09Z' },
      nothing: { value: null },
    },
  })
  const constant = { source: 'mill', version: 3, ratio: 0.5, live: true, since: '2024-05-06 07:08:09', nothing: null }
  assert.deepEqual(rows, [
    { seq: 1, ...constant },
    { seq: 2, ...constant },
  ])
})

test('default: a missing field or null takes it, before the column’s own', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: "seq UInt32, speed Float64, name String DEFAULT 'from the table', unit Nullable(String)",
    messages: [
      { seq: 1 },
      { seq: 2, speed: null, name: null, unit: null },
      { seq: 3, speed: 3, name: 'given', unit: 'given' },
    ],
    columns: {
      speed: { path: 'speed', default: -1 },
      name: { path: 'name', default: 'from the source' },
      unit: { path: 'unit', default: 'km/h' },
    },
  })
  assert.deepEqual(rows, [
    { seq: 1, speed: -1, name: 'from the source', unit: 'km/h' },
    { seq: 2, speed: -1, name: 'from the source', unit: 'km/h' },
    { seq: 3, speed: 3, name: 'given', unit: 'given' },
  ])
})

test('unit: numbers since 1970 as they are meant', { timeout }, async (t) => {
  const { rows } = await arrive(t, {
    table: `seq UInt32, s DateTime64(3, 'UTC'), ms DateTime64(3, 'UTC'), us DateTime64(6, 'UTC'), ns DateTime64(9, 'UTC'),
      auto1 DateTime64(3, 'UTC'), auto2 DateTime64(3, 'UTC'), auto3 DateTime64(6, 'UTC'), auto4 DateTime64(9, 'UTC'),
      small DateTime64(3, 'UTC'), whole DateTime('UTC'), day Date, ago DateTime64(3, 'UTC')`,
    messages: [
      Buffer.from(`{"seq":1,"s":1730000000.125,"ms":1730000000125,"us":1730000000125001,"ns":1730000000125001002,
        "auto1":1730000000,"auto2":1730000000125,"auto3":1730000000125001,"auto4":1730000000125001002,
        "small":5000,"whole":1730000000125,"day":1730000000125,"ago":-86400000}`),
    ],
    columns: {
      s: { path: 's', unit: 's' },
      ms: { path: 'ms', unit: 'ms' },
      us: { path: 'us', unit: 'us' },
      ns: { path: 'ns', unit: 'ns' },
      small: { path: 'small', unit: 'ms' },
      ago: { path: 'ago', unit: 'ms' },
    },
  })
  assert.deepEqual(rows, [
    {
      seq: 1,
      s: '2024-10-27 03:33:20.125',
      ms: '2024-10-27 03:33:20.125',
      us: '2024-10-27 03:33:20.125001',
      ns: '2024-10-27 03:33:20.125001002',
      auto1: '2024-10-27 03:33:20.000',
      auto2: '2024-10-27 03:33:20.125',
      auto3: '2024-10-27 03:33:20.125001',
      auto4: '2024-10-27 03:33:20.125001002',
      small: '1970-01-01 00:00:05.000',
      whole: '2024-10-27 03:33:20',
      day: '2024-10-27',
      ago: '1969-12-31 00:00:00.000',
    },
  ])
})

test('defaults are computed by ClickHouse, for each row that needs them', { timeout }, async (t) => {
  const before = Math.floor(Date.now() / 1000)
  const { rows, letters } = await arrive(t, {
    table: `seq UInt32,
      name String DEFAULT concat('driver-', toString(seq)),
      twice UInt64 DEFAULT seq * 2,
      maybe Nullable(Int32) DEFAULT -1,
      kind LowCardinality(String) DEFAULT 'plain',
      sure Bool DEFAULT true,
      colour Enum8('red' = 1, 'blue' = 2) DEFAULT 'blue',
      at DateTime DEFAULT now(),
      id UUID DEFAULT generateUUIDv4()`,
    messages: [
      { seq: 1 },
      {
        seq: 2,
        name: 'given',
        twice: 0,
        maybe: 7,
        kind: 'given',
        sure: false,
        colour: 'red',
        at: '2020-01-01 00:00:00',
        id: '00000000-0000-0000-0000-000000000001',
      },
      { seq: 3, name: null, twice: null, maybe: null, kind: null, sure: null, colour: null, at: null, id: null },
    ],
  })
  assert.deepEqual(letters, [])
  const [first, second, third] = rows
  assert.deepEqual(second, {
    seq: 2,
    name: 'given',
    twice: '0',
    maybe: 7,
    kind: 'given',
    sure: false,
    colour: 'red',
    at: '2020-01-01 00:00:00',
    id: '00000000-0000-0000-0000-000000000001',
  })
  for (const [row, seq] of [
    [first, 1],
    [third, 3],
  ]) {
    const { at, id, ...rest } = row
    assert.deepEqual(rest, {
      seq,
      name: `driver-${seq}`,
      twice: String(seq * 2),
      maybe: -1,
      kind: 'plain',
      sure: true,
      colour: 'blue',
    })
    assert.ok(Date.parse(`${at.replace(' ', 'T')}Z`) / 1000 >= before - 1, at)
    assert.notEqual(id, '00000000-0000-0000-0000-000000000000')
  }
  assert.notEqual(first.id, third.id)
})

test('MATERIALIZED and ALIAS columns are ClickHouse’s own', { timeout }, async (t) => {
  const { table } = await arrive(t, {
    table: 'seq UInt32, doubled UInt64 MATERIALIZED seq * 2, tripled UInt64 ALIAS seq * 3',
    messages: [{ seq: 4, doubled: 1, tripled: 1 }],
  })
  const rows = await servers.rows(`SELECT seq, doubled, tripled FROM ${table}`)
  assert.deepEqual(rows, [{ seq: 4, doubled: '8', tripled: '12' }])
})

test('NULL where the column can hold it, and only there', { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, n Nullable(Int64), s Nullable(String), l LowCardinality(Nullable(String)), required String',
    messages: [
      { seq: 1, required: 'x' },
      { seq: 2, n: null, s: null, l: null, required: 'x' },
      { seq: 3, n: 0, s: '', l: '', required: '' },
      { seq: 4, required: null },
      { seq: 5 },
      { required: 'x' },
    ],
  })
  assert.deepEqual(rows, [
    { seq: 1, n: null, s: null, l: null, required: 'x' },
    { seq: 2, n: null, s: null, l: null, required: 'x' },
    { seq: 3, n: '0', s: '', l: '', required: '' },
  ])
  assert.deepEqual(
    letters.map((letter) => letter.code),
    ['FIELD_MISSING', 'FIELD_MISSING', 'FIELD_MISSING'],
  )
  assert.match(letters[0].message, /required/)
  assert.match(letters[2].message, /seq/)
})

test("missingFields: 'zero' gives the zero of the type", { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: `seq UInt32, i Int64, f Float64, b Bool, s String, l LowCardinality(String), u UUID, d Date,
      t DateTime('UTC'), t3 DateTime64(3, 'UTC'), n Nullable(String), e Enum8('none' = 0, 'some' = 1), dflt Int8 DEFAULT 5`,
    messages: [{ seq: 1 }, { seq: 2, i: null, f: null, s: null }],
    missingFields: 'zero',
  })
  assert.deepEqual(letters, [])
  const zero = {
    i: '0',
    f: 0,
    b: false,
    s: '',
    l: '',
    u: '00000000-0000-0000-0000-000000000000',
    d: '1970-01-01',
    t: '1970-01-01 00:00:00',
    t3: '1970-01-01 00:00:00.000',
    n: null,
    e: 'none',
    dflt: 5,
  }
  assert.deepEqual(rows, [
    { seq: 1, ...zero },
    { seq: 2, ...zero },
  ])
})

test("unknownFields: 'reject'", { timeout }, async (t) => {
  const { rows, letters } = await arrive(t, {
    table: 'seq UInt32, lat Nullable(Float64), constant String, doubled UInt32 MATERIALIZED seq * 2',
    messages: [
      { seq: 1 },
      { seq: 2, position: { lat: 1 } },
      { seq: 3, typo: 1 },
      { seq: 4, position: { lat: 1, typo: 2 } },
    ],
    unknownFields: 'reject',
    columns: { lat: 'position.lat', constant: { value: 'x' } },
  })
  assert.deepEqual(seqs(rows), [1, 2])
  assert.equal(letters.length, 2)
  for (const { code, message } of letters) {
    assert.equal(code, 'UNKNOWN_FIELD')
    assert.match(message, /typo/)
  }
})

test('two routes to two tables, and the first that matches takes the message', { timeout }, async (t) => {
  const positions = await servers.table('seq UInt32, driver String')
  const alarms = await servers.table('seq UInt32, kind String')
  const others = await servers.table('seq UInt32, topic String')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [
      { topic: `${prefix}/{driver}/position`, table: positions },
      { topic: `${prefix}/+/alarm/{kind}`, table: `${servers.database}.${alarms}` },
      { topic: `${prefix}/#`, table: others, columns: { topic: { meta: 'topic' } } },
    ],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  for (let seq = 0; seq < 300; seq++) {
    const below = ['d1/position', 'd2/alarm/fire', 'd3/else'][seq % 3]
    await publisher.publish(`${prefix}/${below}`, { seq })
  }
  await settled(pipeline, 300)
  const rows = (table, column) =>
    servers.rows(`SELECT ${column} AS value, toUInt32(count()) AS rows, toUInt32(uniqExact(seq)) AS different,
      groupUniqArray(seq % 3) AS kinds FROM ${table} GROUP BY value`)
  assert.deepEqual(await rows(positions, 'driver'), [{ value: 'd1', rows: 100, different: 100, kinds: [0] }])
  assert.deepEqual(await rows(alarms, 'kind'), [{ value: 'fire', rows: 100, different: 100, kinds: [1] }])
  assert.deepEqual(await rows(others, 'topic'), [{ value: `${prefix}/d3/else`, rows: 100, different: 100, kinds: [2] }])
  const { tables } = pipeline.metrics()
  assert.equal(Object.keys(tables).length, 3)
  assert.deepEqual(
    Object.values(tables).map((table) => table.rows),
    [100, 100, 100],
  )
})

test('two routes to one table', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, source String')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [
      { topic: `${prefix}/a`, table, columns: { source: { value: 'a' } } },
      { topic: `${prefix}/b`, table, columns: { seq: 'number', source: { value: 'b' } } },
    ],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(`${prefix}/a`, { seq: 1 })
  await publisher.publish(`${prefix}/b`, { number: 2 })
  await settled(pipeline, 2)
  const rows = await servers.rows(`SELECT * FROM ${table} ORDER BY seq`)
  assert.deepEqual(rows, [
    { seq: 1, source: 'a' },
    { seq: 2, source: 'b' },
  ])
  assert.equal(
    Object.values(pipeline.metrics().tables).reduce((sum, each) => sum + each.rows, 0),
    2,
  )
})

test('a materialized view behind the table is filled as by any INSERT', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, driver String, lat Float64, ts DateTime64(3)')
  const last = unique('last')
  await servers.command(`CREATE TABLE ${last} (driver String, lat AggregateFunction(argMax, Float64, DateTime64(3)))
    ENGINE = AggregatingMergeTree ORDER BY driver`)
  await servers.command(`CREATE MATERIALIZED VIEW ${last}_view TO ${last} AS
    SELECT driver, argMaxState(lat, ts) AS lat FROM ${table} GROUP BY driver`)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic: `${prefix}/{driver}`, table }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  for (let seq = 0; seq < 100; seq++) {
    await publisher.publish(`${prefix}/d${seq % 2}`, { seq, lat: seq, ts: 1_730_000_000_000 + seq })
  }
  await settled(pipeline, 100)
  const rows = await servers.rows(`SELECT driver, argMaxMerge(lat) AS lat FROM ${last} GROUP BY driver ORDER BY driver`)
  assert.deepEqual(rows, [
    { driver: 'd0', lat: 98 },
    { driver: 'd1', lat: 99 },
  ])
})

test('names of tables and columns that need quoting', { timeout }, async (t) => {
  const table = unique('a table, "quoted" and \\ more')
  const quoted = `\`${table.replace(/[\\`]/g, '\\$&')}\``
  await servers.command(`CREATE TABLE ${quoted} (seq UInt32, \`driver-id\` String, \`a.b\` String, \`select\` String)
    ENGINE = MergeTree ORDER BY seq`)
  const prefix = unique('topic')
  const columns = { 'driver-id': "['driver-id']", 'a.b': "['a.b']" }
  const pipeline = await servers.started(t, { routes: [{ topic: prefix, table, columns }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(prefix, { seq: 1, 'driver-id': 'd', 'a.b': 'e', select: 'f' })
  await settled(pipeline, 1)
  const rows = await servers.rows(`SELECT * FROM ${quoted}`)
  assert.deepEqual(rows, [{ seq: 1, 'driver-id': 'd', 'a.b': 'e', select: 'f' }])
})
