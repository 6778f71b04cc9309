// Servers that stop and start: no acknowledged message is lost, no batch is stored twice, and the pipeline continues by
// itself.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalBroker, externalClickHouse, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startProxy } from '../support/proxy.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, OPEN_BROKER, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers({ ownClickHouse: true })
const timeout = 60_000
// Servers that the test did not start cannot be stopped.
const skip = externalBroker || externalClickHouse

const retry = { minMs: 20, maxMs: 200 }
const reconnect = { minMs: 20, maxMs: 200 }
/** How long something lasts, where that is what the test is about. */
const lasting = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

for (const [how, protocolVersion] of [
  ['stop', 5],
  ['kill', 4],
]) {
  const what = how === 'stop' ? 'stopped for five seconds' : 'killed'
  test(`ClickHouse ${what} in the middle of a stream, and back`, { timeout, skip }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { protocolVersion },
      clickhouse: { retry },
      routes: [route(prefix, table)],
      batch: { maxRows: 1_000, maxDelayMs: 100 },
    })
    const warnings = collect(pipeline, 'warning')
    const ledger = watchLedger(pipeline)
    const publisher = await servers.publisher(t, { clients: 2, inFlight: 50 })
    let go = true
    let sent = 0
    const stream = (async () => {
      while (go) {
        const from = sent
        sent += 500
        await publisher.flood(500, (i) => position(prefix, from + i))
        await lasting(10)
      }
    })()
    await waitFor(() => pipeline.metrics().messages.inserted >= 2_000, { message: 'a stream under way' })

    await servers.clickhouse[how]()
    const before = pipeline.metrics().messages
    await waitFor(() => pipeline.metrics().messages.received > before.received + 2_000, {
      message: 'the stream goes on',
    })
    if (how === 'stop') await lasting(5_000)
    const during = pipeline.metrics()
    assert.equal(pipeline.state, 'running')
    assert.equal(during.mqtt.connected, 1)
    assert.ok(during.messages.pending > 0)
    await servers.clickhouse.start()
    await waitFor(() => pipeline.metrics().messages.inserted > during.messages.inserted, {
      timeoutMs: 30_000,
      message: 'rows again',
    })
    go = false
    await stream

    await settled(pipeline, sent)
    await assertPositions(servers, table, sent)
    const after = pipeline.metrics()
    assert.ok(after.inserts.retried > 0)
    assert.equal(after.inserts.failed, 0)
    assert.equal(after.messages.deadLettered, 0)
    assert.equal(after.mqtt.reconnects, 0)
    assert.ok(warnings.length > 0, 'an outage is worth a warning')
    assert.ok(warnings.length < 1_000, `${warnings.length} warnings`)
    ledger.close()
  })
}

test('ClickHouse that accepts connections and does not answer', { timeout, skip }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    clickhouse: { retry, requestTimeoutMs: 300, connectTimeoutMs: 300 },
    routes: [route(prefix, table)],
  })
  const publisher = await servers.publisher(t)
  servers.clickhouse.signal('SIGSTOP')
  try {
    await publisher.flood(1_000, (i) => position(prefix, i))
    await waitFor(() => pipeline.metrics().inserts.retried >= 3, { timeoutMs: 20_000, message: 'retries' })
  } finally {
    servers.clickhouse.signal('SIGCONT')
  }
  await settled(pipeline, 1_000)
  await assertPositions(servers, table, 1_000)
  assertLedger(pipeline.metrics())
})

test('an answer that is lost does not double its batch', { timeout, skip: externalClickHouse }, async (t) => {
  const table = await servers.table(COLUMNS)
  const behind = unique('behind')
  await servers.command(`CREATE MATERIALIZED VIEW ${behind} ENGINE = MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 10000 AS SELECT seq FROM ${table}`)
  const prefix = unique('topic')
  const proxy = await startProxy(t, servers.clickhouse.port)
  const pipeline = await servers.started(t, {
    clickhouse: { url: `http://127.0.0.1:${proxy.port}`, retry },
    routes: [route(prefix, table)],
    batch: { maxRows: 500, maxDelayMs: 50 },
  })
  const publisher = await servers.publisher(t)
  proxy.loseAnswers(7)
  await publisher.flood(5_000, (i) => position(prefix, i))
  await settled(pipeline, 5_000)
  assert.equal(proxy.lost, 7)
  assert.ok(pipeline.metrics().inserts.retried >= 7)
  await assertPositions(servers, table, 5_000)
  assert.deepEqual(await servers.counted(behind), { rows: 5_000, different: 5_000 })
  assertLedger(pipeline.metrics())
})

test('a table without deduplication is worth a warning', { timeout }, async (t) => {
  const table = unique('table')
  await servers.command(`CREATE TABLE ${table} (seq UInt32) ENGINE = MergeTree ORDER BY seq`)
  const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table }] })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  await waitFor(() => warnings.some(({ message }) => message.includes('non_replicated_deduplication_window')), {
    message: () => `the warning, among ${JSON.stringify(warnings)}`,
  })
})

for (const protocolVersion of [4, 5]) {
  const version = protocolVersion === 4 ? '3.1.1' : '5'
  test(`a broker that is stopped and comes back (MQTT ${version})`, { timeout, skip }, async (t) => {
    const broker = await startBroker({ config: OPEN_BROKER, persistence: true })
    t.after(() => broker.remove())
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, clientId: unique('client'), protocolVersion, reconnect },
      routes: [route(prefix, table)],
      batch: { maxRows: 1_000, maxDelayMs: 100 },
    })
    const ledger = watchLedger(pipeline)
    // A session of its own lets the publisher bring, after the outage, what was not acknowledged before it.
    const publisher = await servers.publisher(t, {
      url: broker.url,
      clients: 1,
      clientId: unique('publisher'),
      clean: false,
    })
    const acknowledged = new Set()
    const total = 20_000
    const flood = publisher.flood(total, (i) => position(prefix, i), { acknowledged: (i) => acknowledged.add(i) })
    await waitFor(() => pipeline.metrics().messages.inserted >= 1_000, { message: 'a stream under way' })
    await broker.stop()
    await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: 'the connection gone' })
    await broker.start()
    await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: 'the connection back' })
    await flood
    assert.equal(acknowledged.size, total)

    await waitFor(
      async () => {
        await pipeline.flush()
        const { different } = await servers.counted(table)
        return different === total
      },
      { timeoutMs: 30_000, message: () => `${total} different rows: ${JSON.stringify(pipeline.metrics().messages)}` },
    )
    // QoS 1 promises "at least once": what crossed the outage may be there twice, and only that.
    assert.ok((await servers.count(table)) < 2 * total)
    const metrics = pipeline.metrics()
    assert.equal(metrics.mqtt.reconnects, 1)
    assert.equal(metrics.messages.deadLettered, 0)
    ledger.close()
  })
}

test('a broker that forgot the session is subscribed to again', { timeout, skip }, async (t) => {
  const broker = await startBroker({ config: OPEN_BROKER })
  t.after(() => broker.remove())
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const mqtt = { url: broker.url, clientId: unique('client'), reconnect }
  const pipeline = await servers.started(t, { mqtt, routes: [route(prefix, table)] })
  await broker.kill()
  await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: 'the connection gone' })
  await broker.start()
  await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: 'the connection back' })
  const publisher = await servers.publisher(t, { url: broker.url })
  await publisher.flood(1_000, (i) => position(prefix, i))
  await settled(pipeline, 1_000)
  await assertPositions(servers, table, 1_000)
  assertLedger(pipeline.metrics())
})

test('both down at once, and back in either order', { timeout, skip }, async (t) => {
  const broker = await startBroker({ config: OPEN_BROKER, persistence: true })
  t.after(() => broker.remove())
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, clientId: unique('client'), reconnect },
    clickhouse: { retry },
    routes: [route(prefix, table)],
  })
  const ledger = watchLedger(pipeline)
  const publisher = await servers.publisher(t, {
    url: broker.url,
    clients: 1,
    clientId: unique('publisher'),
    clean: false,
  })
  for (const order of [
    [broker, servers.clickhouse],
    [servers.clickhouse, broker],
  ]) {
    await servers.clickhouse.stop()
    const from = order[0] === broker ? 0 : 1_000
    await publisher.flood(1_000, (i) => position(prefix, from + i))
    await waitFor(() => pipeline.metrics().messages.pending > 0, { message: 'messages that wait' })
    await broker.stop()
    for (const server of order) await server.start()
    await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: 'the connection back' })
    await waitFor(
      async () => {
        const { different } = await servers.counted(table)
        return different === from + 1_000
      },
      { timeoutMs: 20_000, message: () => `all rows: ${JSON.stringify(pipeline.metrics())}` },
    )
  }
  ledger.close()
})

test(
  'a memory ceiling while ClickHouse is away: the connection lives, nothing is lost',
  { timeout, skip },
  async (t) => {
    const table = await servers.table('seq UInt32, text String')
    const topic = unique('topic')
    const maxBytes = 2 * 1024 * 1024
    const pipeline = await servers.started(t, {
      mqtt: { clientId: unique('client'), keepAliveSeconds: 2, maxPacketBytes: maxBytes / 8 },
      clickhouse: { retry },
      memory: { maxBytes },
      batch: { maxRows: 1_000 },
      routes: [{ topic, table }],
    })
    const ledger = watchLedger(pipeline)
    const publisher = await servers.publisher(t, { inFlight: 50 })
    await servers.clickhouse.stop()
    const total = 10_000
    const message = (seq) => ({ topic, payload: JSON.stringify({ seq, text: `${seq} `.repeat(500).slice(0, 1_000) }) })
    let most = 0
    const timer = setInterval(() => (most = Math.max(most, pipeline.metrics().memoryBytes)), 5)
    t.after(() => clearInterval(timer))
    await publisher.flood(total, message)

    // The broker gives a client up after one and a half times its keep-alive.
    await lasting(4_000)
    const full = pipeline.metrics()
    assert.equal(full.mqtt.connected, 1)
    assert.equal(full.mqtt.reconnects, 0)
    assert.ok(full.messages.received < total, `${full.messages.received} messages were taken`)
    assert.ok(full.messages.received > 100, `only ${full.messages.received} messages were taken`)

    await servers.clickhouse.start()
    await settled(pipeline, total)
    clearInterval(timer)
    // One read of the socket may end beyond the ceiling.
    assert.ok(most <= maxBytes + 512 * 1024, `${most} bytes were held`)
    assert.ok(most > maxBytes / 4, `only ${most} bytes were held`)
    assert.equal(pipeline.metrics().mqtt.reconnects, 0)
    const rows = await servers.rows(`SELECT toUInt32(count()) AS rows, toUInt32(uniqExact(seq)) AS different,
    toUInt32(countIf(length(text) = 1000)) AS whole FROM ${table}`)
    assert.deepEqual(rows, [{ rows: total, different: total, whole: total }])
    ledger.close()
  },
)

test('a table that is dropped and made again: its data waits', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { clickhouse: { retry }, routes: [{ topic, table }] })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t)
  const message = (from) => (i) => ({ topic, payload: JSON.stringify({ seq: from + i }) })
  await publisher.flood(100, message(0))
  await settled(pipeline, 100)

  await servers.command(`DROP TABLE ${table} SYNC`)
  await publisher.flood(500, message(100))
  await received(pipeline, 600)
  await waitFor(() => pipeline.metrics().inserts.retried > 0, { message: 'a retry' })
  await waitFor(() => warnings.some(({ message }) => message.includes(table)), {
    message: () => `a warning that names the table, among ${JSON.stringify(warnings)}`,
  })
  assert.equal(pipeline.metrics().messages.deadLettered, 0)
  await servers.command(`CREATE TABLE ${table} (seq UInt32) ENGINE = MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 1000`)
  await settled(pipeline, 600)
  assert.deepEqual(await servers.counted(table), { rows: 500, different: 500 })
  assertLedger(pipeline.metrics())
})

test('too many parts: the rows wait until they are merged', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  await servers.command(`SYSTEM STOP MERGES ${table}`)
  await servers.command(`ALTER TABLE ${table} MODIFY SETTING parts_to_throw_insert = 2, parts_to_delay_insert = 2`)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    clickhouse: { retry },
    routes: [route(prefix, table)],
    batch: { maxRows: 100 },
  })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await waitFor(() => pipeline.metrics().inserts.retried > 0, { message: 'a retry' })
  await waitFor(() => warnings.some(({ message }) => message.includes('252')), {
    message: () => JSON.stringify(warnings),
  })
  await servers.command(
    `ALTER TABLE ${table} MODIFY SETTING parts_to_throw_insert = 3000, parts_to_delay_insert = 1000`,
  )
  await servers.command(`SYSTEM START MERGES ${table}`)
  await settled(pipeline, 1_000)
  await assertPositions(servers, table, 1_000)
  assert.equal(pipeline.metrics().messages.deadLettered, 0)
})

test('dead letters wait for their table as rows do', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const deadLetters = { table: unique('dead_letters') }
  const pipeline = await servers.started(t, { clickhouse: { retry }, routes: [{ topic, table }], deadLetters })
  const ledger = watchLedger(pipeline)
  const publisher = await servers.publisher(t)
  await servers.clickhouse.stop()
  await publisher.flood(1_000, (seq) => ({ topic, payload: seq % 2 ? `bad ${seq}` : JSON.stringify({ seq }) }))
  await received(pipeline, 1_000)
  await servers.clickhouse.start()
  await settled(pipeline, 1_000)
  assert.equal(await servers.count(table), 500)
  assert.equal(await servers.count(deadLetters.table), 500)
  ledger.close()
})

test(
  'acknowledgements wait for the rows, and leave in the order of receipt',
  { timeout, skip: externalClickHouse },
  async (t) => {
    const table = await servers.table('seq UInt32')
    const other = await servers.table('seq UInt32')
    const broker = await startScriptedBroker(t)
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, protocolVersion: 4 },
      clickhouse: { retry },
      routes: [
        { topic: 'a', table },
        { topic: 'b', table: other },
      ],
    })
    await servers.clickhouse.stop()
    const ids = Array.from({ length: 300 }, (_, i) => i + 1)
    for (const id of ids) {
      const payload = id % 10 === 0 ? 'bad' : JSON.stringify({ seq: id })
      broker.send(publishPacket(id % 3 ? 'a' : 'b', payload, { id }))
    }
    await received(pipeline, 300)
    await waitFor(() => pipeline.metrics().inserts.retried > 1, { message: 'attempts that failed' })
    // Only what was bad may be settled by now, and nothing of it stands before the first row that waits.
    assert.deepEqual(broker.acknowledged, [])
    assert.equal(pipeline.metrics().mqtt.unacknowledged, 300)
    await servers.clickhouse.start()
    await waitFor(() => broker.acknowledged.length === 300, { timeoutMs: 20_000, message: 'all acknowledgements' })
    assert.deepEqual(broker.acknowledged, ids)
    assert.equal(pipeline.metrics().mqtt.unacknowledged, 0)
    assert.equal((await servers.count(table)) + (await servers.count(other)), 270)
  },
)

test('a message that carries the DUP flag is not thrown away', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, reconnect },
    routes: [{ topic: 'a', table }],
  })
  broker.send(publishPacket('a', '{"seq":1}', { id: 7, dup: true }))
  await settled(pipeline, 1)
  assert.equal(await servers.count(table), 1)
})

test('no acknowledgement crosses a reconnect', { timeout, skip: externalClickHouse }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, clientId: 'c', reconnect },
    clickhouse: { retry },
    routes: [{ topic: 'a', table }],
  })
  await servers.clickhouse.stop()
  for (const id of [1, 2, 3]) broker.send(publishPacket('a', `{"seq":${id}}`, { id }))
  await received(pipeline, 3)
  broker.hangUp()
  await waitFor(() => broker.connections === 2 && pipeline.metrics().mqtt.connected === 1, {
    message: 'connected again',
  })
  await servers.clickhouse.start()
  await settled(pipeline, 3)
  // On the new connection the ids belong to other messages.
  broker.send(publishPacket('a', '{"seq":4}', { id: 9 }))
  await waitFor(() => broker.acknowledged.length > 0, { message: 'the acknowledgement' })
  assert.deepEqual(broker.acknowledged, [9])
  assert.equal(await servers.count(table), 4)
  assertLedger(pipeline.metrics())
})

test('a broker that falls silent is left', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, keepAliveSeconds: 1, reconnect },
    routes: [{ topic: 'a', table }],
  })
  await waitFor(() => broker.packets.some(({ type }) => type === 'PINGREQ'), { message: 'a ping' })
  assert.equal(broker.connections, 1)
  broker.fallSilent()
  await waitFor(() => broker.connections === 2, { timeoutMs: 15_000, message: 'another connection' })
  await waitFor(() => pipeline.metrics().mqtt.reconnects === 1, { message: 'it is counted' })
})
