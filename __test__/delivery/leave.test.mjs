// A member of a shared group that stops: what it had not acknowledged goes back at once, and one that leaves for good leaves nothing
// behind at the broker.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import mqtt from 'mqtt'
import { Pipeline } from '../../index.js'
import { externalBroker, externalClickHouse, startBroker, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { directory } from '../support/config-file.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { endlessFlood, Publisher } from '../support/publisher.mjs'
import { endPipeline, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000
const skip = externalBroker || externalClickHouse

/** Whether the broker has a session of this client. */
async function hasSession(url, clientId) {
  const client = mqtt.connect(url, { clientId, clean: false, protocolVersion: 5, reconnectPeriod: 0 })
  const present = await new Promise((resolve) => client.once('connect', ({ sessionPresent }) => resolve(sessionPresent)))
  await client.endAsync()
  return present
}

test('a member that leaves under load loses and doubles nothing, and its session ends', { timeout, skip }, async (t) => {
  for (const hasSpool of [false, true]) {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const sharedGroup = unique('group')
    const member = (clientId) => ({
      mqtt: { clientId, sharedGroup },
      routes: [route(prefix, table)],
      ...(hasSpool && { spool: { dir: join(directory(t), 'spool') } }),
    })
    const [leaving, staying] = [unique('leaves'), unique('stays')]
    const first = await servers.started(t, member(leaving))
    const second = await servers.started(t, member(staying))
    const flood = endlessFlood(await servers.publisher(t), (i) => position(prefix, i))
    await waitFor(() => first.metrics().messages.received > 1_000, { timeoutMs: 30_000, message: () => 'a share' })
    const metrics = await first.stop({ leave: true })
    assertLedger(metrics)
    assert.deepEqual([metrics.messages.pending, metrics.mqtt.unacknowledged], [0, 0])
    assert.equal(await hasSession(servers.broker.url, leaving), false, 'nothing is kept for it')
    const count = await flood.end()
    await waitFor(async () => (await servers.count(table)) >= count, {
      timeoutMs: 60_000,
      message: () => `all rows: ${JSON.stringify(second.metrics().messages)}`,
    })
    await assertPositions(servers, table, count)
    await second.stop()
    assert.equal(await hasSession(servers.broker.url, staying), true, 'a stop keeps the session')
  }
})

test('with a spool a stop closes the connection before INSERTs end', { timeout, skip }, async (t) => {
  const [clickhouse, broker] = [await startClickHouse(), await startBroker()]
  t.after(() => Promise.all([clickhouse.remove(), broker.remove()]))
  await clickhouse.command(`CREATE TABLE positions (${COLUMNS}) ENGINE MergeTree ORDER BY seq`)
  const clientId = unique('client')
  const pipeline = new Pipeline({
    mqtt: { url: broker.url, clientId, sharedGroup: 'g' },
    clickhouse: { url: clickhouse.url, requestTimeoutMs: 60_000 },
    routes: [route('fleet', 'positions')],
    batch: { maxDelayMs: 50 },
    spool: { dir: join(directory(t), 'spool') },
  })
  t.after(() => endPipeline(pipeline))
  await pipeline.start()
  // It accepts INSERTs, and does not answer them.
  clickhouse.signal('SIGSTOP')
  const publisher = await Publisher.open({ url: broker.url })
  t.after(() => publisher.close())
  await publisher.flood(100, (i) => position('fleet', i))
  await waitFor(() => pipeline.metrics().messages.received === 100, { message: () => 'all messages' })
  let isStopped = false
  const stopped = pipeline.stop({ timeoutMs: 60_000 }).then((metrics) => {
    isStopped = true
    return metrics
  })
  await waitFor(() => broker.log.includes(`Client ${clientId} disconnected`), { message: () => broker.log })
  assert.equal(isStopped, false, 'INSERTs are under way')
  clickhouse.signal('SIGCONT')
  const { messages } = await stopped
  assert.deepEqual([messages.inserted, messages.pending], [100, 0])
})

test('leave is a boolean', async () => {
  const pipeline = new Pipeline(servers.config({ routes: [{ topic: 'a', table: 't' }] }))
  await assert.rejects(pipeline.stop({ leave: /** @type {any} */ ('yes') }), { code: 'CONFIG_INVALID', path: 'leave' })
  await pipeline.stop()
})
