// decode() of millrace/testing: what becomes of one message, without servers. Its rows are compared with those of a test pipeline,
// the columns of CREATE TABLE statements with those that a real ClickHouse describes, and the programs of docs/testing.md are run.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createdTables } from '../../lib/native.js'
import { decode, startTestPipeline } from '../../testing.js'
import { unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

const POSITIONS = `CREATE TABLE fleet.positions
(
  driver_id String,
  lat Float64,
  at Nullable(DateTime64(3)),
  source String DEFAULT 'gps'
)
ENGINE = MergeTree ORDER BY driver_id`
const ALERTS = "CREATE TABLE alerts (driver_id String, kind Enum8('speeding' = 1), at DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY at"
const ROUTE = { topic: 'drivers/{driver_id}/position', table: 'positions' }
const CONFIG = { clickhouse: { database: 'fleet' }, routes: [ROUTE] }
const topic = 'drivers/d1/position'

/** A configuration whose route has further options. */
const routed = (/** @type {any} */ options) => ({ ...CONFIG, routes: [{ ...ROUTE, ...options }] })

for (const [at, [, text]] of [...readFileSync(new URL('../../docs/testing.md', import.meta.url), 'utf8').matchAll(/^```js\n([^]*?)^```$/gm)].entries()) {
  const body = text.replace(/^import .*\n/gm, '')
  /** @type {[string, () => Promise<void>][]} */
  const found = []
  new Function('assert', 'decode', 'startTestPipeline', 'test', body)(assert, decode, startTestPipeline, (name, run) => found.push([name, run]))
  assert.ok(found.length > 0)
  for (const [name, run] of found) test(`docs/testing.md, program ${at + 1}: ${name}`, { timeout }, run)
}

test('a message is a row, a dead letter, dropped or skipped', { timeout }, async () => {
  const inserted = await decode(CONFIG, POSITIONS, { topic, payload: { lat: 52.5, at: '2026-01-02T03:04:05.678Z' } })
  assert.deepEqual(inserted, {
    outcome: 'inserted',
    rows: { positions: [{ driver_id: 'd1', lat: 52.5, at: '2026-01-02T03:04:05.678Z' }] },
    deadLetters: [],
    warnings: [],
  })
  const receivedAt = new Date('2026-01-02T03:04:05.678Z')
  const { outcome, rows, deadLetters } = await decode(CONFIG, POSITIONS, { topic, payload: 'no JSON', receivedAt })
  assert.deepEqual([outcome, rows], ['deadLettered', {}])
  const [{ message, ...letter }] = deadLetters
  assert.deepEqual(letter, { receivedAt, route: 0, topic, payload: Buffer.from('no JSON'), code: 'JSON_INVALID' })
  assert.ok(message.length > 0)
  const nowhere = await decode(CONFIG, POSITIONS, { topic: 'cars/1', payload: {} })
  assert.deepEqual(nowhere.deadLetters.map(({ code, route }) => [code, route]), [['NO_ROUTE', -1]])
  const dropped = await decode(routed({ where: { path: 'lat', gt: 1 } }), POSITIONS, { topic, payload: { lat: 0 } })
  assert.deepEqual([dropped.outcome, dropped.rows], ['dropped', {}])
  const skipped = await decode({ ...CONFIG, mqtt: { retained: 'skip' } }, POSITIONS, { topic, payload: { lat: 0 }, retain: true })
  assert.equal(skipped.outcome, 'skipped')
  const empty = await decode(routed({ rows: '$' }), POSITIONS, { topic, payload: [] })
  assert.deepEqual([empty.outcome, empty.rows], ['inserted', {}])
})

test('properties of a message beside its payload can be columns', { timeout }, async () => {
  const columns = {
    source: { userProperty: 'from' },
    at: { meta: 'receivedAt' },
    lat: { meta: 'qos' },
    driver_id: { meta: 'clientId' },
  }
  const message = { topic, payload: Buffer.from('{}'), qos: /** @type {2} */ (2), receivedAt: new Date(1_700_000_000_123), userProperties: { from: ['here', 'there'] } }
  const { rows } = await decode({ ...routed({ columns }), mqtt: { clientId: 'fleet-1' } }, POSITIONS, message)
  assert.deepEqual(rows.positions, [{ driver_id: 'fleet-1', lat: 2, at: '2023-11-14T22:13:20.123Z', source: 'here' }])
})

test('several routes take a message, and rows have their own tables', { timeout }, async () => {
  /** @type {any[]} */
  const routes = [
    { ...ROUTE, continue: true },
    { topic: 'drivers/+/{kind}', table: 'alerts', continue: true },
    { topic: 'drivers/#', table: 'raw', columns: { text: { meta: 'payload' } } },
  ]
  const schema = [POSITIONS, `${ALERTS}; CREATE TABLE raw (text String) ENGINE = Null`]
  const result = await decode({ ...CONFIG, routes }, schema, { topic, payload: '{"lat": 1, "driver_id": "d1"}' })
  assert.deepEqual(result.rows, {
    positions: [{ driver_id: 'd1', lat: 1, at: null }],
    raw: [{ text: '{"lat": 1, "driver_id": "d1"}' }],
  })
  assert.deepEqual(result.deadLetters.map(({ code, route }) => [code, route]), [['TYPE_MISMATCH', 1]])
})

test('a transform is called, and what it throws is a warning', { timeout }, async () => {
  const transform = async (/** @type {any} */ batch) => {
    await null
    for (let row = 0; row < batch.length; row++) {
      const lat = batch.columns.lat.get(row)
      if (lat === 0) batch.drop(row)
      else if (lat > 90) batch.reject(row, 'beyond the pole')
      else if (lat < -90) throw new Error('what was that')
      else batch.emit('alerts', { driver_id: batch.columns.driver_id.get(row), kind: 'speeding' })
      batch.columns.lat.set(row, lat * 2)
    }
  }
  const config = routed({ transform, emits: ['alerts'] })
  const become = (/** @type {number} */ lat) => decode(config, [POSITIONS, ALERTS], { topic, payload: { lat } })
  assert.deepEqual((await become(10)).rows, {
    positions: [{ driver_id: 'd1', lat: 20, at: null }],
    alerts: [{ driver_id: 'd1', kind: 'speeding' }],
  })
  assert.equal((await become(0)).outcome, 'dropped')
  const [rejected] = (await become(91)).deadLetters
  assert.deepEqual([rejected.code, rejected.message], ['REJECTED_BY_TRANSFORM', 'beyond the pole'])
  const thrown = await become(-91)
  assert.deepEqual(thrown.deadLetters.map(({ code }) => code), ['TRANSFORM_FAILED'])
  const [warning] = thrown.warnings
  assert.equal(warning.code, 'TRANSFORM_FAILED')
  assert.match(String(warning.stack), /decode\.test\.mjs/)
})

test('a module transforms in its own thread', { timeout }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const module = join(folder, 'double.mjs')
  writeFileSync(module, 'export default (batch) => { for (let i = 0; i < batch.length; i++) batch.columns.lat.values[i] *= 2 }')
  const { rows } = await decode(routed({ transform: module }), POSITIONS, { topic, payload: { lat: 3 } })
  assert.deepEqual(rows.positions, [{ driver_id: 'd1', lat: 6, at: null }])
})

test('rows have the values that a test pipeline has', { timeout }, async (t) => {
  const columns = {
    u64: 'UInt64', i128: 'Int128', f32: 'Float32', nan: 'Float64', yes: 'Bool', fixed: 'FixedString(4)', low: 'LowCardinality(Nullable(String))',
    kind: "Enum8('a, b' = 1, 'c' = -2)", id: 'UUID', v6: 'IPv6', day: 'Date32', second: 'DateTime', nano: "DateTime64(9, 'Europe/Berlin')",
    money: 'Decimal(9, 2)', list: 'Array(Array(UInt64))', map: 'Map(String, Array(Int64))', named: 'Tuple(x Float64, `y z` UInt64)',
    plain: 'Tuple(UInt8, String)', point: 'Point', any: 'Variant(UInt64, String)', clock: 'Time64(3)', left: "Array(String) DEFAULT ['x']",
    none: 'Nullable(UInt8) DEFAULT 3', given: 'UInt8 DEFAULT 3',
  }
  const payload = `{"u64": 18446744073709551615, "i128": -7, "f32": 90.4, "nan": null, "yes": true, "fixed": "abc", "low": null, "kind": "c",
    "id": "123e4567-e89b-12d3-a456-426614174000", "v6": "2001:db8::1:0:2", "day": "1925-01-02", "second": "2026-02-03T04:05:06Z",
    "nano": "2026-02-03T04:05:06.123456789Z", "money": -1.25, "list": [[1, 18446744073709551615], []], "map": {"a": [1], "b": []},
    "named": {"x": 1.5, "y z": 9007199254740993}, "plain": [1, "a"], "point": [1, 2], "any": 7, "clock": "-01:02:03.004", "given": 4}`
  const routes = [{ topic: 'types', table: 'types', columns: { nan: { path: 'nan', default: 'NaN' } }, nan: 'value' }]
  const list = Object.entries(columns).map(([name, type]) => `${name} ${type}`).join(', ')
  const schema = `CREATE TABLE types (${list}) ENGINE = MergeTree ORDER BY tuple()`
  const { rows, deadLetters } = await decode(/** @type {any} */ ({ routes }), schema, { topic: 'types', payload })
  assert.deepEqual(deadLetters, [])
  const [row] = rows.types
  assert.deepEqual(Object.keys(row), Object.keys(columns).filter((name) => name !== 'left' && name !== 'none'), 'in the order of the table')
  const { u64, i128, f32, nano, money, named } = row
  assert.deepEqual([u64, i128, f32, money], [18446744073709551615n, -7, 90.4, '-1.25'])
  assert.deepEqual([nano, named], ['2026-02-03T04:05:06.123456789Z', { x: 1.5, 'y z': 9007199254740993n }])
  const service = await startTestPipeline(/** @type {any} */ ({ routes }), { tables: schema })
  t.after(() => service.stop())
  await service.publish('types', payload)
  assert.deepEqual(service.deadLetters, [])
  assert.deepEqual(rows.types, service.rows('types'))
})

test('JSON columns are objects, and a time zone is that of the options', { timeout }, async () => {
  const schema = 'CREATE TABLE t (doc JSON, any Dynamic, at DateTime)'
  const config = { routes: [{ topic: 't', table: 't', columns: { doc: '$', any: 'n' } }] }
  const message = { topic: 't', payload: { n: 1, s: { t: [1, 'x'] }, at: '2026-07-01 12:00:00' } }
  const utc = await decode(config, schema, message)
  assert.deepEqual(utc.rows.t, [{ doc: { n: 1, s: { t: [1, 'x'] }, at: '2026-07-01 12:00:00' }, any: 1, at: '2026-07-01T12:00:00Z' }])
  const berlin = await decode(config, schema, message, { timezone: 'Europe/Berlin' })
  assert.equal(berlin.rows.t[0].at, '2026-07-01T10:00:00Z')
})

test('mistakes are errors with a code and a place', { timeout }, async () => {
  const message = { topic, payload: {} }
  const fails = (config, schema, given, expected) => assert.rejects(decode(config, schema, given), expected)
  await fails(CONFIG, 'CREATE TABLE t (\n  a uint8)', message, { code: 'SCHEMA_INVALID', path: 'schema', message: 'schema: line 2, column 5: uint8 is no type: it is written UInt8' })
  await fails(CONFIG, [POSITIONS, 'x'], message, { code: 'SCHEMA_INVALID', path: 'schema[1]' })
  await fails(CONFIG, ALERTS, message, { code: 'TABLE_NOT_FOUND', path: 'routes[0].table' })
  await fails(CONFIG, 'CREATE TABLE other.positions (lat UInt8)', message, { code: 'TABLE_NOT_FOUND' })
  await fails(routed({ columns: { nowhere: 'x' } }), POSITIONS, message, { code: 'COLUMN_NOT_FOUND', path: 'routes[0].columns.nowhere' })
  await fails(CONFIG, 'CREATE TABLE positions (a Strange(1))', message, { code: 'COLUMN_UNSUPPORTED' })
  await fails({ ...CONFIG, wrong: 1 }, POSITIONS, message, { code: 'CONFIG_INVALID', path: 'wrong' })
  await fails(CONFIG, 7, message, { code: 'CONFIG_INVALID', path: 'schema' })
  await fails(CONFIG, POSITIONS, { topic: 'a/+', payload: {} }, { code: 'CONFIG_INVALID', path: 'message.topic' })
  await fails(CONFIG, POSITIONS, { topic }, { code: 'CONFIG_INVALID', path: 'message.payload' })
  await fails(CONFIG, POSITIONS, { topic, payload: {}, qo: 1 }, { code: 'CONFIG_INVALID', path: 'message.qo' })
  await fails(CONFIG, POSITIONS, { topic, payload: {}, receivedAt: 5 }, { code: 'CONFIG_INVALID', path: 'message.receivedAt' })
  await fails(routed({ transform: './nowhere.mjs' }), POSITIONS, message, { code: 'TRANSFORM_INVALID' })
})

// Columns as people write them.
const STATEMENTS = [
  "a String DEFAULT 'x' COMMENT 'c, d' CODEC(ZSTD(1)), d String CODEC(NONE), c UInt8 EPHEMERAL, e UInt8 EPHEMERAL 3 COMMENT 'x', f String ALIAS a",
  'a text, b Json, c bool, d TIMESTAMP, e date, g FLOAT, h REAL, i UUID, k inet6, l Time64, m varchar(255), n INT(11) UNSIGNED, o DOUBLE PRECISION',
  "a Decimal(10), b Decimal32(3), c Decimal256(2), d DateTime('UTC'), e DateTime64, f Nested(x UInt8, `y z` String), g Enum('k' = 300), h Decimal, i DateTime32",
  "a Enum8('a','b'), b Enum('a' = 2, 'b'), c Enum8('it\\'s' = 1, 'a,b' = 2), d Enum8('q' = -3, 'b' = 1)",
  'a Tuple(x UInt8, y Tuple(String, Int8)), b Map(String,Array(Nullable( UInt64 ))), c Variant(UInt8, String, Array(String)), d Dynamic(max_types=4), e Point',
  'a JSON(max_dynamic_paths=8, a.b UInt32, SKIP c), b Array(LowCardinality(String)), c BINARY(4), d DateTime64(3) NULL, e UInt8 NOT NULL DEFAULT 1',
  '"a b" UInt8, `c``d` UInt8, `e\\`f` UInt8, `n.z` Array(UInt8), primary UInt8, comment String DEFAULT ttl, ttl String, default UInt8 DEFAULT 1 NULL',
  'a UInt8, CONSTRAINT c CHECK a > 0, INDEX i (a, b) TYPE bloom_filter(0.1) GRANULARITY 1, PROJECTION p (SELECT a ORDER BY a), b DateTime TTL b + INTERVAL 1 DAY',
  'a UInt8 DEFAULT if(1 > 0, 2, 3), b Bool DEFAULT a IS NOT NULL, c Array(UInt8) DEFAULT [1, 2], d UInt8 DEFAULT CAST(1 AS UInt8), e UInt8 MATERIALIZED 1 + 1 # it\'s\n',
]

test('columns are those that ClickHouse describes', { timeout }, async () => {
  for (const list of STATEMENTS) {
    const table = unique('created')
    const statement = `CREATE TABLE ${table} (${list}) ENGINE = MergeTree ORDER BY tuple()`
    await servers.command(statement)
    const described = await servers.rows(`SELECT name, type, default_kind FROM system.columns WHERE database = currentDatabase() AND table = '${table}' ORDER BY position`)
    const [{ statement: printed }] = await servers.rows(`SHOW CREATE TABLE ${table}`)
    for (const text of [statement, printed]) {
      const [{ columns }] = createdTables('schema', text)
      assert.deepEqual(columns.map(({ name, type, default_kind }) => ({ name, type, default_kind })), described, text)
    }
  }
})
