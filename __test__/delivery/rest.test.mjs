// Pauses between reads: what must not wait for one.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { externalBroker, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

function directory(t) {
  const path = mkdtempSync(join(tmpdir(), 'millrace-rest-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Sends messages until pauses are worth it: ten at once are more than a read as they come would bring. */
async function untilItRests(broker, pipeline, qos) {
  let seq = 0
  for (let burst = 0; burst < 9; burst++) {
    for (let i = 0; i < 10; i++) broker.send(publishPacket('a', `{"seq":${++seq}}`, { id: seq, qos }))
    await received(pipeline, seq)
  }
  return seq
}

for (const qos of [0, 1]) {
  test(`a flush takes what has arrived during a rest, at QoS ${qos}`, { timeout }, async (t) => {
    const table = await servers.table('seq UInt32')
    const broker = await startScriptedBroker(t, { subscribe: qos })
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, qos, protocolVersion: 4, coalesceMs: 100 },
      routes: [{ topic: 'a', table }],
      batch: { maxDelayMs: 3_600_000 },
    })
    let seq = await untilItRests(broker, pipeline, qos)
    for (let turn = 0; turn < 3; turn++) {
      // They lie in the socket of a connection that has only just begun to rest, or is about to.
      for (let i = 0; i < 10; i++) broker.send(publishPacket('a', `{"seq":${++seq}}`, { id: seq, qos }))
      await waitFor(() => pipeline.metrics().messages.received === seq, { message: 'the beginning of a rest' })
      for (let i = 0; i < 10; i++) broker.send(publishPacket('a', `{"seq":${++seq}}`, { id: seq, qos }))
      await pipeline.flush()
      assert.equal(await servers.count(table), seq)
      assert.equal(pipeline.metrics().messages.inserted, seq)
    }
    assertLedger(pipeline.metrics())
  })
}

test('a stop during a rest loses nothing', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, clientId: 'c', coalesceMs: 100 },
    routes: [{ topic: 'a', table }],
    batch: { maxDelayMs: 3_600_000 },
  })
  const seq = await untilItRests(broker, pipeline, 1)
  const metrics = await pipeline.stop()
  assert.deepEqual([metrics.messages.inserted, metrics.messages.pending], [seq, 0])
  assert.equal(broker.acknowledged.length, seq)
  assert.equal(await servers.count(table), seq)
})

for (const [name, spool] of [['without a spool', false], ['with a spool', true]]) {
  for (const window of [1, 20]) {
    test(`a broker with a window of ${window} goes on, ${name}`, { timeout, skip: externalBroker }, async (t) => {
      const broker = await startBroker({ config: [`max_inflight_messages ${window}`] })
      t.after(() => broker.remove())
      const table = await servers.table(COLUMNS)
      const prefix = unique('topic')
      // MQTT 3.1.1: the window is the broker's own, and no packet says it.
      const pipeline = await servers.started(t, {
        mqtt: { url: broker.url, protocolVersion: 4 },
        routes: [route(prefix, table)],
        ...(spool && { spool: { dir: directory(t) } }),
      })
      const publisher = await servers.publisher(t, { url: broker.url })
      const messages = 10 * window + 50
      await publisher.flood(messages, (i) => position(prefix, i))
      await settled(pipeline, messages)
      await assertPositions(servers, table, messages)
      assertLedger(pipeline.metrics())
    })
  }
}
