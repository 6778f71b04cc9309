// table: 'telemetry_{plant}': messages choose their table by their topic, on real servers.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPipeline, describeTables, replayDeadLetters } from '../../index.js'
import { externalClickHouse, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 90_000

function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-tables-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const COLUMNS = 'plant String, seq UInt32'

/** Makes a table with this name. */
const make = (name, columns = COLUMNS) =>
  servers.command(`CREATE TABLE ${name} (${columns}) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 1000`)
const seqs = async (table) => (await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`)).map(({ seq }) => seq)

for (const spool of [false, true]) {
  for (const connections of [1, 3]) {
    test(`each plant has its table, ${spool ? 'with' : 'without'} a spool, ${connections} connections`, { timeout }, async (t) => {
      const [base, prefix] = [unique('telemetry'), unique('topic')]
      const plants = Array.from({ length: 8 }, (_, i) => `p-${i}`)
      for (const plant of plants) await make(`\`${base}_${plant}\``)
      const pipeline = await servers.started(t, {
        mqtt: { clientId: unique('client'), ...(connections > 1 && { sharedGroup: unique('group'), connections }) },
        routes: [{ topic: `${prefix}/{plant}/data`, table: `${base}_{plant}`, tables: { allow: [`${base}_p-*`] } }],
        ...(spool && { spool: { dir: directory(t) } }),
      })
      const publisher = await servers.publisher(t, { clients: 1 })
      for (let seq = 0; seq < 400; seq++) {
        await publisher.publish(`${prefix}/${plants[seq % 8]}/data`, JSON.stringify({ seq }), { qos: 1 })
      }
      await settled(pipeline, 400)
      for (const [i, plant] of plants.entries()) {
        assert.deepEqual(await seqs(`\`${base}_${plant}\``), Array.from({ length: 50 }, (_, n) => 8 * n + i))
      }
      const { messages, tables } = pipeline.metrics()
      assert.deepEqual([messages.inserted, messages.deadLettered, messages.pending], [400, 0, 0])
      assert.deepEqual(Object.keys(tables).sort(), plants.map((plant) => `${base}_${plant}`))
      assert.ok(Object.values(tables).every(({ rows }) => rows === 50))
    })
  }
}

test('tables that are not allowed, too many or not there are dead letters, and a replay fills those that are there by then', { timeout }, async (t) => {
  const [base, prefix, dir] = [unique('telemetry'), unique('topic'), directory(t)]
  for (const plant of ['a', 'b']) await make(`${base}_${plant}`)
  await make(`${base}_c`, 'other UInt8')
  const config = {
    routes: [
      {
        topic: `${prefix}/{plant}`,
        table: `${base}_{plant}`,
        tables: { allow: [`${base}_*`, `${base}_a.b`], max: 4 },
        columns: { seq: 'seq' },
      },
    ],
    deadLetters: { dir },
  }
  const pipeline = await servers.started(t, config)
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  const publish = (plant, seq) => publisher.publish(`${prefix}/${plant}`, JSON.stringify({ seq }), { qos: 1 })
  const plants = ['a', 'gone', 'b', 'x y', 'c', 'b.c', 'a.b']
  for (const [seq, plant] of plants.entries()) await publish(plant, seq)
  await settled(pipeline, plants.length)
  for (const plant of ['gone', 'd', 'b', 'e']) await publish(plant, 10)
  await settled(pipeline, plants.length + 4)
  await heard(pipeline, letters)
  const all = letters.map(({ topic, code, route }) => [topic.split('/')[1], code, route])
  assert.deepEqual(all.sort(), [
    ['a.b', 'TABLES_TOO_MANY', 0],
    ['b.c', 'TABLE_NOT_ALLOWED', 0],
    ['c', 'TABLE_UNUSABLE', 0],
    ['d', 'TABLES_TOO_MANY', 0],
    ['e', 'TABLES_TOO_MANY', 0],
    ['gone', 'TABLE_UNUSABLE', 0],
    ['gone', 'TABLE_UNUSABLE', 0],
    ['x y', 'TABLE_NOT_ALLOWED', 0],
  ])
  assert.match(letters.find(({ topic }) => topic.endsWith('/gone')).message, /_gone: /)
  assert.deepEqual([await seqs(`${base}_a`), await seqs(`${base}_b`)], [[0], [2, 10]])
  assert.match(pipeline.prometheus(), /millrace_dead_letters_total{[^}]*code="TABLES_TOO_MANY"} 3\n/)
  await pipeline.stop()
  await make(`${base}_gone`)
  await make(`${base}_d`)
  const replayed = await replayDeadLetters(servers.config({ ...config, deadLetters: { dir: directory(t) } }), { dir })
  assert.deepEqual([replayed.inserted, replayed.deadLettered], [3, 5])
  assert.deepEqual([await seqs(`${base}_gone`), await seqs(`${base}_d`)], [[1, 10], [10]])
})

test('messages for a table that is looked at wait, and others go on', { timeout, skip: externalClickHouse }, async (t) => {
  const clickhouse = await startClickHouse()
  t.after(() => clickhouse.remove())
  const sql = (text) => clickhouse.command(text)
  for (const table of ['t_a', 't_b']) await sql(`CREATE TABLE ${table} (plant String, seq UInt32) ENGINE = MergeTree ORDER BY seq SETTINGS non_replicated_deduplication_window = 1000`)
  const prefix = unique('topic')
  const dir = directory(t)
  const pipeline = await servers.started(t, {
    mqtt: { clientId: unique('client') },
    clickhouse: { url: clickhouse.url, database: 'default', connectTimeoutMs: 500, requestTimeoutMs: 2000 },
    routes: [{ topic: `${prefix}/{plant}`, table: 't_{plant}', tables: { allow: 't_*' } }],
    spool: { dir, commitMs: 1 },
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const publish = (plant, seq) => publisher.publish(`${prefix}/${plant}`, JSON.stringify({ seq }), { qos: 1 })
  await publish('a', 0)
  await settled(pipeline, 1)
  await clickhouse.stop()
  await publish('b', 1)
  for (let seq = 2; seq < 10; seq++) await publish('a', seq)
  // The spool has the rows of the table that is known. Acknowledgements are in the order of the messages alone.
  await waitFor(() => pipeline.metrics().messages.received === 10 && pipeline.metrics().spool.bytes > 0)
  assert.equal(pipeline.metrics().messages.pending, 9)
  await waitFor(() => pipeline.metrics().faults.some(({ table }) => table === 't_b'))
  await clickhouse.start()
  await settled(pipeline, 10)
  const rows = async (table) => (await clickhouse.query(`SELECT seq FROM ${table} ORDER BY seq`)).map(({ seq }) => seq)
  assert.deepEqual([await rows('t_a'), await rows('t_b')], [[0, 2, 3, 4, 5, 6, 7, 8, 9], [1]])
  assert.equal(pipeline.metrics().messages.deadLettered, 0)

  // The next start inserts the rows of the spool, before any message chooses the table again.
  await clickhouse.stop()
  await publish('a', 20)
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0 && pipeline.metrics().messages.received === 11)
  await pipeline.stop({ timeoutMs: 5000 })
  await clickhouse.start()
  const next = await servers.started(t, {
    mqtt: { clientId: unique('client') },
    clickhouse: { url: clickhouse.url, database: 'default' },
    routes: [{ topic: `${prefix}/{plant}`, table: 't_{plant}', tables: { allow: 't_*' } }],
    spool: { dir },
  })
  await next.flush()
  assert.deepEqual((await rows('t_a')).at(-1), 20)
})

test('rows are gathered, and repetitions dropped, for each table by itself', { timeout }, async (t) => {
  const [base, prefix] = [unique('telemetry'), unique('topic')]
  for (const plant of ['a', 'b']) await make(`${base}_${plant}`, 'id UInt8, v Nullable(UInt8), w Nullable(UInt8)')
  const tables = { allow: [`${base}_a`, `${base}_b`] }
  const pipeline = await servers.started(t, {
    routes: [
      { topic: `${prefix}/gather/{plant}`, table: `${base}_{plant}`, tables, pivot: { key: 'id', windowMs: 3_600_000 } },
      { topic: `${prefix}/once/{plant}`, table: `${base}_{plant}`, tables, dedupe: { by: 'id' } },
    ],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const plant of ['a', 'b']) {
    for (const payload of ['{"id":1,"v":1}', '{"id":1,"w":2}']) await publisher.publish(`${prefix}/gather/${plant}`, payload, { qos: 1 })
    for (let i = 0; i < 3; i++) await publisher.publish(`${prefix}/once/${plant}`, '{"id":2}', { qos: 1 })
  }
  await settled(pipeline, 10)
  for (const plant of ['a', 'b']) {
    assert.deepEqual(await servers.rows(`SELECT * FROM ${base}_${plant} ORDER BY id`), [
      { id: 1, v: 1, w: 2 },
      { id: 2, v: null, w: null },
    ])
  }
  const { pivot, dedupe } = pipeline.metrics()
  assert.deepEqual([Object.values(pivot), Object.values(dedupe)], [[{ open: 0, rows: 2, complete: 2 }], [{ dropped: 4, keys: 2, evicted: 0 }]])
})

test('routes that change leave tables as they are', { timeout }, async (t) => {
  const [base, prefix, other] = [unique('telemetry'), unique('topic'), unique('topic')]
  for (const plant of ['a', 'b']) await make(`${base}_${plant}`)
  const table = `${base}_{plant}`
  const tables = { allow: `${base}_*` }
  const pipeline = await servers.started(t, { routes: [{ topic: `${prefix}/{plant}`, table, tables }] })
  const tapped = []
  pipeline.tap(`${prefix}/{plant}`, (batch) => tapped.push([...Array(batch.length).keys()].map((row) => [batch.columns.plant.get(row), Number(batch.columns.seq.get(row))])), { everyMs: 1 })
  const publisher = await servers.publisher(t, { clients: 1 })
  const publish = (topic, seq) => publisher.publish(topic, JSON.stringify({ seq }), { qos: 1 })
  await publish(`${prefix}/a`, 1)
  await settled(pipeline, 1)
  await pipeline.addRoute({ topic: `${other}/{plant}`, table, tables })
  for (const [i, topic] of [`${prefix}/a`, `${prefix}/b`, `${other}/a`, `${other}/b`].entries()) await publish(topic, 10 + i)
  await settled(pipeline, 5)
  assert.deepEqual([await seqs(`${base}_a`), await seqs(`${base}_b`)], [[1, 10, 12], [11, 13]])
  await waitFor(() => tapped.flat().some(([plant, seq]) => plant === 'a' && seq === 1))
  const plain = await servers.started(t, { routes: [{ topic: unique('topic'), table: `${base}_a` }] })
  await assert.rejects(plain.addRoute({ topic: `${other}/{plant}`, table, tables }), { code: 'CONFIG_INVALID', path: 'route.table' })
})

test('check and describeTables look at the tables that are named', { timeout }, async () => {
  const base = unique('telemetry')
  await make(`${base}_a`)
  const config = (allow) => servers.config({ routes: [{ topic: 'p/{plant}', table: `${base}_{plant}`, tables: { allow } }] })
  const good = await checkPipeline(config([`${base}_a`, `${base}_*`]))
  assert.ok(good.ok, JSON.stringify(good.findings))
  assert.deepEqual(good.routes[0].rules, [`tables: a message chooses one of ${base}_a, ${base}_*, 100 at most`])
  assert.deepEqual(good.routes[0].columns.map(({ name }) => name), ['plant', 'seq'])
  const bad = await checkPipeline(config([`${base}_a`, `${base}_gone`]))
  assert.deepEqual(bad.findings.filter(({ level }) => level === 'error').map(({ code }) => code), ['TABLE_NOT_FOUND'])
  assert.match(await describeTables(config([`${base}_a`])), /seq/)
  await assert.rejects(describeTables(config(`${base}_*`)), { code: 'CONFIG_INVALID', path: 'routes[0].tables.allow' })
})
