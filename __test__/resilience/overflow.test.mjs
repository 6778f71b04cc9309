// A profile in which ClickHouse drops what takes too long, and answers as if all were in.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { collect, unique, useServers } from '../support/servers.mjs'

const servers = useServers()

test("rows that are over max_execution_time are not confirmed where the profile says 'break'", { timeout: 60_000 }, async (t) => {
  const clickhouse = await startClickHouse({ settings: { timeout_overflow_mode: 'break' } })
  t.after(() => clickhouse.remove())
  await clickhouse.command('CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n')
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, {
    mqtt: { clientId: unique('client') },
    clickhouse: {
      url: clickhouse.url,
      database: 'default',
      settings: { max_execution_time: '0.001' },
      retry: { minMs: 20, maxMs: 100 },
    },
    routes: [{ topic, table: 't' }],
  })
  const warnings = collect(pipeline, 'warning')
  // The INSERT of no rows by which start() checks may take too long as well.
  const refused = await pipeline.start().then(() => null, (error) => error)
  if (refused) return assert.match(refused.message, /Code: 159/)
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(2_000, (n) => ({ topic, payload: JSON.stringify({ n }) }))
  const outcome = () => {
    const { messages, inserts } = pipeline.metrics()
    return messages.inserted + messages.deadLettered > 0 || inserts.retried > 0
  }
  await waitFor(outcome, { timeoutMs: 20_000, message: () => JSON.stringify([pipeline.metrics(), warnings.slice(-3)]) })
  const { inserted } = pipeline.metrics().messages
  const [{ rows }] = await clickhouse.query('SELECT toUInt32(count()) AS rows FROM t')
  assert.ok(rows >= inserted, `${inserted} messages are confirmed, and ${rows} rows are there`)
})
