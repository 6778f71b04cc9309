// The same scenarios against several brokers, in each version of MQTT that the broker supports. The table below lists the
// features that a broker lacks, with the reason; those scenarios are skipped.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { connectAsync } from 'mqtt'
import { externalBroker, startAedes, startBroker, startRumqttd, waitFor } from '../../tools/servers/index.mjs'
import { onlyFull } from '../support/full.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { OPEN_BROKER, received, settled, unique, useServers } from '../support/servers.mjs'

/** Whether `mqtt.qos: 2` can be configured. */
const HAS_QOS_2 = true

const IN_MEMORY = 'keeps everything in memory'

const BROKERS = [
  {
    name: 'mosquitto',
    versions: [4, 5],
    qos2: true,
    start: () => startBroker({ config: OPEN_BROKER, persistence: true }),
    lacks: {},
  },
  {
    name: 'aedes',
    versions: [4],
    qos2: true,
    start: () => startAedes(),
    lacks: {
      'a restart of the broker': IN_MEMORY,
      'a shared subscription': 'has none: $share/… is a topic like any other',
    },
  },
  {
    name: 'rumqttd',
    versions: [4, 5],
    qos2: true,
    start: (protocolVersion) => startRumqttd({ protocolVersion }),
    // It has to be built first, which takes minutes.
    skip: onlyFull,
    lacks: {
      'a restart of the broker': IN_MEMORY,
      '$ topics': 'closes the connection of whoever subscribes below $',
    },
  },
]

const servers = useServers()
const timeout = 60_000
// The first start of a broker may have to build it.
const buildTimeout = 15 * 60_000
const reconnect = { minMs: 20, maxMs: 200 }

for (const { name, versions, qos2, start, skip: skipped, lacks } of BROKERS) {
  for (const protocolVersion of versions) {
    const version = protocolVersion === 4 ? '3.1.1' : '5'
    describe(`${name}, MQTT ${version}`, { skip: externalBroker ? 'MQTT_URL names the broker' : skipped }, () => {
      let broker
      before(
        async () => {
          broker = await start(protocolVersion)
        },
        { timeout: buildTimeout },
      )
      after(() => broker?.remove(), { timeout })

      /**
       * @param {string} what
       * @param {(t: any) => Promise<void>} scenario
       */
      const scenario = (what, scenario) => test(what, { timeout, skip: lacks[what] }, scenario)
      const mqtt = (more = {}) => ({ url: broker.url, protocolVersion, reconnect, ...more })
      const started = (t, more, config) => servers.started(t, { mqtt: mqtt(more), ...config })
      const publisher = (t, options = {}) => servers.publisher(t, { url: broker.url, protocolVersion, ...options })

      for (const qos of [0, 1, 2]) {
        const skip = qos === 2 && !(HAS_QOS_2 && qos2) ? 'mqtt.qos 2 is not available yet' : undefined
        test(`delivery at QoS ${qos}`, { timeout, skip: skip ?? lacks[`delivery at QoS ${qos}`] }, async (t) => {
          const table = await servers.table(COLUMNS)
          const prefix = unique('topic')
          const pipeline = await started(t, { qos }, { routes: [route(prefix, table)] })
          const sender = await publisher(t, { clients: 2, inFlight: 50 })
          await sender.flood(5_000, (i) => position(prefix, i), { qos })
          await settled(pipeline, 5_000)
          await assertPositions(servers, table, 5_000)
          assertLedger(pipeline.metrics())
        })
      }

      scenario('a restart of ours', async (t) => {
        const table = await servers.table(COLUMNS)
        const prefix = unique('topic')
        const clientId = unique('client')
        const sender = await publisher(t, { clients: 1, inFlight: 50 })
        const first = await started(t, { clientId }, { routes: [route(prefix, table)] })
        await sender.flood(500, (i) => position(prefix, i))
        await settled(first, 500)
        await first.stop()
        await sender.flood(500, (i) => position(prefix, 500 + i))
        const second = await started(t, { clientId }, { routes: [route(prefix, table)] })
        await settled(second, 500)
        await sender.flood(500, (i) => position(prefix, 1_000 + i))
        await settled(second, 1_000)
        await assertPositions(servers, table, 1_500)
      })

      scenario('a restart of the broker', async (t) => {
        const table = await servers.table(COLUMNS)
        const prefix = unique('topic')
        const pipeline = await started(t, { clientId: unique('client') }, { routes: [route(prefix, table)] })
        // A session of its own lets the publisher bring, after the outage, what was not acknowledged before it.
        const sender = await publisher(t, { clients: 1, inFlight: 50, clientId: unique('publisher'), clean: false })
        const total = 5_000
        const flood = sender.flood(total, (i) => position(prefix, i))
        await received(pipeline, 500)
        await broker.stop()
        await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: 'the connection gone' })
        await broker.start()
        await flood
        await waitFor(
          async () => {
            await pipeline.flush()
            return (await servers.counted(table)).different === total
          },
          { timeoutMs: 30_000, message: () => JSON.stringify(pipeline.metrics()) },
        )
        assertLedger(pipeline.metrics())
      })

      scenario('a broker that forgot us', async (t) => {
        const table = await servers.table(COLUMNS)
        const prefix = unique('topic')
        const pipeline = await started(t, {}, { routes: [route(prefix, table)] })
        await broker.kill()
        await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: 'the connection gone' })
        await broker.start()
        await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: 'the connection back' })
        const sender = await publisher(t, { clients: 1 })
        await sender.flood(100, (i) => position(prefix, i))
        await settled(pipeline, 100)
        await assertPositions(servers, table, 100)
      })

      scenario('a shared subscription', async (t) => {
        const table = await servers.table('seq UInt32, client String')
        const topic = unique('topic')
        const pipeline = await started(
          t,
          { clientId: unique('client'), sharedGroup: unique('group'), connections: 4 },
          { routes: [{ topic, table, columns: { client: { meta: 'clientId' } } }] },
        )
        const sender = await publisher(t, { clients: 2, inFlight: 50 })
        await sender.flood(4_000, (seq) => ({ topic, payload: JSON.stringify({ seq }) }))
        await settled(pipeline, 4_000)
        assert.deepEqual(await servers.counted(table), { rows: 4_000, different: 4_000 })
        assert.equal((await servers.rows(`SELECT DISTINCT client FROM ${table}`)).length, 4)
        assertLedger(pipeline.metrics())
      })

      scenario('retained messages', async (t) => {
        const table = await servers.table('seq UInt32, retain Bool')
        const prefix = unique('topic')
        const sender = await publisher(t, { clients: 1 })
        for (let seq = 0; seq < 3; seq++) await sender.publish(`${prefix}/${seq}`, { seq }, { retain: true })
        const pipeline = await started(
          t,
          {},
          { routes: [{ topic: `${prefix}/+`, table, columns: { retain: { meta: 'retain' } } }] },
        )
        await received(pipeline, 3)
        await sender.publish(`${prefix}/3`, { seq: 3 })
        await settled(pipeline, 4)
        assert.deepEqual(await servers.rows(`SELECT * FROM ${table} ORDER BY seq`), [
          ...[0, 1, 2].map((seq) => ({ seq, retain: true })),
          { seq: 3, retain: false },
        ])
      })

      scenario('the will of another client', async (t) => {
        const table = await servers.table('seq UInt32')
        const topic = unique('topic')
        const pipeline = await started(t, {}, { routes: [{ topic, table }] })
        const payload = Buffer.from('{"seq":1}')
        const will = { topic, payload, qos: 1, retain: false }
        const options = /** @type {any} */ ({ protocolVersion, reconnectPeriod: 0, will })
        const client = await connectAsync(broker.url, options)
        client.on('error', () => {})
        client.stream.destroy()
        await settled(pipeline, 1)
        assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ seq: 1 }])
      })

      scenario('wildcards', async (t) => {
        const table = await servers.table('topic String, route String')
        const prefix = unique('topic')
        const by = (name) => ({ topic: { meta: 'topic' }, route: { value: name } })
        const pipeline = await started(
          t,
          {},
          {
            routes: [
              { topic: `${prefix}/one/+/end`, table, columns: by('plus') },
              { topic: `${prefix}/two/#`, table, columns: by('hash') },
            ],
          },
        )
        const sender = await publisher(t, { clients: 1 })
        const matched = ['one/a/end', 'one//end', 'two', 'two/', 'two/a', 'two/a/b/c'].map((topic) => `${prefix}/${topic}`)
        for (const topic of ['one/a/b/end', 'one/a', 'three']) await sender.publish(`${prefix}/${topic}`, '{}')
        for (const topic of matched) await sender.publish(topic, '{}')
        await settled(pipeline, matched.length)
        const rows = await servers.rows(`SELECT topic, route FROM ${table}`)
        const expected = matched.map((topic) => ({ topic, route: topic.includes('/one/') ? 'plus' : 'hash' }))
        const byTopic = (a, b) => (a.topic < b.topic ? -1 : 1)
        assert.deepEqual(rows.sort(byTopic), expected.sort(byTopic))
        assert.equal(pipeline.metrics().messages.received, matched.length)
      })

      scenario('$ topics', async (t) => {
        const table = await servers.table('topic String')
        const name = unique('topic')
        const columns = { topic: { meta: 'topic' } }
        // Messages that other scenarios retained do not count.
        const all = await started(t, { retained: 'skip' }, { routes: [{ topic: '#', table, columns }] })
        const dollar = await started(t, {}, { routes: [{ topic: `$${name}/#`, table, columns }] })
        const sender = await publisher(t, { clients: 1 })
        await sender.publish(`$${name}/a`, '{}')
        await settled(dollar, 1)
        // Wildcards at the beginning do not match them [MQTT-4.7.2-1].
        await sender.publish(name, '{}')
        await waitFor(() => all.metrics().messages.inserted >= 1, { message: 'the other one' })
        await all.flush()
        const topics = (await servers.rows(`SELECT topic FROM ${table} ORDER BY topic`)).map((row) => row.topic)
        assert.deepEqual(topics, [`$${name}/a`, name])
      })

      scenario('a topic of 64 KB', async (t) => {
        const table = await servers.table('seq UInt32, rest String')
        const prefix = unique('topic')
        const pipeline = await started(
          t,
          {},
          { routes: [{ topic: `${prefix}/{rest}`, table, columns: { rest: { topic: 'rest' } } }] },
        )
        const rest = 'x'.repeat(65_535 - prefix.length - 1)
        const sender = await publisher(t, { clients: 1 })
        await sender.publish(`${prefix}/${rest}`, { seq: 1 })
        await settled(pipeline, 1)
        assert.deepEqual(await servers.rows(`SELECT seq, rest = '${rest}' AS whole FROM ${table}`), [{ seq: 1, whole: 1 }])
      })

      scenario('an empty payload', async (t) => {
        const table = await servers.table('topic String, payload String')
        const topic = unique('topic')
        const columns = { topic: { meta: 'topic' }, payload: { meta: 'payload' } }
        const pipeline = await started(t, {}, { routes: [{ topic, table, columns }] })
        const sender = await publisher(t, { clients: 1 })
        await sender.publish(topic, '')
        await settled(pipeline, 1)
        assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ topic, payload: '' }])
      })

      scenario('a payload of 10 MB', async (t) => {
        const table = await servers.table('seq UInt32, text String')
        const topic = unique('topic')
        const pipeline = await started(t, { maxPacketBytes: 16 * 1024 * 1024 }, { routes: [{ topic, table }] })
        const sender = await publisher(t, { clients: 1 })
        const text = 'x'.repeat(10 * 1024 * 1024)
        await sender.publish(topic, { seq: 1, text })
        await sender.publish(topic, { seq: 2, text: '' })
        await settled(pipeline, 2)
        const rows = await servers.rows(`SELECT seq, toUInt32(length(text)) AS bytes FROM ${table} ORDER BY seq`)
        assert.deepEqual(rows, [
          { seq: 1, bytes: text.length },
          { seq: 2, bytes: 0 },
        ])
      })

      scenario('a client id that another takes over', async (t) => {
        const table = await servers.table(COLUMNS)
        const prefix = unique('topic')
        const taken = { clientId: unique('client'), reconnect: { minMs: 10_000, maxMs: 60_000 } }
        const old = await started(t, taken, { routes: [route(prefix, table)] })
        const fresh = await started(t, taken, { routes: [route(prefix, table)] })
        await waitFor(() => old.metrics().mqtt.connected === 0, { message: 'the older one gone' })
        const sender = await publisher(t, { clients: 1 })
        await sender.flood(100, (i) => position(prefix, i))
        await settled(fresh, 100)
        await assertPositions(servers, table, 100)
      })
    })
  }
}
