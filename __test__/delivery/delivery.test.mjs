// Every published message arrives once, with every column as it was sent, for each setting of publisher and pipeline.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalBroker, freePort, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { endlessFlood } from '../support/publisher.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

test('100,000 messages at QoS 1 arrive exactly, every column as it was sent', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS, { order: 'seq' })
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { routes: [route(prefix, table)], batch: { maxDelayMs: 1000 } })
  const ledger = watchLedger(pipeline)
  const publisher = await servers.publisher(t)

  await publisher.flood(100_000, (i) => position(prefix, i))
  await settled(pipeline, 100_000)

  await assertPositions(servers, table, 100_000)
  const metrics = pipeline.metrics()
  assert.deepEqual(metrics.messages, {
    received: 100_000,
    inserted: 100_000,
    deadLettered: 0,
    dropped: 0,
    skipped: 0,
    pending: 0,
  })
  assert.deepEqual(metrics.rows, { decoded: 100_000, inserted: 100_000 })
  assert.equal(metrics.inserts.failed, 0)
  assert.equal(metrics.latencyMs.insert.count, metrics.inserts.succeeded)
  assert.equal(metrics.mqtt.reconnects, 0)
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'everything acknowledged' })
  ledger.close()
  assert.ok(ledger.events > 0)
})

for (const protocolVersion of [4, 5]) {
  for (const qos of [0, 1]) {
    test(`MQTT ${protocolVersion === 4 ? '3.1.1' : '5'} at QoS ${qos}`, { timeout }, async (t) => {
      const table = await servers.table(COLUMNS)
      const prefix = unique('topic')
      const pipeline = await servers.started(t, { mqtt: { protocolVersion, qos }, routes: [route(prefix, table)] })
      const publisher = await servers.publisher(t)
      await publisher.flood(10_000, (i) => position(prefix, i))
      await settled(pipeline, 10_000)
      await assertPositions(servers, table, 10_000)
      assertLedger(pipeline.metrics())
    })
  }
}

for (const compression of ['none', 'zstd']) {
  test(`compression: ${compression}`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, { clickhouse: { compression }, routes: [route(prefix, table)] })
    const publisher = await servers.publisher(t)
    await publisher.flood(2_000, (i) => position(prefix, i))
    await settled(pipeline, 2_000)
    await assertPositions(servers, table, 2_000)
  })
}

test('columns that compression makes no smaller arrive as they are', { timeout }, async (t) => {
  const table = await servers.table('seq UInt64, noise UInt64', { order: 'seq' })
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [{ topic, table }],
    batch: { maxRows: 10_000, maxDelayMs: 10_000 },
  })
  const publisher = await servers.publisher(t)
  // Multiples of an odd constant look like noise: after the first block the column is sent without a try.
  const noise = (i) => BigInt.asUintN(64, BigInt(i) * 11400714819323198485n)
  await publisher.flood(40_000, (i) => ({ topic, payload: `{"seq":${i},"noise":${noise(i)}}` }))
  await settled(pipeline, 40_000)

  const [counts] = await servers.rows(
    `SELECT toUInt32(uniqExact(seq)) AS seqs, toUInt32(countIf(noise = seq * 11400714819323198485)) AS same FROM ${table}`,
  )
  assert.deepEqual(counts, { seqs: 40_000, same: 40_000 })
  assert.ok(pipeline.metrics().inserts.succeeded > 1)
})

test('acknowledged on receipt, if so configured', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { ackAfter: 'receive' },
    routes: [route(prefix, table)],
    batch: { maxDelayMs: 60_000, maxRows: 100_000 },
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(2_000, (i) => position(prefix, i))
  await received(pipeline, 2_000)
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'everything acknowledged' })
  await pipeline.flush()
  await assertPositions(servers, table, 2_000)
})

test(
  'a broker with its default window of 20 messages still brings thousands',
  { timeout, skip: externalBroker },
  async (t) => {
    const broker = await startBroker()
    t.after(() => broker.remove())
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url },
      routes: [route(prefix, table)],
      batch: { maxDelayMs: 1000 },
    })
    const publisher = await servers.publisher(t, { url: broker.url })
    await publisher.flood(3_000, (i) => position(prefix, i))
    await settled(pipeline, 3_000)
    await assertPositions(servers, table, 3_000)
  },
)

// The mosquitto that Debian has keeps to its window only for a moment; a broker that is strict about it:
test('a broker with a window of 20 that waits for it: no batch waits for its age, and a warning says so', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4 },
    routes: [{ topic: 'a', table }],
    batch: { maxDelayMs: 3_600_000 },
  })
  const warnings = collect(pipeline, 'warning')
  const isTold = () => warnings.some(({ code }) => code === 'WINDOW_NARROW')
  let round = 0
  // Enough rounds in a row must follow promptly, which a busy machine does not always let them.
  while (round < 12 || (round < 3000 && !isTold())) {
    round++
    const ids = Array.from({ length: 20 }, (_, i) => (round - 1) * 20 + i + 1)
    broker.send(Buffer.concat(ids.map((id) => publishPacket('a', JSON.stringify({ seq: id }), { id }))))
    await waitFor(() => broker.acknowledged.length === round * 20, { message: `the acknowledgements of round ${round}` })
  }
  assert.equal(await servers.count(table), round * 20)
  await waitFor(isTold, { message: 'a warning' })
  const told = warnings.filter(({ code }) => code === 'WINDOW_NARROW')
  assert.equal(told.length, 1)
  assert.match(told[0].message, /at most 20 unacknowledged.*max_inflight_messages/)
})

test('a persistent session delivers messages that were published between two processes', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = { mqtt: { clientId: unique('client') }, routes: [route(prefix, table)] }
  const publisher = await servers.publisher(t)

  const first = await servers.started(t, config)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await settled(first, 1_000)
  await first.stop()

  await publisher.flood(1_000, (i) => position(prefix, 1_000 + i))
  const second = await servers.started(t, config)
  await publisher.flood(1_000, (i) => position(prefix, 2_000 + i))
  await settled(second, 2_000)
  await assertPositions(servers, table, 3_000)
  assert.equal(second.metrics().messages.received, 2_000)
})

test('without a client id the session ends with the connection', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const publisher = await servers.publisher(t)
  const first = await servers.started(t, { routes: [route(prefix, table)] })
  await first.stop()
  await publisher.flood(100, (i) => position(prefix, i))
  const second = await servers.started(t, { routes: [route(prefix, table)] })
  await publisher.flood(100, (i) => position(prefix, 100 + i))
  await settled(second, 100)
  await assertPositions(servers, table, 200, { from: 100 })
})

for (const protocolVersion of [4, 5]) {
  const version = protocolVersion === 4 ? '3.1.1' : '5'
  test(`stop() in the middle of a flood: the next pipeline gets the rest (MQTT ${version})`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const config = {
      mqtt: { clientId: unique('client'), protocolVersion },
      routes: [route(prefix, table)],
      batch: { maxRows: 1000, maxDelayMs: 200 },
    }
    const publisher = await servers.publisher(t)
    const first = await servers.started(t, config)
    const ledger = watchLedger(first)
    const flood = endlessFlood(publisher, (i) => position(prefix, i))
    await received(first, 5_000)
    const last = await first.stop()
    ledger.close()
    assertLedger(last)
    assert.equal(last.messages.pending, 0)
    assert.equal(await servers.count(table), last.messages.inserted)
    const total = await flood.end()
    assert.ok(last.messages.received < total)

    const second = await servers.started(t, config)
    await settled(second, total - last.messages.received)
    await assertPositions(servers, table, total)
    assert.equal(second.metrics().messages.received, total - last.messages.received)
  })
}

test('user name and password', { timeout, skip: externalBroker }, async (t) => {
  const broker = await startBroker({ allowAnonymous: false, users: { miller: 'grist' } })
  t.after(() => broker.remove())
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const credentials = { username: 'miller', password: 'grist' }
  for (const protocolVersion of [4, 5]) {
    await servers.started(t, {
      mqtt: { url: broker.url, protocolVersion, ...credentials },
      routes: [route(prefix, table)],
    })
  }
  const publisher = await servers.publisher(t, { url: broker.url, ...credentials })
  await publisher.flood(10, (i) => position(prefix, i))
  await waitFor(async () => (await servers.count(table)) === 20, { message: 'both pipelines have inserted' })
})

for (const protocolVersion of [4, 5]) {
  const version = protocolVersion === 4 ? '3.1.1' : '5'
  test(`a shared subscription is split between pipelines (MQTT ${version})`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const mqtt = { protocolVersion, sharedGroup: unique('group') }
    const pipelines = []
    for (let i = 0; i < 3; i++) pipelines.push(await servers.started(t, { mqtt, routes: [route(prefix, table)] }))
    const publisher = await servers.publisher(t)
    await publisher.flood(3_000, (i) => position(prefix, i))
    const received = () => pipelines.map((pipeline) => pipeline.metrics().messages.received)
    await waitFor(() => received().reduce((sum, n) => sum + n) === 3_000, { message: () => `3,000 of ${received()}` })
    for (const pipeline of pipelines) await pipeline.flush()
    await assertPositions(servers, table, 3_000)
    for (const count of received()) assert.ok(count > 0, `${received()}`)
  })
}

test('filters that overlap in part: each message once, by the first route', { timeout }, async (t) => {
  const [one, two] = [await servers.table('seq UInt32'), await servers.table('seq UInt32')]
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [
      { topic: `${prefix}/+/a`, table: one },
      { topic: `${prefix}/x/+`, table: two },
    ],
  })
  const publisher = await servers.publisher(t)
  for (let seq = 0; seq < 10; seq++) {
    await publisher.publish(`${prefix}/x/a`, { seq })
    await publisher.publish(`${prefix}/x/b`, { seq })
    await publisher.publish(`${prefix}/y/a`, { seq })
  }
  await waitFor(() => pipeline.metrics().messages.received >= 30, { message: 'all messages' })
  await pipeline.flush()
  const { messages } = await pipeline.stop()
  assert.deepEqual([messages.inserted, messages.deadLettered], [30, 0])
  assert.equal(await servers.count(one), 20)
  assert.equal(await servers.count(two), 10)
})

test('two hundred routes', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, route UInt32')
  const prefix = unique('topic')
  const routes = Array.from({ length: 200 }, (_, i) => ({
    topic: `${prefix}/${i}`,
    table,
    columns: { route: { value: i } },
  }))
  const pipeline = await servers.started(t, { routes })
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (seq) => ({ topic: `${prefix}/${seq % 200}`, payload: JSON.stringify({ seq }) }))
  await settled(pipeline, 1_000)
  const rows = await servers.rows(
    `SELECT toUInt32(count()) AS rows, toUInt32(countIf(route = seq % 200)) AS right FROM ${table}`,
  )
  assert.deepEqual(rows, [{ rows: 1_000, right: 1_000 }])
})

test('the first of several MQTT urls that answers is used', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const dead = `mqtt://127.0.0.1:${await freePort()}`
  const pipeline = await servers.started(t, {
    mqtt: { url: [dead, servers.broker.url] },
    routes: [route(prefix, table)],
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (i) => position(prefix, i))
  await settled(pipeline, 100)
  await assertPositions(servers, table, 100)
})

test('a dead one of several ClickHouse urls is skipped', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const dead = `http://127.0.0.1:${await freePort()}`
  const pipeline = await servers.started(t, {
    clickhouse: { url: [dead, servers.clickhouse.url] },
    batch: { maxRows: 100 },
    routes: [route(prefix, table)],
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await settled(pipeline, 1_000)
  await assertPositions(servers, table, 1_000)
})

for (const protocolVersion of [4, 5]) {
  const version = protocolVersion === 4 ? '3.1.1' : '5'
  test(`retained messages are taken, or skipped if so configured (MQTT ${version})`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const publisher = await servers.publisher(t)
    const publish = (i, options) => publisher.publish(position(prefix, i).topic, position(prefix, i).payload, options)
    for (let i = 0; i < 3; i++) await publish(i, { retain: true })

    const routes = [route(prefix, table)]
    const skipping = await servers.started(t, { mqtt: { protocolVersion, retained: 'skip' }, routes })
    await publish(3)
    // With MQTT 5 the broker does not send them at all.
    const skipped = protocolVersion === 4 ? 3 : 0
    await settled(skipping, skipped + 1)
    await assertPositions(servers, table, 4, { from: 3 })
    const { messages } = await skipping.stop()
    assert.deepEqual([messages.inserted, messages.skipped], [1, skipped])
    assertLedger({ messages })

    const taking = await servers.started(t, { mqtt: { protocolVersion }, routes })
    await settled(taking, 3)
    assert.equal(await servers.count(table), 4)
  })
}

test('a batch is inserted when it has its rows, and the remaining rows on flush()', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  // At QoS 0 the broker waits for no acknowledgement, so only the limits and flush() seal a batch.
  const pipeline = await servers.started(t, {
    mqtt: { qos: 0 },
    routes: [route(prefix, table)],
    batch: { maxRows: 1_000, maxDelayMs: 3_600_000 },
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(2_500, (i) => position(prefix, i))
  await received(pipeline, 2_500)
  await waitFor(() => pipeline.metrics().messages.inserted === 2_000, { message: 'two full batches' })
  assert.deepEqual(pipeline.metrics().inserts, { succeeded: 2, retried: 0, failed: 0, inFlight: 0 })
  assert.equal(pipeline.metrics().messages.pending, 500)
  await pipeline.flush()
  assert.equal(pipeline.metrics().inserts.succeeded, 3)
  await assertPositions(servers, table, 2_500)
})

test('a batch is inserted when it has its bytes', { timeout }, async (t) => {
  const table = await servers.table('text String')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { qos: 0 },
    routes: [{ topic: prefix, table }],
    batch: { maxBytes: 100_000, maxDelayMs: 3_600_000 },
  })
  const publisher = await servers.publisher(t)
  const text = 'x'.repeat(10_000)
  await publisher.flood(95, () => ({ topic: prefix, payload: JSON.stringify({ text }) }))
  await received(pipeline, 95)
  await waitFor(() => pipeline.metrics().messages.inserted >= 80, { message: 'most batches are full' })
  await pipeline.flush()
  const { succeeded } = pipeline.metrics().inserts
  assert.ok(succeeded >= 9 && succeeded <= 12, `${succeeded} inserts for 950,000 bytes`)
  assert.deepEqual(await servers.rows(`SELECT sum(length(text)) AS bytes FROM ${table}`), [{ bytes: '950000' }])
})

test('a batch is inserted when it is old enough, for no other reason', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  await servers.started(t, { mqtt: { qos: 0 }, routes: [route(prefix, table)], batch: { maxDelayMs: 100 } })
  const publisher = await servers.publisher(t)
  await publisher.flood(1, (i) => position(prefix, i))
  await waitFor(async () => (await servers.count(table)) === 1, { message: 'the row' })
})

test('settings go with every INSERT', { timeout }, async (t) => {
  const table = await servers.table("seq UInt64, comment String DEFAULT getSetting('log_comment')")
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    clickhouse: { settings: { log_comment: 'ground at the mill', max_threads: 1 } },
    routes: [{ topic: prefix, table }],
  })
  const publisher = await servers.publisher(t)
  await publisher.publish(prefix, { seq: 1 })
  await settled(pipeline, 1)
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ seq: '1', comment: 'ground at the mill' }])
})
