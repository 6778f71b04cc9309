// schema: 'add-columns': a field that no column takes becomes a column.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Pipeline, checkPipeline } from '../../index.js'
import { externalClickHouse, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

const GROWTH = ['SCHEMA_EXTENDED', 'SCHEMA_FULL', 'SCHEMA_REFUSED']
const about = (warnings) => warnings.filter(({ code }) => GROWTH.includes(code))

/** The columns of a table that were added, with their types. */
async function added(table) {
  const rows = await servers.rows(
    `SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '${table}' AND comment = 'added by millrace' ORDER BY name`,
  )
  return Object.fromEntries(rows.map(({ name, type }) => [name, type]))
}

/** Publishes until a condition holds: a field is looked at 20 times a second at most. */
async function publishUntil(publisher, topic, payload, holds) {
  let sent = 0
  await waitFor(async () => {
    await publisher.publish(topic, JSON.stringify(payload(sent)), { qos: 1 })
    sent++
    return holds()
  })
  return sent
}

test('fields become columns of the types that proposeTable gives, and are filled from then on', { timeout }, async (t) => {
  const table = await servers.table('id String, v UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [{ topic, table, schema: 'add-columns', addColumns: { afterMessages: 4 } }],
  })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t, { clients: 1 })
  const payload = (i) => ({
    id: 'a',
    v: i,
    temperature: 21.5 + i,
    count: i,
    on: i % 2 === 0,
    tags: ['x'],
    gps: { lat: 1.5, lng: 2.5 },
    state: ['idle', 'run'][i % 2],
    'odd `name`\\"': 'x',
    nothing: null,
  })
  const names = ['count', 'gps', 'odd `name`\\"', 'on', 'state', 'tags', 'temperature']
  let sent = await publishUntil(publisher, topic, payload, () => about(warnings).length === names.length)
  assert.deepEqual(about(warnings).map(({ column }) => column).sort(), names)
  assert.ok(about(warnings).every(({ code, table: its, route }) => code === 'SCHEMA_EXTENDED' && its === table && route === 0))
  const types = await added(table)
  assert.deepEqual(Object.keys(types), names)
  assert.equal(types.temperature, 'Nullable(Float64)')
  assert.equal(types.count, 'Nullable(Int64)')
  assert.equal(types.on, 'Nullable(Bool)')
  assert.equal(types.state, 'LowCardinality(Nullable(String))')
  assert.equal(types.tags, 'Array(LowCardinality(String))')
  assert.equal(types.gps, 'JSON')
  // Later messages have their values there, as soon as the change is noticed.
  sent += await publishUntil(publisher, topic, (i) => payload(1000 + i), async () => {
    const [{ rows }] = await servers.rows(`SELECT count() AS rows FROM ${table} WHERE temperature > 1000 AND count >= 1000 AND tags = ['x'] AND state IS NOT NULL`)
    return Number(rows) > 0
  })
  await settled(pipeline, sent)
  assert.equal(await servers.count(table), sent)
  // The type of a field with NULL alone is not known.
  assert.ok(!('nothing' in types))
  assert.equal(pipeline.metrics().messages.deadLettered, 0)
})

test('a field that a route reads, or has by another name, gets no column', { timeout }, async (t) => {
  const table = await servers.table('id String, lat Float64, tenant String, first Nullable(UInt8), up UInt8 MATERIALIZED 1')
  const prefix = unique('topic')
  const columns = {
    lat: 'gps.lat',
    tenant: { lookup: 'tenants', key: 'serial', default: '' },
    first: ['one', 'uno'],
  }
  const pipeline = servers.pipeline(t, {
    routes: [{ topic: `${prefix}/{id}/{kind}`, table, columns, where: { path: 'quality', ge: 0 }, schema: 'add-columns', addColumns: { afterMessages: 3 } }],
  })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  const payload = () => ({ gps: { lat: 1, alt: 2 }, serial: 's', uno: 1, quality: 5, kind: 'k', up: 7, fresh: 'new' })
  await publishUntil(publisher, `${prefix}/a/b`, payload, () => about(warnings).length > 0)
  assert.deepEqual(await added(table), { fresh: 'Nullable(String)' })
})

test('rows within a payload and other formats grow a table too', { timeout }, async (t) => {
  const table = await servers.table('v UInt32')
  const csv = await servers.table('v UInt32')
  const topic = unique('topic')
  const add = { schema: 'add-columns', addColumns: { afterMessages: 3 } }
  const pipeline = await servers.started(t, {
    routes: [
      { topic: `${topic}/json`, table, rows: 'readings', ...add },
      { topic: `${topic}/csv`, table: csv, format: { type: 'csv', columns: ['v', 'level', 'unit'] }, ...add },
    ],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  await waitFor(async () => {
    await publisher.publish(`${topic}/json`, '{"gateway":"g","readings":[{"v":1},{"v":2,"level":1.5}]}', { qos: 1 })
    await publisher.publish(`${topic}/csv`, '1,2.5,bar\n', { qos: 1 })
    const [one, other] = [await added(table), await added(csv)]
    return 'level' in one && 'gateway' in one && 'unit' in other && 'level' in other
  })
  assert.deepEqual(await added(table), { gateway: 'LowCardinality(Nullable(String))', level: 'Nullable(Float64)' })
  assert.deepEqual(await added(csv), { level: 'Nullable(Float64)', unit: 'Nullable(String)' })
})

test('a table gets no more columns than it may, over all processes', { timeout }, async (t) => {
  const table = await servers.table('v UInt32')
  const topic = unique('topic')
  const route = { topic, table, schema: 'add-columns', addColumns: { afterMessages: 2, maxColumns: 3 } }
  const [one, other] = [await servers.started(t, { routes: [route] }), await servers.started(t, { routes: [route] })]
  const [warnings, others] = [collect(one, 'warning'), collect(other, 'warning')]
  const publisher = await servers.publisher(t, { clients: 1 })
  const full = (all) => about(all).some(({ code }) => code === 'SCHEMA_FULL')
  const payload = (i) => ({ v: i, [`field${i % 8}`]: i })
  const sent = await publishUntil(publisher, topic, payload, () => full(warnings) && full(others))
  const columns = Object.keys(await added(table))
  // Both may add one at the same moment.
  assert.ok(columns.length >= 3 && columns.length <= 4, columns.join())
  const made = [...about(warnings), ...about(others)].filter(({ code }) => code === 'SCHEMA_EXTENDED').map(({ column }) => column)
  assert.deepEqual([...new Set(made)].sort(), columns)
  await Promise.all([settled(one, sent), settled(other, sent)])
  assert.deepEqual([warnings, others].map((all) => about(all).filter(({ code }) => code === 'SCHEMA_FULL').length), [1, 1])
})

test('a refused ALTER is one warning, and messages go on', { timeout, skip: externalClickHouse }, async (t) => {
  const clickhouse = await startClickHouse({ users: { reader: { password: 'p', grants: { query: ['GRANT INSERT, SELECT ON default.readings'] } } } })
  t.after(() => clickhouse.remove())
  await clickhouse.command('CREATE TABLE readings (v UInt32) ENGINE = MergeTree ORDER BY v')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    clickhouse: { url: clickhouse.url, database: 'default', username: 'reader', password: 'p' },
    routes: [{ topic, table: 'readings', schema: 'add-columns', addColumns: { afterMessages: 2 } }],
  })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t, { clients: 1 })
  let sent = await publishUntil(publisher, topic, (v) => ({ v, x: 1, y: 2 }), () => about(warnings).length > 0)
  const [{ code, column, reason, errorCode }] = about(warnings)
  assert.deepEqual([code, errorCode], ['SCHEMA_REFUSED', 'CLICKHOUSE_REJECTED'])
  assert.ok(['x', 'y'].includes(column))
  assert.match(reason, /ACCESS_DENIED|Not enough privileges/)
  for (let i = 0; i < 30; i++) await publisher.publish(topic, `{"v":${i},"x":1,"y":2}`, { qos: 1 })
  sent += 30
  await settled(pipeline, sent)
  assert.equal(about(warnings).length, 1)
  const columns = await clickhouse.query("SELECT name FROM system.columns WHERE table = 'readings'")
  assert.deepEqual(columns, [{ name: 'v' }])
  assert.equal(pipeline.metrics().messages.inserted, sent)
})

test('options that exclude each other are refused', () => {
  const config = (route) => ({
    mqtt: { url: 'mqtt://x' },
    clickhouse: { url: 'http://x' },
    routes: [{ topic: 't', table: 't', ...route }],
  })
  /** @type {[any, string, RegExp][]} */
  const cases = [
    [{ schema: 'grow' }, 'routes[0].schema', /one of 'fixed', 'add-columns'/],
    [{ addColumns: {} }, 'routes[0].addColumns', /is for schema: 'add-columns'/],
    [{ schema: 'fixed', addColumns: { maxColumns: 1 } }, 'routes[0].addColumns', /is for schema: 'add-columns'/],
    [{ schema: 'add-columns', unknownFields: 'reject' }, 'routes[0].schema', /exclude each other/],
    [{ schema: 'add-columns', addColumns: { afterMessages: 0 } }, 'routes[0].addColumns.afterMessages', /from 1 to 100000/],
    [{ schema: 'add-columns', addColumns: { max: 1 } }, 'routes[0].addColumns.max', /is not an option/],
  ]
  for (const [route, path, message] of cases) {
    assert.throws(
      () => new Pipeline(config(route)),
      (/** @type {any} */ error) => error.code === 'CONFIG_INVALID' && error.path === path && message.test(error.message),
      path,
    )
  }
})

test('a route that is added while the pipeline runs grows its table too', { timeout }, async (t) => {
  const [table, grown] = [await servers.table('id String'), await servers.table('id String')]
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic: unique('topic'), table }] })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t, { clients: 1 })
  const { routes } = await checkPipeline(servers.config({ routes: [{ topic, table: grown, schema: 'add-columns' }] }))
  assert.deepEqual(routes[0].rules, ['schema: a field that no column takes becomes a column after 20 sampled messages, 100 columns at most'])
  const route = await pipeline.addRoute({ topic, table: grown, schema: 'add-columns', addColumns: { afterMessages: 2 } })
  await publishUntil(publisher, topic, (i) => ({ id: 'a', level: i }), () => about(warnings).length === 1)
  const [{ code, column, route: its }] = about(warnings)
  assert.deepEqual([code, column, its], ['SCHEMA_EXTENDED', 'level', route])
  assert.deepEqual(Object.keys(await added(grown)), ['level'])
  assert.deepEqual(await added(table), {})
})
