// Configurations that lose data without an error elsewhere: each is refused, warned of, or does what was meant.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPipeline } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

/** A pipeline for one table that has taken these messages: its dead letters and warnings. */
async function after(t, table, messages, options = {}) {
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, ...options }] })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t)
  await publisher.flood(messages.length, (i) => ({ topic, payload: JSON.stringify(messages[i]) }))
  await settled(pipeline, messages.length, { warnings })
  return { pipeline, publisher, topic, letters, warnings }
}

/** A table of the engine Null. */
async function discarding() {
  const table = unique('discarding')
  await servers.command(`CREATE TABLE ${table} (seq UInt32) ENGINE = Null`)
  return table
}

test('an EPHEMERAL column is filled, and is required unless it has an expression', { timeout }, async (t) => {
  const columns = 'seq UInt32, speed Float64 EPHEMERAL, factor Float64 EPHEMERAL 3.6, speed_kmh Float32 DEFAULT speed * factor'
  const table = await servers.table(columns)
  const { letters } = await after(t, table, [{ seq: 1, speed: 10 }, { seq: 2, speed: 10, factor: 2 }, { seq: 3 }])
  assert.deepEqual(await servers.rows(`SELECT seq, speed_kmh FROM ${table} ORDER BY seq`), [
    { seq: 1, speed_kmh: 36 },
    { seq: 2, speed_kmh: 20 },
  ])
  assert.deepEqual(letters.map(({ code }) => code), ['FIELD_MISSING'])
  assert.match(letters[0].message, /column speed/)
})

test('an EPHEMERAL column beside a DEFAULT that may be NULL', { timeout }, async (t) => {
  const columns = 'seq UInt32, speed Nullable(Float64) EPHEMERAL, kmh Nullable(Float64) DEFAULT speed * 3.6, tags Array(String) EPHEMERAL, n UInt64 DEFAULT length(tags)'
  const table = await servers.table(columns)
  const { letters } = await after(t, table, [{ seq: 1, speed: 10, tags: ['a'] }, { seq: 2, kmh: 5, tags: [] }])
  assert.deepEqual(letters, [])
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table} ORDER BY seq`), [
    { seq: 1, kmh: 36, n: '1' },
    { seq: 2, kmh: 5, n: '0' },
  ])
})

test('a Null table without a view is refused unless it is allowed', { timeout }, async (t) => {
  const table = await discarding()
  const config = { deadLetters: { dir: '.' }, routes: [{ topic: unique('topic'), table }] }
  const refusal = { code: 'TABLE_DISCARDS', path: 'routes[0].table' }
  await assert.rejects(servers.pipeline(t, config).start(), refusal)
  const { ok, findings } = await checkPipeline(servers.config(config))
  assert.equal(ok, false)
  assert.ok(findings.some(({ code, path, advice }) => code === refusal.code && path === refusal.path && /allowNullTable/.test(advice ?? '')))
  await assert.rejects(servers.pipeline(t, { ...config, tables: [table], routes: [{ ...config.routes[0], allowNullTable: true }] }).start(), {
    code: 'TABLE_DISCARDS',
    path: 'tables[0]',
  })
  const { warnings } = await after(t, table, [{ seq: 1 }], { allowNullTable: true })
  assert.ok(!warnings.some(({ code }) => code === refusal.code))
})

test('a Null table that loses its last view is warned of', { timeout }, async (t) => {
  const table = await discarding()
  const target = await servers.table('seq UInt32')
  const view = unique('view')
  const create = () => servers.command(`CREATE MATERIALIZED VIEW ${view} TO ${target} AS SELECT seq FROM ${table}`)
  await create()
  const { warnings, publisher, topic } = await after(t, table, [{ seq: 1 }])
  assert.equal(await servers.count(target), 1)
  const losses = () => warnings.filter(({ code }) => code === 'TABLE_DISCARDS')
  const publish = () => publisher.publish(topic, { seq: 2 })
  await servers.command(`DROP VIEW ${view}`)
  await waitFor(async () => (await publish(), losses().length > 0), { message: 'the warning' })
  await create()
  await waitFor(async () => (await publish(), (await servers.count(target)) > 1), { message: 'rows in the view' })
  assert.equal(losses().length, 1)
  assert.deepEqual({ table: losses()[0].table, route: losses()[0].route }, { table, route: 0 })
})

test('a path that is an expression is refused', { timeout }, (t) => {
  for (const path of ['speed * 3.6', 'speed*3.6', 'a + b', 'round(speed)', 'speed km']) {
    for (const source of [path, { path }, ['speed', path]]) {
      const routes = [{ topic: 't', table: 't', columns: { speed_kmh: source } }]
      assert.throws(() => servers.pipeline(t, { routes }), { code: 'CONFIG_INVALID', path: /^routes\[0\]\.columns\.speed_kmh/, message: /scale.*transform.*quoted/ })
    }
  }
  servers.pipeline(t, { routes: [{ topic: 't', table: 't', columns: { a: "['speed * 3.6']", b: 'lat-lng' } }] })
})

test('a name of the topic that fills nothing is warned of at start', { timeout }, async (t) => {
  const table = await servers.table('driver_id String, seq UInt32')
  const prefix = unique('topic')
  const started = async (route) => {
    const pipeline = servers.pipeline(t, { routes: [{ table, ...route }] })
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    return warnings.filter(({ code }) => code === 'TOPIC_NAME_UNUSED').map(({ message, topic }) => [message, topic])
  }
  assert.deepEqual(await started({ topic: `${prefix}/{driver}` }), [
    [`${table}: {driver} of the topic fills nothing: there is no column driver`, `${prefix}/+`],
  ])
  assert.deepEqual(await started({ topic: `${prefix}/{driver_id}` }), [])
  assert.deepEqual(await started({ topic: `${prefix}/{driver}`, columns: { driver_id: { topic: 'driver' } } }), [])
  const inputs = { driver: { type: 'String', topic: 'driver' } }
  assert.deepEqual(await started({ topic: `${prefix}/{driver}`, inputs, transform() {} }), [])
})

test('a required path that no message of the first thousand has is warned of once', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, lat Float64, lon Float64, speed Float64, note Nullable(String)')
  const columns = { lat: 'postion.lat', lon: 'position.lon' }
  const message = (seq) => ({ seq, position: { lat: 1, ...(seq % 2 && { lon: 2 }) } })
  const { warnings, letters } = await after(t, table, Array.from({ length: 1_100 }, (_, seq) => message(seq)), { columns })
  assert.equal(letters.length, 1_100)
  const never = warnings.filter(({ code }) => code === 'PATH_NEVER_FOUND')
  assert.deepEqual(never.map(({ column, path, route }) => [column, path, route]), [['lat', 'postion.lat', 0], ['speed', 'speed', 0]])
})

test('a required path that one message had is not warned of', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, lat Float64')
  const message = (seq) => (seq === 3 ? { seq, lat: 1 } : { seq })
  const { warnings } = await after(t, table, Array.from({ length: 1_100 }, (_, seq) => message(seq)))
  assert.equal(await servers.count(table), 1)
  assert.ok(!warnings.some(({ code }) => code === 'PATH_NEVER_FOUND'), JSON.stringify(warnings))
})

test('an option of another level is named with its place', { timeout }, (t) => {
  const route = { topic: 't', table: 't' }
  for (const [config, hint] of [
    [{ routes: [{ ...route, tables: ['t'] }] }, /routes\[0\]\.tables: must be an object, \{ allow \}; a list of tables for pipeline\.insert\(\) is the option tables beside routes/],
    [{ routes: [route], topic: 't' }, /topic: is not an option; did you mean routes\[\]\.topic\?/],
    [{ routes: [route], username: 'u' }, /username: is not an option; did you mean mqtt\.username or clickhouse\.username\?/],
    [{ routes: [route], batch: { clientId: 'c' } }, /batch\.clientId: is not an option; did you mean mqtt\.clientId\?/],
    [{ routes: [{ ...route, deadLetters: {} }] }, /routes\[0\]\.deadLetters: is not an option; did you mean deadLetters\?/],
    [{ routes: [route], unheardOf: 1 }, /unheardOf: is not an option$/],
  ]) {
    assert.throws(() => servers.pipeline(t, config), { code: 'CONFIG_INVALID', message: hint })
  }
})
