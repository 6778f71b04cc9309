// Batches of more partitions than ClickHouse takes in one INSERT: as few parts as there must be, whatever the key is made of.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { externalClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { startProxy } from '../support/proxy.mjs'
import { collect, endPipeline, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
// The server behind the proxy must be reached as http://127.0.0.1:<port>.
const skip = externalClickHouse
const COUNT = 1_008
const DAY = 86_400

function temporary(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A pipeline of one batch, its warnings, and how many INSERTs it makes. */
async function counted(t, config) {
  const proxy = await startProxy(t, servers.clickhouse.port)
  const pipeline = await servers.started(t, {
    clickhouse: { url: `http://127.0.0.1:${proxy.port}`, retry: { minMs: 20, maxMs: 200 } },
    batch: { maxRows: COUNT, maxDelayMs: 60_000 },
    ...config,
  })
  return { proxy, pipeline, warnings: collect(pipeline, 'warning'), publisher: await servers.publisher(t) }
}

async function together(pipeline, publisher, message) {
  pipeline.pause()
  await publisher.flood(COUNT, message)
  pipeline.resume()
  await received(pipeline, COUNT)
  await pipeline.flush()
  await settled(pipeline, COUNT)
}

/** A part is a dozen files: with those of all tests, removing the server's directory would take longer than stopping it may. */
async function drop(...tables) {
  for (const table of tables) await servers.command(`DROP TABLE ${table} SYNC`)
}

async function assertOnce(table) {
  const [{ rows, different }] = await servers.rows(`SELECT count() AS rows, uniqExact(seq) AS different FROM ${table}`)
  assert.deepEqual([Number(rows), Number(different)], [COUNT, COUNT])
}

// 252 days that alternate, and 100 partitions at most: each key has 252 partitions.
for (const [what, columns, key] of [
  ['a function of a column', 'at DateTime', 'toYYYYMMDD(at)'],
  ['several columns', 'at DateTime', '(toYear(at), toDate(at))'],
  ['a column with a DEFAULT', 'at DateTime, day Date DEFAULT toDate(at)', 'day'],
  ['a column that ClickHouse computes', 'at DateTime, day Date MATERIALIZED toDate(at)', 'day'],
  ['a text of few values', 'at DateTime, text LowCardinality(String)', 'text'],
]) {
  for (const spooled of [false, true]) {
    test(`252 partitions are few INSERTs: ${what}${spooled ? ', from the spool' : ''}`, { timeout, skip }, async (t) => {
      const table = unique('table')
      await servers.command(`CREATE TABLE ${table} (seq UInt32, ${columns}) ENGINE = MergeTree PARTITION BY ${key}
        ORDER BY seq SETTINGS non_replicated_deduplication_window = 1000`)
      const topic = unique('topic')
      const { proxy, pipeline, warnings, publisher } = await counted(t, {
        routes: [{ topic, table }],
        ...(spooled && { spool: { dir: temporary(t) } }),
      })
      await together(pipeline, publisher, (seq) => {
        const day = seq % 252
        return { topic, payload: JSON.stringify({ seq, at: day * DAY + 1_700_000_000, text: `p${day}` }) }
      })
      await waitFor(() => warnings.some(({ code }) => code === 'BATCH_SPLIT'), { message: 'BATCH_SPLIT' })
      await assertOnce(table)
      const [{ partitions }] = await servers.rows(
        `SELECT uniqExact(partition) AS partitions FROM system.parts WHERE active AND database = currentDatabase() AND table = '${table}'`,
      )
      assert.equal(Number(partitions), 252)
      // Three, or on a slow machine a few more: the messages may come as two batches. Halves are twelve at least.
      const { succeeded } = pipeline.metrics().inserts
      assert.ok(succeeded >= 3 && succeeded <= 6, `${succeeded} INSERTs`)
      assert.ok(proxy.inserts <= succeeded + 4, `${proxy.inserts} attempts`)
      await endPipeline(pipeline)
      await drop(table)
    })
  }
}

// The table of the view takes no such block, and the table itself has the rows already when it says so.
test('the partitions of a view: nothing is doubled, and the batch is inserted once the view is replaced', { timeout, skip }, async (t) => {
  const table = unique('table')
  const window = 'SETTINGS non_replicated_deduplication_window = 1000'
  await servers.command(`CREATE TABLE ${table} (seq UInt32) ENGINE = MergeTree ORDER BY seq ${window}`)
  await servers.command(`CREATE MATERIALIZED VIEW ${table}_view ENGINE = MergeTree PARTITION BY seq % 252 ORDER BY seq ${window}
    AS SELECT seq FROM ${table}`)
  const topic = unique('topic')
  const { pipeline, warnings, publisher } = await counted(t, {
    routes: [{ topic, table }],
    clickhouse: { url: servers.clickhouse.url, retry: { minMs: 20, maxMs: 100 } },
  })
  const inserted = together(pipeline, publisher, (seq) => ({ topic, payload: JSON.stringify({ seq }) }))
  await waitFor(() => warnings.filter(({ code, message }) => code === 'CLICKHOUSE_RETRYING' && /while pushing to view/.test(message)).length > 1, {
    message: 'two refusals',
  })
  const [{ rows, different }] = await servers.rows(`SELECT count() AS rows, uniqExact(seq) AS different FROM ${table}`)
  assert.ok(Number(rows) > 0, 'the table has them')
  assert.equal(rows, different, 'once')
  await servers.command(`CREATE TABLE ${table}_other (seq UInt32) ENGINE = MergeTree ORDER BY seq ${window}`)
  // The new view comes first: without any view the table recognises the batch, which is then confirmed.
  await servers.command(`CREATE MATERIALIZED VIEW ${table}_new_view TO ${table}_other AS SELECT seq FROM ${table}`)
  await drop(`${table}_view`)
  await inserted
  await assertOnce(table)
  await assertOnce(`${table}_other`)
  assert.ok(!warnings.some(({ code }) => code === 'BATCH_SPLIT'))
  await endPipeline(pipeline)
  await drop(`${table}_new_view`, `${table}_other`, table)
})
