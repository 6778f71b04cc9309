// pipeline.lookup(): maps of the program's that columns are filled from.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPipeline, describeTables, Pipeline, replayDeadLetters } from '../../index.js'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

const tenant = { lookup: 'tenants', key: 'device_id', field: 'tenant' }

function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-lookup-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

test('columns are filled from the map that is set, also while it runs', { timeout }, async (t) => {
  const table = await servers.table('device_id LowCardinality(String), v UInt32, tenant String, quota Nullable(UInt64), since Nullable(DateTime)')
  const prefix = unique('topic')
  const columns = { tenant: { ...tenant, default: 'nobody' }, quota: { ...tenant, field: 'quota' }, since: { ...tenant, field: 'since' } }
  const pipeline = servers.pipeline(t, { routes: [{ topic: `${prefix}/{device_id}`, table, columns }] })
  const warnings = collect(pipeline, 'warning')
  const entries = new Map(/** @type {[any, any][]} */ ([
    ['a', { tenant: 'acme', quota: 18_446_744_073_709_551_615n, since: new Date('2026-11-30T12:00:00Z') }],
    [7, { tenant: '7 "seven" ü', quota: undefined }],
  ]))
  // Before it starts.
  pipeline.lookup('tenants', entries)
  entries.set('b', { tenant: 'not copied' })
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const device of ['a', '7', 'b']) await publisher.publish(`${prefix}/${device}`, '{"v":1}', { qos: 1 })
  await settled(pipeline, 3)
  pipeline.lookup('tenants', { a: { tenant: 'other' }, b: { tenant: 'new' } })
  for (const device of ['a', '7', 'b']) await publisher.publish(`${prefix}/${device}`, '{"v":2}', { qos: 1 })
  await settled(pipeline, 6)
  assert.deepEqual(await servers.rows(`SELECT v, device_id, tenant, quota, since FROM ${table} ORDER BY v, device_id`), [
    { v: 1, device_id: '7', tenant: '7 "seven" ü', quota: null, since: null },
    { v: 1, device_id: 'a', tenant: 'acme', quota: '18446744073709551615', since: '2026-11-30 12:00:00' },
    { v: 1, device_id: 'b', tenant: 'nobody', quota: null, since: null },
    { v: 2, device_id: '7', tenant: 'nobody', quota: null, since: null },
    { v: 2, device_id: 'a', tenant: 'other', quota: null, since: null },
    { v: 2, device_id: 'b', tenant: 'new', quota: null, since: null },
  ])
  const { lookups, memoryBytes } = pipeline.metrics()
  assert.deepEqual(Object.keys(lookups), ['tenants'])
  assert.equal(lookups.tenants.entries, 2)
  assert.ok(lookups.tenants.bytes > 20 && memoryBytes >= lookups.tenants.bytes)
  // Three columns read the map.
  assert.equal(lookups.tenants.misses, 6)
  const text = pipeline.prometheus()
  assert.match(text, /millrace_lookup_entries\{[^}]*lookup="tenants"\} 2\n/)
  assert.match(text, /millrace_lookup_misses_total\{[^}]*lookup="tenants"\} 6\n/)
  const unknown = warnings.filter(({ code }) => code === 'LOOKUP_FIELD_UNKNOWN')
  assert.deepEqual(unknown.map(({ lookup, path }) => [lookup, path]), [['tenants', 'quota'], ['tenants', 'since']])
})

test('a lookup without a map warns, and rows take what they take without a value', { timeout }, async (t) => {
  const table = await servers.table("device_id String, tenant String DEFAULT upper(device_id), class UInt8")
  const topic = unique('topic')
  const columns = { tenant, class: { lookup: 'classes', key: 'device_id' } }
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, columns }] })
  const [warnings, letters] = [collect(pipeline, 'warning'), collect(pipeline, 'deadLetters')]
  await pipeline.start()
  assert.deepEqual(warnings.filter(({ code }) => code === 'LOOKUP_UNSET').map(({ lookup }) => lookup).sort(), ['classes', 'tenants'])
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(topic, '{"device_id":"a"}', { qos: 1 })
  await settled(pipeline, 1)
  pipeline.lookup('classes', { a: 3 })
  await publisher.publish(topic, '{"device_id":"a"}', { qos: 1 })
  await settled(pipeline, 2)
  await heard(pipeline, letters)
  assert.deepEqual(letters.map(({ code, message }) => [code, message]), [
    ['FIELD_MISSING', 'column class: is required, and the lookup classes has nothing for it'],
  ])
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ device_id: 'a', tenant: 'A', class: 3 }])
})

test('rows go through the spool and through transforms with their keys', { timeout }, async (t) => {
  const table = await servers.table('v UInt32, tenant String, twice String')
  const prefix = unique('topic')
  const source = { lookup: 'tenants', key: 'meta.device', field: 'tenant', default: '-' }
  const seen = new Set()
  const transform = (batch) => {
    for (const name of Object.keys(batch.columns)) seen.add(name)
    const { tenant, inTransform, twice } = batch.columns
    for (let row = 0; row < batch.length; row++) twice.set(row, `${tenant.get(row)} ${batch.inputs?.inTransform?.get(row) ?? inTransform?.get(row)}`)
  }
  const route = { table, columns: { tenant: source, twice: { computed: true } }, transform, inputs: { inTransform: { ...source, type: 'String' } } }
  const plain = { table, columns: { tenant: source, twice: { value: 'plain' } } }
  const pipeline = servers.pipeline(t, {
    routes: [{ topic: `${prefix}/transform`, ...route }, { topic: `${prefix}/plain`, ...plain }],
    spool: { dir: directory(t) },
  })
  pipeline.lookup('tenants', { d: { tenant: 'acme' } })
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(2_000, (i) => ({
    topic: `${prefix}/${i % 2 ? 'plain' : 'transform'}`,
    payload: JSON.stringify({ v: i, meta: { device: i % 3 ? 'd' : 'x' } }),
  }))
  await settled(pipeline, 2_000)
  await pipeline.flush()
  const rows = await servers.rows(`SELECT tenant, twice, count() AS rows FROM ${table} GROUP BY ALL ORDER BY ALL`)
  assert.deepEqual(rows, [
    { tenant: '-', twice: '- -', rows: '334' },
    { tenant: '-', twice: 'plain', rows: '333' },
    { tenant: 'acme', twice: 'acme acme', rows: '666' },
    { tenant: 'acme', twice: 'plain', rows: '667' },
  ])
  assert.ok(![...seen].some((name) => name.includes('key')), [...seen].join())
})

test('rows that are decoded again have their values', { timeout }, async (t) => {
  const table = await servers.table('device_id String, v UInt32, tenant String, CONSTRAINT small CHECK v < 100')
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, columns: { tenant: { ...tenant, key: 'serial' } } }] })
  const letters = collect(pipeline, 'deadLetters')
  pipeline.lookup('tenants', { s: { tenant: 'acme' } })
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  const send = (from) => publisher.flood(20, (i) => ({ topic, payload: JSON.stringify({ device_id: `d${i}`, serial: 's', v: i === 7 ? 100 : from + i }) }))
  // ClickHouse refuses one row; then the table changes below the open batch.
  await send(0)
  await settled(pipeline, 20)
  await servers.command(`ALTER TABLE ${table} ADD COLUMN more UInt8 DEFAULT 5 FIRST`)
  await send(50)
  await settled(pipeline, 40)
  await heard(pipeline, letters)
  assert.deepEqual(letters.map(({ code }) => code), ['REJECTED_BY_CLICKHOUSE', 'REJECTED_BY_CLICKHOUSE'])
  assert.deepEqual(await servers.rows(`SELECT tenant, more, count() AS rows FROM ${table} GROUP BY ALL`), [{ tenant: 'acme', more: 5, rows: '38' }])
})

test('a configuration can bring maps along, and so can a replay', { timeout }, async (t) => {
  const table = await servers.table('device_id String, tenant String, class UInt8')
  const topic = unique('topic')
  const dir = directory(t)
  const file = join(dir, 'tenants.json')
  writeFileSync(file, JSON.stringify({ a: { tenant: 'from a file' } }))
  const columns = { tenant, class: { lookup: 'classes', key: 'device_id' } }
  const config = servers.config({
    routes: [{ topic, table, columns }],
    lookups: { tenants: { file }, classes: { entries: { a: 4, b: 5 } } },
    deadLetters: { dir: join(dir, 'letters') },
  })
  const report = await checkPipeline(config)
  const sources = report.routes[0].columns.map(({ name, source, missing }) => [name, source, missing])
  assert.deepEqual(sources.slice(1), [
    ['tenant', 'tenant of the lookup tenants, by field device_id', 'a dead letter'],
    ['class', 'the lookup classes, by field device_id', 'a dead letter'],
  ])
  assert.match(await describeTables(config), /Not from the payload: tenant \(the lookup tenants\), class \(the lookup classes\)/)
  const pipeline = await servers.started(t, config)
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(topic, '{"device_id":"a"}', { qos: 1 })
  await publisher.publish(topic, '{"device_id":"b"}', { qos: 1 })
  await settled(pipeline, 2)
  await pipeline.stop()
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ device_id: 'a', tenant: 'from a file', class: 4 }])
  const replayed = { ...config, lookups: { ...config.lookups, tenants: { entries: { b: { tenant: 'from a replay' } } } } }
  await replayDeadLetters(replayed, { dir: join(dir, 'letters') })
  assert.deepEqual((await servers.rows(`SELECT tenant, class FROM ${table} ORDER BY class`)).at(-1), { tenant: 'from a replay', class: 5 })
})

test('anything but a map is refused with its place, and changes nothing', { timeout }, async (t) => {
  const table = await servers.table('device_id String, tenant String')
  const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table, columns: { tenant } }], memory: { maxBytes: 4 << 20 }, mqtt: { maxPacketBytes: 65536 } })
  pipeline.lookup('tenants', { a: { tenant: 'acme' } })
  /** @type {[any, any, string, string][]} */
  const cases = [
    [7, {}, 'CONFIG_INVALID', 'name'],
    ['tenant', {}, 'CONFIG_INVALID', 'name'],
    ['tenants', undefined, 'CONFIG_INVALID', 'map'],
    ['tenants', null, 'CONFIG_INVALID', 'map'],
    ['tenants', [], 'CONFIG_INVALID', 'map'],
    ['tenants', new Map([[{}, 1]]), 'CONFIG_INVALID', 'map'],
    ['tenants', { a: [1] }, 'CONFIG_INVALID', 'map["a"]'],
    ['tenants', { a: { tenant: {} } }, 'CONFIG_INVALID', 'map["a"].tenant'],
    ['tenants', { a: { tenant: () => {} } }, 'CONFIG_INVALID', 'map["a"].tenant'],
    ['tenants', { a: NaN }, 'CONFIG_INVALID', 'map["a"]'],
    ['tenants', { a: new Date(NaN) }, 'CONFIG_INVALID', 'map["a"]'],
    ['tenants', { a: '\ud800' }, 'CONFIG_INVALID', 'map["a"]'],
  ]
  for (const [name, map, code, path] of cases) {
    assert.throws(() => pipeline.lookup(name, map), (/** @type {any} */ error) => error.code === code && error.path === path, `${name} ${path}`)
  }
  const large = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`device ${i}`, { tenant: 'x'.repeat(50) }]))
  assert.throws(() => pipeline.lookup('tenants', large), { code: 'LOOKUP_TOO_LARGE' })
  assert.equal(pipeline.metrics().lookups.tenants.entries, 1)
})

test('configurations that name lookups wrongly are refused', () => {
  const config = (source, more = {}) => ({
    mqtt: { url: 'mqtt://x' },
    clickhouse: { url: 'http://x' },
    routes: [{ topic: 't/{id}', table: 't', columns: { c: source } }],
    ...more,
  })
  /** @type {[any, any, string, RegExp][]} */
  const cases = [
    [{ lookup: 'l' }, {}, 'routes[0].columns.c.key', /is required/],
    [{ lookup: '', key: 'a' }, {}, 'routes[0].columns.c.lookup', /must not be empty/],
    [{ lookup: 'l', key: 'a[' }, {}, 'routes[0].columns.c.key', /in the path "a\["/],
    [{ lookup: 'l', key: 'a[*]' }, {}, 'routes[0].columns.c.key', /is for rows/],
    [{ lookup: 'l', key: { topic: 'nope' } }, {}, 'routes[0].columns.c.key.topic', /has no \{nope\}/],
    [{ lookup: 'l', key: { meta: 'qos' } }, {}, 'routes[0].columns.c.key.meta', /one of 'topic', 'clientId'/],
    [{ lookup: 'l', key: { value: 1 } }, {}, 'routes[0].columns.c.key', /must be a string or/],
    [{ lookup: 'l', key: 'a', feild: 'x' }, {}, 'routes[0].columns.c.feild', /did you mean field/],
    [{ lookup: 'l', key: 'a' }, { lookups: { m: { entries: {} } } }, 'lookups.m', /no column is filled from it/],
    [{ lookup: 'l', key: 'a' }, { lookups: { l: {} } }, 'lookups.l', /must have one of file, entries/],
    [{ lookup: 'l', key: 'a' }, { lookups: { l: { file: '/nowhere.json' } } }, 'lookups.l.file', /cannot be read/],
    [{ lookup: 'l', key: 'a' }, { lookups: { l: { file: Buffer.from('{') } } }, 'lookups.l.file', /is not JSON/],
    [{ lookup: 'l', key: 'a' }, { lookups: { l: { entries: { k: [] } } } }, 'lookups.l.entries["k"]', /must be a text/],
  ]
  for (const [source, more, path, message] of cases) {
    assert.throws(
      () => new Pipeline(config(source, more)),
      (/** @type {any} */ error) => error.code === 'CONFIG_INVALID' && error.path === path && message.test(error.message),
      `${path} ${message}`,
    )
  }
})
