// Network faults between the broker and millrace during a flood: afterwards the table holds every message that the publisher
// saw acknowledged.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { onlyFull } from '../support/full.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startProgram } from '../support/program.mjs'
import { startNetwork } from '../support/proxy.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 90_000
const reconnect = { minMs: 20, maxMs: 200 }
/** How long something lasts, where that is what the test is about. */
const lasting = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/**
 * Faults of the network, which begin once the flood is under way. No connection survives one of
 * `breaks`; a connection must endure one that only slows it.
 */
const FAULTS = [
  { name: 'cut', breaks: true, begin: (network) => network.cut() },
  { name: 'silent towards us', breaks: true, begin: (network) => network.silence('down') },
  { name: 'silent towards the broker', breaks: true, begin: (network) => network.silence('up') },
  { name: 'half-closed towards us', breaks: true, begin: (network) => network.halfClose('down') },
  { name: 'half-closed towards the broker', breaks: true, begin: (network) => network.halfClose('up') },
  { name: 'slow to answer', begin: (network) => network.delay(150) },
  { name: 'narrow', begin: (network) => network.throttle(300_000) },
  { name: 'split into single bytes', begin: (network) => network.split() },
]

for (const [i, { name, breaks = false, begin }] of FAULTS.entries()) {
  for (const protocolVersion of [4, 5]) {
    // These faults happen below MQTT, so `npm test` tries each in one version, every other one in 3.1.1.
    const skip = protocolVersion === [4, 5][i % 2] ? false : onlyFull
    const version = protocolVersion === 4 ? '3.1.1' : '5'
    test(`a network that is ${name} (MQTT ${version})`, { timeout, skip }, async (t) => {
      const network = await startNetwork(t, servers.broker.port)
      const table = await servers.table(COLUMNS)
      const prefix = unique('topic')
      const pipeline = await servers.started(t, {
        mqtt: { url: network.url, clientId: unique('client'), protocolVersion, keepAliveSeconds: 2, reconnect },
        routes: [route(prefix, table)],
        batch: { maxRows: 500, maxDelayMs: 50 },
      })
      const ledger = watchLedger(pipeline)
      const warnings = collect(pipeline, 'warning')
      const publisher = await servers.publisher(t, { clients: 2, inFlight: 100 })
      const total = 8_000
      let acknowledged = 0
      const flood = publisher.flood(total, (i) => position(prefix, i), { acknowledged: () => acknowledged++ })

      await received(pipeline, 500)
      begin(network)
      if (breaks) {
        await waitFor(() => pipeline.metrics().mqtt.reconnects >= 1, {
          timeoutMs: 20_000,
          message: () => `another connection: ${JSON.stringify(pipeline.metrics().mqtt)}`,
        })
      } else {
        const before = pipeline.metrics().messages.received
        await received(pipeline, Math.min(total, before + 500))
      }
      network.mend()
      await flood
      assert.equal(acknowledged, total)

      const told = () => JSON.stringify([pipeline.metrics().messages, warnings.slice(-3)])
      await waitFor(
        async () => {
          await pipeline.flush()
          return (await servers.counted(table)).different === total
        },
        { timeoutMs: 30_000, message: () => `${total} different rows: ${told()}` },
      )
      const { mqtt, messages } = pipeline.metrics()
      assert.equal(messages.deadLettered, 0)
      assert.equal(mqtt.connected, 1)
      if (!breaks) {
        assert.equal(mqtt.reconnects, 0, told())
        await assertPositions(servers, table, total)
      }
      ledger.close()
    })
  }
}

test('a network that fails in every way, again and again', { timeout }, async (t) => {
  const network = await startNetwork(t, servers.broker.port, { isRecorded: true })
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url: network.url, clientId: unique('client'), keepAliveSeconds: 1, reconnect },
    routes: [route(prefix, table)],
    batch: { maxRows: 500, maxDelayMs: 50 },
  })
  const ledger = watchLedger(pipeline)
  const publisher = await servers.publisher(t, { clients: 2, inFlight: 50 })
  const total = 12_000
  let acknowledged = 0
  const flood = publisher.flood(total, (i) => position(prefix, i), { acknowledged: () => acknowledged++ })
  await received(pipeline, 100)
  for (const { begin, breaks } of FAULTS) {
    const before = pipeline.metrics().mqtt.reconnects
    begin(network)
    if (breaks) {
      await waitFor(
        () => pipeline.metrics().mqtt.reconnects > before && pipeline.metrics().mqtt.connected === 1,
        { timeoutMs: 20_000, message: () => `another connection: ${JSON.stringify(pipeline.metrics().mqtt)}` },
      )
    }
  }
  network.mend()
  await flood
  assert.equal(acknowledged, total)
  const isComplete = async () => {
    await pipeline.flush()
    return (await servers.counted(table)).different === total
  }
  const message = () => `${total} different rows: ${JSON.stringify(pipeline.metrics())}`
  await waitFor(isComplete, { timeoutMs: 30_000, message }).catch(async (error) => {
    // Whether the broker did not deliver them, or we took them for others.
    const missing = await servers.rows(
      `SELECT toUInt32(number) AS seq FROM numbers(${total}) WHERE number NOT IN (SELECT seq FROM ${table}) LIMIT 10`,
    )
    const carried = missing.map(({ seq }) => [seq, network.carried(`"seq":${seq},`)])
    throw new Error(`${error.message}; missing, and how they were carried: ${JSON.stringify(carried)}`)
  })
  ledger.close()
})

test('a message that comes for the first time with DUP, and has the CRC-32C of an acknowledged one, is stored', { timeout }, async (t) => {
  const network = await startNetwork(t, servers.broker.port)
  const table = await servers.table('seq UInt32, v UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url: network.url, clientId: unique('client'), keepAliveSeconds: 1, reconnect },
    routes: [{ topic, table }],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  // A message is recognised by its content after 1,000 messages of which none was equal to another.
  const before = 1_100
  await publisher.flood(before, (seq) => ({ topic, payload: JSON.stringify({ seq, v: 0 }) }))
  // These two have the same CRC-32C, behind any topic.
  const [first, second] = [{ seq: 17153, v: 489953 }, { seq: 76322, v: 680499 }]
  await publisher.publish(topic, first)
  await settled(pipeline, before + 1)
  network.silence('down')
  await publisher.publish(topic, second)
  await settled(pipeline, before + 2)
  const seqs = await servers.rows(`SELECT seq FROM ${table} WHERE v > 0 ORDER BY seq`)
  assert.deepEqual(seqs, [{ seq: first.seq }, { seq: second.seq }])
})

for (const what of ['says nothing', 'does not answer SUBSCRIBE', 'falls silent after CONNACK']) {
  test(`a broker that lets us connect and ${what} is left for the next`, { timeout }, async (t) => {
    const table = await servers.table('seq UInt32')
    const dumb = await startScriptedBroker(t, {
      connect: what === 'says nothing' ? null : 0,
      subscribe: () => {
        if (what === 'falls silent after CONNACK') dumb.fallSilent()
        return null
      },
    })
    const broker = await startScriptedBroker(t)
    await servers.started(t, {
      mqtt: { url: [dumb.url, broker.url], protocolVersion: 4, keepAliveSeconds: 1, reconnect },
      routes: [{ topic: 'a', table }],
    })
    assert.deepEqual([dumb.connections, broker.connections], [1, 1])
  })
}

test('a process that was held up reads its socket before it reports a silent broker', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const mqtt = { url: broker.url, protocolVersion: 4, keepAliveSeconds: 1 }
  const program = startProgram(t, 'listens.mjs', {
    config: servers.config({ mqtt, routes: [{ topic: 'a', table }] }),
    how: 'listens',
  })
  await program.line('running')
  const pings = () => broker.packets.filter(({ type }) => type === 'PINGREQ').length
  for (let round = 0; round < 3; round++) {
    // Held up with a ping under way, whose answer then lies in the socket for longer than a silence may last.
    const before = pings()
    await waitFor(() => pings() > before, { intervalMs: 1, message: 'a ping' })
    program.signal('SIGSTOP')
    await lasting(2_000)
    program.signal('SIGCONT')
    await waitFor(() => pings() > before + 1, { message: 'another ping' })
  }
  assert.equal(broker.connections, 1)
})

test(
  'a full memory at QoS 0: reading stops, pings go on, and an answer behind our own backlog does not count as silence',
  { timeout },
  async (t) => {
    const table = await servers.table('seq UInt32, text String')
    const broker = await startScriptedBroker(t, { subscribe: 0 })
    const proxy = await startNetwork(t, servers.clickhouse.port)
    const maxBytes = 1024 * 1024
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, protocolVersion: 4, qos: 0, keepAliveSeconds: 1, maxPacketBytes: 2 ** 17, reconnect },
      clickhouse: { url: proxy.url.replace('mqtt', 'http'), requestTimeoutMs: 300, retry: { minMs: 20, maxMs: 100 } },
      memory: { maxBytes },
      routes: [{ topic: 'a', table }],
    })
    const pings = () => broker.packets.filter(({ type }) => type === 'PINGREQ').length
    proxy.delay(600)
    const total = 20_000
    const text = 'x'.repeat(500)
    for (let seq = 0; seq < total; seq++) broker.send(publishPacket('a', JSON.stringify({ seq, text }), { qos: 0 }))
    await waitFor(() => pipeline.metrics().memoryBytes >= maxBytes, { message: 'a full memory' })
    // Three keep-alive intervals, in which our pings are answered at the end of the backlog.
    const before = pings()
    await waitFor(() => pings() >= before + 6, { message: 'pings' })
    const full = pipeline.metrics()
    assert.ok(full.messages.received < total, `${full.messages.received} messages were taken`)
    proxy.mend()
    await settled(pipeline, total)
    assert.equal(broker.connections, 1)
    assert.deepEqual(await servers.counted(table), { rows: total, different: total })
    assertLedger(pipeline.metrics())
  },
)
