// millrace/testing: a service's own tests, without a broker and without ClickHouse. Its results are
// compared with those of the real servers.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectAsync } from 'mqtt'
import { Pipeline } from '../../index.js'
import { startServers, startTestPipeline } from '../../testing.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

const ROUTES = [{ topic: 'drivers/{driver_id}/position', table: 'positions' }]
const TABLES = { positions: { driver_id: 'String', lat: 'Float64', at: 'Nullable(DateTime64(3))', source: "String DEFAULT 'gps'" } }
// As in the service: of these only what is not about servers is taken.
const CONFIG = {
  mqtt: { url: 'mqtts://broker.example:8883', clientId: 'fleet', username: 'u', password: 'p', tls: { ca: 'none' } },
  clickhouse: { url: 'https://clickhouse.example', database: 'fleet', password: 'secret' },
  spool: { dir: '/nowhere' },
  routes: ROUTES,
}

test('a message is a row when it is published', { timeout }, async () => {
  const service = await startTestPipeline(CONFIG, { tables: TABLES })
  await service.publish('drivers/d1/position', { lat: 52.5, at: '2026-01-02T03:04:05.678Z' })
  assert.deepEqual(service.rows('positions'), [{ driver_id: 'd1', lat: 52.5, at: '2026-01-02T03:04:05.678Z' }])
  await service.publish('drivers/d2/position', '{"lat":1,"source":"app"}', { qos: 2 })
  assert.deepEqual(service.rows('fleet.positions')[1], { driver_id: 'd2', lat: 1, at: null, source: 'app' })
  service.clear()
  assert.deepEqual(service.rows('positions'), [])
  await service.stop()
  assert.equal(service.pipeline.metrics().messages.inserted, 2)
  assert.equal(service.pipeline.state, 'stopped')
})

test('a payload that is not a row becomes a dead letter', { timeout }, async () => {
  const service = await startTestPipeline(CONFIG, { tables: TABLES })
  try {
    await service.publish('drivers/d1/position', 'no JSON')
    await waitFor(() => service.deadLetters.length > 0)
    const [{ code, topic }] = service.deadLetters
    assert.deepEqual([code, topic], ['JSON_INVALID', 'drivers/d1/position'])
    assert.deepEqual(service.rows('positions'), [])
    assert.deepEqual(service.errors, [])
  } finally {
    await service.stop()
  }
})

test('a mistake is an error', { timeout }, async () => {
  await assert.rejects(startTestPipeline(CONFIG, { tables: { other: { a: 'String' } } }), { code: 'TABLE_NOT_FOUND' })
  const columns = { routes: [{ ...ROUTES[0], columns: { nowhere: 'x' } }] }
  await assert.rejects(startTestPipeline({ ...CONFIG, ...columns }, { tables: TABLES }), { code: 'COLUMN_NOT_FOUND' })
  await assert.rejects(startTestPipeline(/** @type {any} */ ({ ...CONFIG, wrong: 1 }), { tables: TABLES }), { code: 'CONFIG_INVALID', path: 'wrong' })
  const unknown = { t: { a: 'Array(QBit(Float32, 8))' } }
  await assert.rejects(startTestPipeline(CONFIG, { tables: unknown }), { code: 'CONFIG_INVALID', path: 'tables.t.a' })
  await assert.rejects(startTestPipeline(CONFIG, /** @type {any} */ ({})), { code: 'CONFIG_INVALID', path: 'tables' })
  const service = await startTestPipeline(CONFIG, { tables: TABLES })
  try {
    await assert.rejects(service.publish('cars/1/position', {}), /nobody subscribes to cars\/1\/position/)
    assert.throws(() => service.rows('nowhere'), /there is no table nowhere: there are positions/)
  } finally {
    await service.stop()
  }
})

for (const protocolVersion of /** @type {(4 | 5)[]} */ ([4, 5])) {
  test(`a service that makes its pipeline itself, and a client of its own: version ${protocolVersion}`, { timeout }, async () => {
    const own = await startServers({ tables: TABLES })
    const columns = protocolVersion === 5 ? { source: { userProperty: 'from' } } : {}
    const pipeline = new Pipeline({
      mqtt: { ...own.mqtt, protocolVersion, clientId: 'c', sharedGroup: 'g', connections: 2 },
      clickhouse: own.clickhouse,
      batch: { maxDelayMs: 5 },
      routes: [{ ...ROUTES[0], columns }],
    })
    await pipeline.start()
    const client = await connectAsync(own.mqtt.url, { protocolVersion })
    try {
      for (const qos of /** @type {(0 | 1 | 2)[]} */ ([0, 1, 2])) {
        const properties = protocolVersion === 5 ? { userProperties: { from: 'here' } } : undefined
        await client.publishAsync('drivers/d/position', JSON.stringify({ lat: qos }), { qos, properties })
      }
      await waitFor(() => own.rows('positions').length === 3)
      assert.deepEqual(own.rows('positions').map(({ lat }) => lat).sort(), [0, 1, 2])
      if (protocolVersion === 5) assert.ok(own.rows('positions').every(({ source }) => source === 'here'))
      await own.publish('drivers/e/position', { lat: 3 })
      assert.equal(own.rows('positions').length, 4)
    } finally {
      await client.endAsync()
      await pipeline.stop()
      await own.stop()
    }
  })
}

// As JSONEachRow writes them, once 64-bit integers are numbers and times are ISO 8601.
const TYPES = {
  i8: ['Int8', -5],
  u64: ['UInt64', 9_007_199_254_740_991],
  i128: ['Int128', -7],
  f32: ['Float32', 0.5],
  f64: ['Float64', -1e100],
  yes: ['Bool', true],
  text: ['String', 'ä"\n'],
  fixed: ['FixedString(4)', 'abcd'],
  low: ['LowCardinality(String)', 'x'],
  lowNull: ['LowCardinality(Nullable(String))', null],
  none: ['Nullable(UInt8)', null],
  some: ['Nullable(UInt8)', 7],
  kind: ["Enum8('a, b' = 1, 'c' = -2)", 'c'],
  id: ['UUID', '123e4567-e89b-12d3-a456-426614174000'],
  v4: ['IPv4', '10.1.2.3'],
  v6: ['IPv6', '2001:db8::1:0:2'],
  day: ['Date', '2026-02-03'],
  old: ['Date32', '1925-01-02'],
  second: ['DateTime', '2026-02-03T04:05:06Z'],
  milli: ['DateTime64(3)', '1969-12-31T23:59:59.999Z'],
  nano: ["DateTime64(9, 'UTC')", '2026-02-03T04:05:06.123456789Z'],
  money: ['Decimal(9, 2)', -1.25],
  list: ['Array(Array(UInt16))', [[1, 2], [], [3]]],
  nulls: ['Array(Nullable(String))', ['a', null]],
  map: ['Map(String, Array(Int32))', { a: [1], b: [] }],
  named: ['Tuple(x Float64, `y z` String)', { x: 1.5, 'y z': 'q' }],
  plain: ['Tuple(UInt8, String)', [1, 'a']],
  point: ['Point', [1, 2]],
}

test('values of the types of a real ClickHouse come back unchanged', { timeout }, async (t) => {
  const columns = Object.fromEntries(Object.entries(TYPES).map(([name, [type]]) => [name, String(type)]))
  const message = Object.fromEntries(Object.entries(TYPES).map(([name, [, value]]) => [name, value]))
  const routes = [{ topic: 'types', table: 'types' }]
  const service = await startTestPipeline({ routes }, { tables: { types: columns } })
  t.after(() => service.stop())
  for (let i = 0; i < 3; i++) await service.publish('types', /** @type {any} */ (message))
  const expected = { ...message, money: '-1.25' }
  assert.deepEqual(service.deadLetters, [])
  assert.deepEqual(service.rows('types'), [expected, expected, expected])

  // The same messages through the real servers.
  const table = await servers.table(Object.entries(columns).map(([name, type]) => `${name} ${type}`).join(', '), {
    settings: { allow_suspicious_low_cardinality_types: 1 },
  })
  const publisher = await servers.publisher(t)
  const pipeline = servers.pipeline(t, { routes: [{ topic: `types/${table}`, table }] })
  await pipeline.start()
  await publisher.publish(`types/${table}`, message)
  await waitFor(async () => (await servers.count(table)) === 1)
  const [row] = await servers.rows(`SELECT * FROM ${table}`, {
    output_format_json_quote_64bit_integers: 0,
    output_format_json_quote_decimals: 1,
    date_time_output_format: 'iso',
  })
  assert.deepEqual({ ...row, i128: Number(row.i128) }, { ...expected, fixed: row.fixed })
})

test('integers that a number cannot hold are bigints', { timeout }, async () => {
  const service = await startTestPipeline({ routes: [{ topic: 't', table: 't' }] }, { tables: { t: { a: 'UInt64', b: 'Int256' } } })
  try {
    await service.publish('t', `{"a": 18446744073709551615, "b": -${2n ** 200n}}`)
    assert.deepEqual(service.rows('t'), [{ a: 18446744073709551615n, b: -(2n ** 200n) }])
  } finally {
    await service.stop()
  }
})

test('defaults that ClickHouse computes are absent', { timeout }, async () => {
  const tables = { t: { a: "Array(String) DEFAULT ['x']", b: 'Nullable(UInt8) DEFAULT 3', c: 'UInt8', d: 'UInt8 MATERIALIZED c + 1' } }
  const service = await startTestPipeline({ routes: [{ topic: 't', table: 't' }] }, { tables })
  try {
    await service.publish('t', { c: 1 })
    await service.publish('t', { a: [], b: 4, c: 2 })
    assert.deepEqual(service.rows('t'), [{ c: 1 }, { a: [], b: 4, c: 2 }])
  } finally {
    await service.stop()
  }
})
