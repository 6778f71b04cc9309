// Rows sharded by key: each row goes to the server that a Distributed table over the same servers would choose, once, also while
// one of them is away.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Pipeline } from '../../index.js'
import { externalClickHouse, restart, startCluster, waitFor } from '../../tools/servers/index.mjs'
import { directory } from '../support/config-file.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { collect, endPipeline, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000
const skip = externalClickHouse

/** @type {import('../../tools/servers/clickhouse.mjs').ClickHouse[]} */
let shards = []
before(
  async () => {
    if (!skip) shards = await startCluster(2)
  },
  { timeout: 60_000 },
)
after(() => Promise.all(shards.map((shard) => shard.remove())))

const everywhere = (sql, settings = {}) => Promise.all(shards.map((shard) => shard.command(sql, settings)))

/** Creates a table on both servers. */
async function table(columns) {
  const name = unique('table')
  await everywhere(`CREATE TABLE ${name} (${columns}) ENGINE MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 1000`)
  return name
}

/** @returns {any} */
function config(shardsOption, { mqtt = {}, clickhouse = {}, batch = {}, ...rest }) {
  return {
    name: unique('pipeline'),
    mqtt: { url: servers.broker.url, ...mqtt },
    clickhouse: { url: shards.map(({ url }) => url), shards: shardsOption, retry: { minMs: 20, maxMs: 100 }, ...clickhouse },
    batch: { maxDelayMs: 50, ...batch },
    metricsIntervalMs: 50,
    ...rest,
  }
}

/** A started pipeline, stopped at the end of the test. */
async function started(t, shardsOption, options) {
  const pipeline = new Pipeline(config(shardsOption, options))
  t.after(() => endPipeline(pipeline))
  await pipeline.start()
  return pipeline
}

/** The rows of each server, in order. */
const seqs = async (name) =>
  Promise.all(shards.map(async (shard) => (await shard.query(`SELECT seq FROM ${name} ORDER BY seq`)).map(({ seq }) => seq)))

/** Inserts the same rows through a Distributed table, and gives what each server has of them. */
async function distributed(name, columns, key) {
  const local = await table(columns)
  const over = unique('over')
  const [first] = shards
  await first.command(`CREATE TABLE ${over} AS ${local} ENGINE Distributed(all, default, ${local}, cityHash64(${key.join(', ')}))`)
  await first.command(`INSERT INTO ${over} SELECT * FROM cluster(all, default, ${name})`, { insert_distributed_sync: 1 })
  return seqs(local)
}

const text = (i) => `${'x'.repeat(i % 70)}driver-${i * 7919}`
const uuid = (i) => `${(i * 2654435761 % 2 ** 32).toString(16).padStart(8, '0')}-0000-4000-8000-${String(i).padStart(12, '0')}`
/** By type, values that are many and different. */
const TYPES = {
  String: text,
  'LowCardinality(String)': (i) => `group-${i % 40}`,
  'FixedString(8)': (i) => `f${i}`.padEnd(8, '-'),
  UInt8: (i) => i % 256,
  UInt16: (i) => i * 37 % 65_536,
  UInt32: (i) => i * 65_537 % 2 ** 32,
  UInt64: (i) => String(BigInt(i) * 1_000_000_007n * 1_000_003n),
  Int8: (i) => (i % 256) - 128,
  Int16: (i) => (i * 37 % 65_536) - 32_768,
  Int32: (i) => (i - 250) * 1_000_003,
  Int64: (i) => String(BigInt(i - 250) * 1_000_000_007n * 1_000_003n),
  UInt128: (i) => String(BigInt(i) ** 7n),
  Int256: (i) => String(-(BigInt(i) ** 9n)),
  Float32: (i) => i / 4 - 30,
  Float64: (i) => i / 7,
  Bool: (i) => i % 2 === 0,
  'Decimal(9, 2)': (i) => `${i - 250}.25`,
  'Decimal(18, 4)': (i) => `${i * 1_000_003}.0625`,
  'Decimal(38, 4)': (i) => `${i * 1_000_003}.0625`,
  UUID: uuid,
  Date: (i) => new Date(i * 86_400_000).toISOString().slice(0, 10),
  Date32: (i) => new Date((i - 250) * 86_400_000).toISOString().slice(0, 10),
  "DateTime('UTC')": (i) => i * 100_003,
  "DateTime64(3, 'UTC')": (i) => new Date(1_700_000_000_000 + i * 12_347).toISOString(),
  "Enum8('a' = -3, 'b' = 1, 'c' = 7)": (i) => 'abc'[i % 3],
  "Enum16('a' = -300, 'b' = 1, 'c' = 700)": (i) => 'abc'[i % 3],
  IPv4: (i) => `10.${i % 256}.${i * 7 % 256}.1`,
  IPv6: (i) => `2001:db8::${i.toString(16)}`,
}

test('rows go where a Distributed table sends them, whatever the type of the key', { timeout, skip }, async (t) => {
  const count = 500
  const types = Object.keys(TYPES)
  // A table for each type, and two whose keys have several columns.
  const keys = [...types.map((type) => [type]), ['UInt64', 'String'], ['UUID', 'String', 'Date', 'Int8', 'IPv4']]
  const columnsOf = (key) => `seq UInt32, ${key.map((type, i) => `k${i} ${type}`).join(', ')}`
  const namesOf = (key) => key.map((_, i) => `k${i}`)
  const names = []
  for (const key of keys) names.push(await table(columnsOf(key)))
  const pipeline = await started(
    t,
    { key: ['k0'], tables: Object.fromEntries(names.map((name, i) => [name, namesOf(keys[i])])) },
    { tables: names, routes: [{ topic: unique('topic'), table: names[0] }], clickhouse: { maxInFlight: 4 } },
  )
  const row = (key, seq) => ({ seq, ...Object.fromEntries(key.map((type, i) => [`k${i}`, TYPES[type](seq)])) })
  const inserting = names.map((name, i) => pipeline.insert(name, Array.from({ length: count }, (_, seq) => row(keys[i], seq))))
  await Promise.all(inserting)
  await pipeline.stop()
  for (const [i, name] of names.entries()) {
    const [key, own] = [keys[i], await seqs(name)]
    assert.equal(own[0].length + own[1].length, count, key.join())
    assert.deepEqual(own, await distributed(name, columnsOf(key), namesOf(key)), key.join())
    // With two or three values one server may have all.
    const isFew = /^(Bool|Enum)/.test(key[0])
    if (!isFew) assert.ok(own.every(({ length }) => length > 0), key.join())
  }
})

test('the rows of one message can go to both shards: it is acknowledged and counted once', { timeout, skip }, async (t) => {
  for (const spool of [undefined, { dir: join(directory(t), 'spool') }]) {
    const [topic, name] = [unique('topic'), await table('seq UInt32, driver String')]
    const pipeline = await started(t, { key: ['driver'] }, { routes: [{ topic, table: name, rows: 'rows' }], spool })
    const publisher = await servers.publisher(t)
    const messages = 300
    const sizes = Array.from({ length: messages }, (_, i) => i % 5)
    let seq = 0
    await publisher.flood(messages, (i) => ({
      topic,
      payload: JSON.stringify({ rows: Array.from({ length: sizes[i] }, () => ({ seq, driver: text(seq++) })) }),
    }))
    await waitFor(() => pipeline.metrics().messages.inserted === messages, { message: () => JSON.stringify(pipeline.metrics().messages) })
    const metrics = await pipeline.stop()
    assertLedger(metrics)
    assert.deepEqual([metrics.messages.pending, metrics.mqtt.unacknowledged], [0, 0])
    assert.equal(metrics.rows.inserted, seq)
    assert.deepEqual(await seqs(name), await distributed(name, 'seq UInt32, driver String', ['driver']))
  }
})

test('a shard that is away does not hold up the other, and gets its rows once', { timeout, skip }, async (t) => {
  const [topic, name] = [unique('topic'), await table('seq UInt32, driver String')]
  const spool = { dir: join(directory(t), 'spool') }
  const options = {
    mqtt: { clientId: unique('client') },
    routes: [{ topic, table: name }],
    spool,
    batch: { maxRows: 100 },
    clickhouse: { connectTimeoutMs: 500 },
  }
  const pipeline = await started(t, { key: ['driver'] }, options)
  const publisher = await servers.publisher(t)
  const publish = (from, count) =>
    publisher.flood(count, (i) => ({ topic, payload: JSON.stringify({ seq: from + i, driver: text(from + i) }) }))
  const [first, second] = shards
  await publish(0, 1_000)
  await waitFor(async () => (await seqs(name)).flat().length === 1_000, { message: () => 'the rows before' })
  await second.stop()
  try {
    await publish(1_000, 5_000)
    // All rows of the shard that is there, and with a spool every message is acknowledged.
    await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: () => 'acknowledgements' })
    const own = async () => (await first.query(`SELECT count() AS n FROM ${name}`))[0].n
    let before = -1
    await waitFor(
      async () => {
        const now = await own()
        const isStable = now === before && now > 2_000
        before = now
        return isStable
      },
      { intervalMs: 300, message: () => `the rows of the first shard: ${before}` },
    )
    // A start does not wait for it either.
    const restarting = new Pipeline(config({ key: ['driver'] }, options))
    t.after(() => endPipeline(restarting))
    await pipeline.stop()
    const warnings = collect(restarting, 'warning')
    await restarting.start()
    await waitFor(() => warnings.some(({ code }) => code === 'SHARD_UNREACHABLE'), { message: () => JSON.stringify(warnings) })
  } finally {
    await restart(second)
  }
  await waitFor(async () => (await seqs(name)).flat().length >= 6_000, { timeoutMs: 60_000, message: () => 'all rows' })
  const all = await seqs(name)
  assert.equal(new Set(all.flat()).size, 6_000)
  assert.equal(all.flat().length, 6_000)
  assert.deepEqual(all, await distributed(name, 'seq UInt32, driver String', ['driver']))
})

test('rows that a shard refuses become dead letters, and the others of their batch are inserted', { timeout, skip }, async (t) => {
  const [topic, name] = [unique('topic'), await table('seq UInt32, driver String')]
  // Only one of the shards has the constraint.
  await shards[1].command(`ALTER TABLE ${name} ADD CONSTRAINT small CHECK seq % 10 != 3`)
  const pipeline = await started(t, { key: ['driver'] }, { routes: [{ topic, table: name }] })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t)
  await publisher.flood(200, (seq) => ({ topic, payload: JSON.stringify({ seq, driver: text(seq) }) }))
  await waitFor(() => pipeline.metrics().messages.received === 200, { message: () => 'all messages' })
  await pipeline.flush()
  const { messages } = await pipeline.stop()
  const all = await seqs(name)
  assert.equal(all.flat().length + letters.length, 200)
  assert.deepEqual([messages.inserted, messages.deadLettered], [all.flat().length, letters.length])
  assert.ok(letters.length > 0 && letters.every(({ payload }) => JSON.parse(String(payload)).seq % 10 === 3))
  assert.ok(all[0].some((seq) => seq % 10 === 3) && all[1].every((seq) => seq % 10 !== 3))
})

test('tables and keys that cannot be sharded are refused at start, each with its code', { timeout, skip }, async (t) => {
  const refused = async (shardsOption, options, expected) => {
    const refusing = async () => {
      const pipeline = new Pipeline(config(shardsOption, options))
      t.after(() => endPipeline(pipeline))
      await pipeline.start()
    }
    await assert.rejects(refusing(), expected)
  }
  const name = await table('seq UInt32, driver String, count UInt32, team Nullable(String), zone String DEFAULT driver, parts Array(UInt8)')
  const routes = [{ topic: 'a', table: name }]
  const key = (...columns) => ({ key: columns })
  const [{ url }] = shards

  await refused(key('nobody'), { routes }, { code: 'COLUMN_NOT_FOUND', path: 'clickhouse.shards.key[0]' })
  const tables = { [name]: ['driver', 'nobody'] }
  await refused({ key: ['driver'], tables }, { routes }, { code: 'COLUMN_NOT_FOUND', path: `clickhouse.shards.tables.${name}[1]` })
  for (const [column, told] of /** @type {const} */ ([['team', /NULL/], ['zone', /DEFAULT/], ['parts', /cannot be in a sharding key/]])) {
    const expected = { code: 'COLUMN_UNSUPPORTED', path: 'clickhouse.shards.key[0]', message: told }
    await refused(key(column), { routes }, expected)
  }
  await refused(key('driver'), { routes, clickhouse: { url } }, { code: 'CONFIG_INVALID', path: 'clickhouse.shards' })
  await refused({ key: [] }, { routes }, { code: 'CONFIG_INVALID', path: 'clickhouse.shards.key' })
  await refused(key('driver', 'driver'), { routes }, { code: 'CONFIG_INVALID', path: 'clickhouse.shards.key[1]' })
  await refused({ key: ['driver'], tables: { other: ['a'] } }, { routes }, { code: 'CONFIG_INVALID', path: 'clickhouse.shards.tables.other' })

  await shards[1].command(`ALTER TABLE ${name} MODIFY COLUMN count UInt64`)
  const differs = { code: 'SHARDS_DIFFER', path: 'routes[0].table', message: /count was UInt32 and is UInt64/ }
  await refused(key('driver'), { routes }, differs)
  await shards[1].command(`DROP TABLE ${name}`)
  await refused(key('driver'), { routes }, { code: 'SHARDS_DIFFER', message: /there is no such table/ })
})

test('a spool keeps to the shards that its rows were divided by', { timeout, skip }, async (t) => {
  const [topic, name] = [unique('topic'), await table('seq UInt32, driver String')]
  const spool = { dir: join(directory(t), 'spool') }
  const options = { mqtt: { clientId: unique('client') }, routes: [{ topic, table: name }], spool, clickhouse: { connectTimeoutMs: 500 } }
  const pipeline = await started(t, { key: ['driver'] }, options)
  const [, second] = shards
  await second.stop()
  const publisher = await servers.publisher(t)
  try {
    await publisher.flood(100, (seq) => ({ topic, payload: JSON.stringify({ seq, driver: text(seq) }) }))
    await waitFor(() => pipeline.metrics().messages.received === 100, { message: () => 'all messages' })
    await pipeline.stop()
    assert.ok(pipeline.metrics().messages.pending > 0)
  } finally {
    await restart(second)
  }
  const without = new Pipeline(config(undefined, options))
  await assert.rejects(without.start(), { code: 'SHARDS_CHANGED', path: 'clickhouse.shards', message: /rows for 2 shards, .* no shards/ })
  const url = [...shards.map((shard) => shard.url), shards[0].url]
  const more = new Pipeline(config({ key: ['driver'] }, { ...options, clickhouse: { url } }))
  await assert.rejects(more.start(), { code: 'SHARDS_CHANGED', message: /rows for 2 shards, .* 3 shards/ })
  const again = await started(t, { key: ['driver'] }, options)
  await waitFor(async () => (await seqs(name)).flat().length === 100, { message: () => 'all rows' })
  await again.stop()
})
