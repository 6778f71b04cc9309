// The spool: what is acknowledged lies on disk, and reaches ClickHouse once, whoever was away and whoever has died.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { externalBroker, externalClickHouse, waitFor } from '../tools/servers/index.mjs'
import { assertLedger, watchLedger } from './support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from './support/positions.mjs'
import { collect, received, settled, unique, useServers } from './support/servers.mjs'

const servers = useServers()
const timeout = 60_000
// Servers that somebody else runs cannot be stopped.
const skip = externalBroker || externalClickHouse
const retry = { minMs: 20, maxMs: 200 }

/** A directory for one spool, gone with the test. */
function spoolDir(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-spool-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return join(dir, 'spool')
}

for (const qos of [0, 1, 2]) {
  test(`QoS ${qos} through a spool`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { qos, clientId: unique('client') },
      routes: [route(prefix, table)],
      spool: { dir: spoolDir(t) },
    })
    const ledger = watchLedger(pipeline)
    const publisher = await servers.publisher(t)
    await publisher.flood(20_000, (i) => position(prefix, i), { qos })
    await settled(pipeline, 20_000)
    await assertPositions(servers, table, 20_000)
    ledger.close()
    const metrics = await pipeline.stop()
    assert.equal(metrics.memoryBytes, 0)
    assert.equal(metrics.mqtt.unacknowledged, 0)
  })
}

test('ClickHouse is away: all is acknowledged, and the next start sends it, once', { timeout, skip }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = {
    mqtt: { clientId: unique('client') },
    clickhouse: { retry, connectTimeoutMs: 300, requestTimeoutMs: 2_000 },
    routes: [route(prefix, table)],
    spool: { dir: spoolDir(t) },
  }
  const first = await servers.started(t, config)
  const ledger = watchLedger(first)
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await settled(first, 1_000)
  await servers.clickhouse.stop()
  let restarted = false
  try {
    await publisher.flood(9_000, (i) => position(prefix, 1_000 + i))
    await received(first, 10_000)
    await waitFor(() => first.metrics().mqtt.unacknowledged === 0, { message: 'acknowledged by the spool' })
    const { messages, spool } = first.metrics()
    assert.deepEqual([messages.inserted, messages.pending], [1_000, 9_000])
    assert.ok(spool.bytes > 0 && spool.segments > 0 && spool.oldestMs >= 0)
    await assert.rejects(first.stop({ timeoutMs: 200 }), ({ code, message }) => {
      assert.equal(code, 'STOP_TIMEOUT')
      assert.match(message, /9000 of 9000 messages .* lie in the spool/)
      return true
    })
    ledger.close()
    await servers.clickhouse.start()
    restarted = true
  } finally {
    if (!restarted) await servers.clickhouse.start()
  }

  const second = await servers.started(t, config)
  assertLedger(second.metrics())
  await second.flush()
  assert.equal(second.metrics().messages.inserted, 9_000)
  await publisher.flood(100, (i) => position(prefix, 10_000 + i))
  await settled(second, 9_100)
  await assertPositions(servers, table, 10_100)
  const metrics = await second.stop()
  assertLedger(metrics)
  assert.equal(metrics.messages.received, 9_100)
})
