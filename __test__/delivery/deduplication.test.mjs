// The warning about tables that store a repeated INSERT twice: tables of routes, and tables behind their views.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalClickHouse, startClickHouse } from '../../tools/servers/index.mjs'
import { collect, received, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const REMEMBERS = { non_replicated_deduplication_window: 100 }
const FORGETS = { non_replicated_deduplication_window: 0 }

/** The messages of `DEDUPLICATION_OFF` that a start gives. */
async function doubts(t, tables, config = {}) {
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, {
    routes: tables.map((table, i) => ({ topic: `${topic}/${i}`, table })),
    ...config,
  })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  await pipeline.stop()
  const told = warnings.filter(({ code }) => code === 'DEDUPLICATION_OFF')
  for (const { table, message } of told) {
    const [, database, name] = /^(.*?)\.(.*)$/.exec(table)
    assert.ok(message.startsWith(`\`${database}\`.\`${name}\``), message)
  }
  return told.map(({ message }) => message)
}

const quoted = (table) => `\`${servers.database}\`.\`${table}\``
const advice = (table) => `ALTER TABLE ${quoted(table)} MODIFY SETTING non_replicated_deduplication_window = 1000`

test('the table of a route', { timeout }, async (t) => {
  const [good, bad] = [await servers.table('x Int32'), await servers.table('x Int32', { storage: FORGETS })]
  const told = await doubts(t, [good, bad, bad])
  assert.equal(told.length, 1)
  assert.ok(told[0].startsWith(`${quoted(bad)} does not recognise`))
  assert.ok(told[0].endsWith(advice(bad)))
  await servers.command(told[0].split('rows: ')[1])
  assert.deepEqual(await doubts(t, [good, bad]), [])
})

test('the tables behind views, and behind their views', { timeout }, async (t) => {
  const table = await servers.table('x Int32')
  const good = await servers.table('x Int32', { storage: REMEMBERS })
  const bad = await servers.table('x Int32', { engine: 'AggregatingMergeTree', order: 'x', storage: FORGETS })
  const names = ['first', 'second', 'third', 'inner'].map(unique)
  const [first, second, third, inner] = names
  await servers.command(`CREATE MATERIALIZED VIEW ${first} TO ${good} AS SELECT x FROM ${table}`)
  await servers.command(`CREATE MATERIALIZED VIEW ${second} TO ${bad} AS SELECT x FROM ${good}`)
  // Two views into one table, and one that fills a table of its own.
  await servers.command(`CREATE MATERIALIZED VIEW ${third} TO ${bad} AS SELECT x + 1 AS x FROM ${table}`)
  await servers.command(`CREATE MATERIALIZED VIEW ${inner} ENGINE = MergeTree ORDER BY x AS SELECT x FROM ${table}`)
  const told = await doubts(t, [table])
  assert.equal(told.length, 2)
  const [of] = told.filter((message) => message.endsWith(advice(bad)))
  assert.match(of, new RegExp(`which the view ${quoted(`(${second}|${third})`)} fills`))
  const [ofInner] = told.filter((message) => message.includes(`which the view ${quoted(inner)} fills`))
  // The advice is a statement that works, also for a table whose name only ClickHouse knows.
  for (const message of [of, ofInner]) await servers.command(message.split('rows: ')[1])
  assert.deepEqual(await doubts(t, [table]), [])
})

test('views behind a table that keeps nothing', { timeout }, async (t) => {
  const table = unique('nothing')
  await servers.command(`CREATE TABLE ${table} (x Int32) ENGINE = Null`)
  const bad = await servers.table('x Int32', { storage: FORGETS })
  await servers.command(`CREATE MATERIALIZED VIEW ${unique('view')} TO ${bad} AS SELECT x FROM ${table}`)
  const told = await doubts(t, [table])
  assert.equal(told.length, 1)
  assert.ok(told[0].endsWith(advice(bad)))
})

test('the table of dead letters', { timeout }, async (t) => {
  const table = await servers.table('x Int32')
  const letters = unique('letters')
  const config = { deadLetters: { table: letters } }
  assert.deepEqual(await doubts(t, [table], config), [], 'one that millrace makes deduplicates')
  await servers.command(`ALTER TABLE ${letters} MODIFY SETTING non_replicated_deduplication_window = 0`)
  const told = await doubts(t, [table], config)
  assert.equal(told.length, 1)
  assert.ok(told[0].endsWith(advice(letters)))
})

test('a server that remembers for all tables', { timeout, skip: externalClickHouse }, async (t) => {
  const clickhouse = await startClickHouse({ config: { merge_tree: REMEMBERS } })
  t.after(() => clickhouse.remove())
  await clickhouse.command('CREATE TABLE t (x Int32) ENGINE = MergeTree ORDER BY x')
  const config = { clickhouse: { url: clickhouse.url, database: 'default' } }
  assert.deepEqual(await doubts(t, ['t'], config), [])
})

test('a user who may insert and nothing else', { timeout, skip: externalClickHouse }, async (t) => {
  const grants = ['silent', 'told'].map((table) => `GRANT INSERT ON default.${table}`)
  const clickhouse = await startClickHouse({ users: { writer: { password: 'p', grants: { query: grants } } } })
  t.after(() => clickhouse.remove())
  await clickhouse.command('CREATE TABLE silent (x Int32) ENGINE = MergeTree ORDER BY x')
  await clickhouse.command(`CREATE TABLE told (x Int32) ENGINE = MergeTree ORDER BY x
    SETTINGS non_replicated_deduplication_window = 100`)
  const config = { clickhouse: { url: clickhouse.url, database: 'default', username: 'writer', password: 'p' } }
  const told = await doubts(t, ['silent', 'told'], config)
  assert.equal(told.length, 1)
  assert.match(told[0], /`silent` does not recognise/)

  const topic = unique('topic')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table: 'told' }], ...config })
  await pipeline.start()
  const publisher = await servers.publisher(t)
  await publisher.publish(topic, '{"x":1}')
  await received(pipeline, 1)
  await pipeline.flush()
  assert.equal(pipeline.metrics().messages.inserted, 1)
})
