// One table of scenarios, played with each broker as it is by default. The text that a scenario returns is its cell in
// docs/brokers.md: how the broker behaves, or the result. `npm run brokers` plays all and writes the page.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectAsync } from 'mqtt'
import { checkPipeline } from '../../index.js'
import { externalBroker, waitFor } from '../../tools/servers/index.mjs'
import { BrokerTable } from '../support/broker-table.mjs'
import { TARGETS } from '../support/brokers.mjs'
import { full } from '../support/full.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { COLUMNS, assertPositions, position, route } from '../support/positions.mjs'
import { startNetwork, startProxy } from '../support/proxy.mjs'
import { startRawSubscriber } from '../support/raw-subscriber.mjs'
import { collect, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = full ? 900_000 : 120_000
/** A window of 10 (RabbitMQ) allows about 100 messages a second in rows on a busy machine. */
const rowsTimeoutMs = full ? 600_000 : 60_000
const reconnect = { minMs: 10, maxMs: 100 }
const CUTS = full ? 200 : 20
/**
 * How many messages come before the first cut. How the broker numbers its messages, and whether the publishers repeat themselves, is
 * known after 1,000: before that a redelivery whose acknowledgement was lost may be taken as a new message.
 */
const KNOWN = 1_200
const YES = 'yes'
/** Scenarios that only one broker needs. */
const ONLY = { "topicRewrite: 'rabbitmq'": 'RabbitMQ', '70,000 messages of QoS 2': 'aedes' }
const NO_NEED = '–'

/** A broker, and what a scenario needs to play with it. */
class Stage {
  /** @type {any} */
  broker

  constructor(target) {
    this.target = target
    this.isV5 = target.speaks === 5
  }

  mqtt(more = {}) {
    const { protocolVersion } = this.target
    return { url: this.broker.url, ...(protocolVersion && { protocolVersion }), reconnect, ...more }
  }

  pipeline(t, more, config) {
    return servers.pipeline(t, { mqtt: this.mqtt(more), ...config })
  }

  started(t, more, config) {
    return servers.started(t, { mqtt: this.mqtt(more), ...config })
  }

  publisher(t, options = {}) {
    return servers.publisher(t, {
      url: this.broker.url,
      protocolVersion: this.target.protocolVersion ?? 4,
      clients: 1,
      inFlight: 20,
      ...options,
    })
  }

  raw(t, options) {
    return startRawSubscriber(t, this.broker.port, { version: this.target.speaks, clientId: unique('raw'), ...options })
  }
}

/** @type {Record<string, (t: any, stage: Stage) => Promise<string>>} */
const SCENARIOS = {
  version: async (_t, { broker, target }) => {
    const version = target.version(broker)
    assert.ok(version, 'its version')
    return version
  },

  'default options': async (t, stage) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const { protocolVersion } = stage.target
    const mqtt = { url: stage.broker.url, ...(protocolVersion && { protocolVersion }) }
    const pipeline = servers.pipeline(t, { mqtt, routes: [route(prefix, table)] })
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    const spoken = pipeline.metrics().mqtt.protocolVersion
    assert.equal(spoken, stage.target.speaks)
    const sender = await stage.publisher(t)
    await sender.flood(200, (i) => position(prefix, i))
    await settled(pipeline, 200)
    await assertPositions(servers, table, 200)
    const fallbacks = warnings.filter((warning) => warning.code === 'MQTT_FALLBACK')
    const isFallback = spoken === 4 && !protocolVersion
    assert.deepEqual(
      fallbacks.map(({ url, protocolVersion }) => ({ url, protocolVersion })),
      isFallback ? [{ url: stage.broker.url, protocolVersion: 4 }] : [],
    )
    if (protocolVersion) return `with protocolVersion ${protocolVersion}`
    return isFallback ? 'MQTT 3.1.1, after MQTT 5 was refused' : 'MQTT 5'
  },

  ...Object.fromEntries([0, 1, 2].map((qos) => [`QoS ${qos}`, (t, stage) => delivery(t, stage, qos)])),

  // More than there are packet ids. Messages that aedes has not released come again after a cut or a restart.
  '70,000 messages of QoS 2': async (t, stage) => {
    const total = full ? 70_000 : 500
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const network = await startNetwork(t, stage.broker.port)
    const mqtt = { url: network.url, clientId: unique('client'), qos: 2 }
    const first = await stage.started(t, mqtt, { routes: [route(prefix, table)] })
    const sender = await stage.publisher(t)
    await sender.flood(total, (i) => position(prefix, i), { qos: 2 })
    await settled(first, total, { timeoutMs: rowsTimeoutMs })
    assert.equal(first.metrics().mqtt.reconnects, 0)
    await waitFor(() => first.metrics().mqtt.unacknowledged === 0, { timeoutMs: 60_000, message: 'acknowledgements' })
    network.cut()
    await waitFor(() => first.metrics().mqtt.reconnects === 1, { message: 'the connection back' })
    const { received: before } = first.metrics().messages
    const more = sender.flood(500, (i) => position(prefix, total + i), { qos: 2 })
    await received(first, before + 100)
    await first.stop()
    await more
    const second = await stage.started(t, mqtt, { routes: [route(prefix, table)] })
    await waitFor(async () => (await numbers(table)).size === total + 500, { timeoutMs: 60_000, message: 'all rows' })
    await second.flush()
    await assertPositions(servers, table, total + 500)
    return YES
  },

  'captured levels': async (t, stage) => {
    const table = await servers.table('seq UInt32, site String, dev String')
    const prefix = unique('topic')
    const pipeline = await stage.started(t, {}, { routes: [{ topic: `${prefix}/{site}/+/{dev}`, table }] })
    const sender = await stage.publisher(t)
    const levels = [['s1', 'd1'], ['', 'Größe'], ['s1', ''], ['s.2', 'd.2'], ['last', 'one']]
    for (const [seq, [site, dev]] of levels.entries()) await sender.publish(`${prefix}/${site}/x/${dev}`, { seq })
    const rows = () => servers.rows(`SELECT * FROM ${table} ORDER BY seq`)
    await waitFor(async () => (await rows()).at(-1)?.seq === levels.length - 1, { message: 'the last one' })
    await pipeline.flush()
    const there = await rows()
    const expected = levels.map(([site, dev], seq) => ({ seq, site, dev }))
    const missed = expected.filter(({ seq }) => !there.some((row) => row.seq === seq))
    assert.deepEqual(there, expected.filter((row) => !missed.includes(row)))
    if (missed.length === 0) return YES
    // RabbitMQ: a dot is a slash, and `+` matches one level.
    assert.deepEqual(missed.map(({ site }) => site), ['s.2'])
    return 'yes; a level with a dot becomes two'
  },

  wildcards: async (t, stage) => {
    const table = await servers.table('topic String, route String')
    const prefix = unique('topic')
    const by = (name) => ({ topic: { meta: 'topic' }, route: { value: name } })
    const routes = [
      { topic: `${prefix}/one/+/end`, table, columns: by('plus') },
      { topic: `${prefix}/two/#`, table, columns: by('hash') },
    ]
    const pipeline = await stage.started(t, {}, { routes })
    const sender = await stage.publisher(t)
    const matched = ['one/a/end', 'one//end', 'two', 'two/', 'two/a', 'two/a/b/c'].map((topic) => `${prefix}/${topic}`)
    for (const topic of ['one/a/b/end', 'one/a', 'three']) await sender.publish(`${prefix}/${topic}`, '{}')
    for (const topic of matched) await sender.publish(topic, '{}')
    await settled(pipeline, matched.length)
    const rows = await servers.rows(`SELECT topic, route FROM ${table}`)
    const expected = matched.map((topic) => ({ topic, route: topic.includes('/one/') ? 'plus' : 'hash' }))
    const byTopic = (a, b) => (a.topic < b.topic ? -1 : 1)
    assert.deepEqual(rows.sort(byTopic), expected.sort(byTopic))
    assert.equal(pipeline.metrics().messages.received, matched.length)
    return YES
  },

  '$ topics': async (t, stage) => {
    const table = await servers.table('topic String')
    const name = unique('topic')
    const columns = { topic: { meta: 'topic' } }
    // Messages that other scenarios retained do not count.
    const all = await stage.started(t, { retained: 'skip' }, { routes: [{ topic: '#', table, columns }] })
    const dollar = await stage.started(t, {}, { routes: [{ topic: `$${name}/#`, table, columns }] })
    const sender = await stage.publisher(t)
    await sender.publish(`$${name}/a`, '{}')
    const isThere = await arrived(dollar, table, 1, 5_000).then(() => true, () => false)
    if (!isThere) return 'no: it delivers none of them'
    // Wildcards at the beginning do not match them [MQTT-4.7.2-1].
    await sender.publish(name, '{}')
    const own = () => servers.rows(`SELECT topic, toUInt32(count()) AS rows FROM ${table} WHERE topic LIKE '%${name}%' GROUP BY topic ORDER BY topic`)
    await waitFor(async () => (await own()).length === 2, { message: 'the other one' })
    await all.flush()
    const [{ rows }, ordinary] = await own()
    assert.equal(ordinary.rows, 1)
    return rows === 1 ? YES : 'a filter that begins with a wildcard brings them too'
  },

  'retained messages': async (t, stage) => {
    const table = await servers.table('seq UInt32, retain Bool')
    const prefix = unique('topic')
    const sender = await stage.publisher(t)
    for (let seq = 0; seq < 3; seq++) await sender.publish(`${prefix}/${seq}`, { seq }, { retain: true })
    const columns = { retain: { meta: 'retain' } }
    const exact = await stage.started(t, {}, { routes: [{ topic: `${prefix}/0`, table, columns }] })
    await arrived(exact, table, 1)
    await exact.stop()
    assert.deepEqual(await servers.rows(`SELECT DISTINCT * FROM ${table}`), [{ seq: 0, retain: true }])
    const pipeline = await stage.started(t, {}, { routes: [{ topic: `${prefix}/+`, table, columns }] })
    await sender.publish(`${prefix}/3`, { seq: 3 })
    const rows = () => servers.rows(`SELECT DISTINCT * FROM ${table} ORDER BY seq`)
    await waitFor(async () => (await rows()).some(({ seq }) => seq === 3), { message: 'the live one' })
    await pipeline.flush()
    const seen = await rows()
    assert.deepEqual(seen.at(-1), { seq: 3, retain: false })
    if (seen.length === 2) return 'not by a filter with wildcards'
    assert.deepEqual(seen.slice(0, 3), [0, 1, 2].map((seq) => ({ seq, retain: true })))
    return YES
  },

  'the will of another client': async (t, stage) => {
    const table = await servers.table('seq UInt32')
    const topic = unique('topic')
    const pipeline = await stage.started(t, {}, { routes: [{ topic, table }] })
    const will = { topic, payload: Buffer.from('{"seq":1}'), qos: 1, retain: false }
    const protocolVersion = stage.target.protocolVersion ?? 4
    const options = /** @type {any} */ ({ protocolVersion, reconnectPeriod: 0, will })
    const client = await connectAsync(stage.broker.url, options)
    client.on('error', () => {})
    client.stream.destroy()
    await arrived(pipeline, table, 1)
    assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ seq: 1 }])
    return YES
  },

  'an empty payload': async (t, stage) => {
    const table = await servers.table('topic String, payload String')
    const topic = unique('topic')
    const columns = { topic: { meta: 'topic' }, payload: { meta: 'payload' } }
    const pipeline = await stage.started(t, {}, { routes: [{ topic, table, columns }] })
    const sender = await stage.publisher(t)
    await sender.publish(topic, '')
    await arrived(pipeline, table, 1)
    assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ topic, payload: '' }])
    return YES
  },

  'a topic of 64 KB': async (t, stage) => {
    const table = await servers.table('seq UInt32, rest String')
    const prefix = unique('topic')
    const routes = [{ topic: `${prefix}/{rest}`, table, columns: { rest: { topic: 'rest' } } }]
    const pipeline = await stage.started(t, {}, { routes })
    const rest = 'x'.repeat(65_535 - prefix.length - 1)
    return taken(t, stage, pipeline, `${prefix}/${rest}`, { seq: 1 }, async () => {
      const rows = await servers.rows(`SELECT seq, rest = '${rest}' AS whole FROM ${table}`)
      assert.deepEqual(rows, [{ seq: 1, whole: 1 }])
    })
  },

  'a payload of 10 MB': async (t, stage) => {
    const table = await servers.table('seq UInt32, text String')
    const topic = unique('topic')
    const pipeline = await stage.started(t, { maxPacketBytes: 16 * 1024 * 1024 }, { routes: [{ topic, table }] })
    const text = 'x'.repeat(10 * 1024 * 1024)
    return taken(t, stage, pipeline, topic, { seq: 1, text }, async () => {
      const sender = await stage.publisher(t)
      await sender.publish(topic, { seq: 2, text: '' })
      await settled(pipeline, 2)
      const rows = await servers.rows(`SELECT seq, toUInt32(length(text)) AS bytes FROM ${table} ORDER BY seq`)
      assert.deepEqual(rows, [
        { seq: 1, bytes: text.length },
        { seq: 2, bytes: 0 },
      ])
    })
  },

  'overlapping routes': async (t, stage) => {
    const [first, second] = [await servers.table('seq UInt32'), await servers.table('seq UInt32')]
    const prefix = unique('topic')
    const routes = [
      { topic: `${prefix}/+/c`, table: first },
      { topic: `${prefix}/b/+`, table: second },
    ]
    const pipeline = stage.pipeline(t, {}, { routes })
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    const sender = await stage.publisher(t)
    // Each content twice, one behind the other: equal messages are not copies.
    await sender.flood(20, (i) => ({ topic: `${prefix}/b/c`, payload: JSON.stringify({ seq: i >> 1 }) }))
    await sender.flood(5, (seq) => ({ topic: `${prefix}/b/d`, payload: JSON.stringify({ seq }) }))
    await sender.flood(5, (seq) => ({ topic: `${prefix}/x/y`, payload: JSON.stringify({ seq }) }))
    await sender.publish(`${prefix}/x/c`, { seq: 99 })
    const message = () => JSON.stringify(pipeline.metrics().messages)
    await waitFor(async () => (await servers.count(first)) >= 21, { message })
    await pipeline.flush()
    assert.deepEqual(await servers.counted(first), { rows: 21, different: 11 })
    assert.deepEqual(await servers.counted(second), { rows: 5, different: 5 })
    const { inserted, skipped, deadLettered } = pipeline.metrics().messages
    // With subscription identifiers the copies are skipped, without them what no route takes.
    assert.deepEqual([inserted, deadLettered], [26, 0])
    // amqtt sends retained messages of others as well.
    if (!stage.isV5) assert.ok(skipped >= 5, `${skipped} skipped`)
    assert.deepEqual(warnings.filter((warning) => warning.code === 'FILTERS_OVERLAP'), [])
    return `${YES}: each message is one row`
  },

  "topicRewrite: 'rabbitmq'": async (t, stage) => {
    const table = await servers.table('seq UInt32, dev String')
    const prefix = unique('topic')
    const routes = [{ topic: `${prefix}/plant.1/{dev}/temp`, table }]
    const sender = await stage.publisher(t)
    const topic = `${prefix}/plant.1/d7/temp`
    const flood = () => sender.flood(3, (seq) => ({ topic, payload: JSON.stringify({ seq }) }))

    const unaware = stage.pipeline(t, {}, { routes })
    const warnings = collect(unaware, 'warning')
    await unaware.start()
    await flood()
    await waitFor(() => unaware.metrics().messages.deadLettered === 3, { message: 'three dead letters' })
    const rewritten = () => warnings.filter((warning) => warning.code === 'TOPIC_REWRITTEN')
    await waitFor(() => rewritten().length > 0, { message: 'the warning' })
    assert.deepEqual(rewritten().map(({ topic }) => topic), [`${prefix}/plant/1/d7/temp`])
    assert.match(rewritten()[0].message, /mqtt\.topicRewrite to 'rabbitmq'/)
    await unaware.stop()

    const aware = await stage.started(t, { topicRewrite: 'rabbitmq' }, { routes })
    await flood()
    await settled(aware, 3)
    const expected = [0, 1, 2].map((seq) => ({ seq, dev: 'd7' }))
    assert.deepEqual(await servers.rows(`SELECT seq, dev FROM ${table} ORDER BY seq`), expected)

    const found = async (mqtt) => {
      const { findings } = await checkPipeline(servers.config({ mqtt: stage.mqtt(mqtt), routes }))
      return findings.filter(({ code }) => code === 'TOPIC_REWRITTEN').map(({ level, path }) => ({ level, path }))
    }
    assert.deepEqual(await found({}), [{ level: 'warning', path: 'routes[0].topic' }])
    assert.deepEqual(await found({ topicRewrite: 'rabbitmq' }), [])
    return YES
  },

  'a restart of ours': async (t, stage) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const clientId = unique('client')
    const sender = await stage.publisher(t)
    const first = await stage.started(t, { clientId }, { routes: [route(prefix, table)] })
    await sender.flood(200, (i) => position(prefix, i))
    await settled(first, 200)
    await first.stop()
    await sender.flood(200, (i) => position(prefix, 200 + i))
    const second = await stage.started(t, { clientId }, { routes: [route(prefix, table)] })
    await sender.flood(200, (i) => position(prefix, 400 + i))
    await settled(second, 200)
    await waitFor(async () => (await numbers(table)).has(599), { message: 'the last message' })
    await second.flush()
    return keptSession(table, 200, 400, 600)
  },

  'a restart of the broker': async (t, stage) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await stage.started(t, { clientId: unique('client') }, { routes: [route(prefix, table)] })
    // A session of its own lets the publisher bring, after the outage, what was not acknowledged before it.
    const sender = await stage.publisher(t, { clientId: unique('publisher'), clean: false })
    const total = full ? 5_000 : 1_000
    const flood = sender.flood(total, (i) => position(prefix, i))
    await received(pipeline, 100)
    await stage.broker.stop()
    await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: 'the connection gone' })
    await stage.broker.start()
    await flood
    const last = () => JSON.stringify(pipeline.metrics())
    await waitFor(async () => (await numbers(table)).has(total - 1), { timeoutMs: 60_000, message: last })
    await pipeline.flush()
    assertLedger(pipeline.metrics())
    // The publisher sends again what was not acknowledged to it.
    const isKept = (await numbers(table)).size === total
    // By chance nothing was under way.
    return isKept && !stage.target.isForgetful ? YES : 'yes; it keeps no session'
  },

  'a broker that forgot us': async (t, stage) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await stage.started(t, {}, { routes: [route(prefix, table)] })
    await stage.broker.kill()
    await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: 'the connection gone' })
    await stage.broker.start()
    await waitFor(() => pipeline.metrics().mqtt.connected === 1, { timeoutMs: 60_000, message: 'the connection back' })
    const sender = await stage.publisher(t)
    await sender.flood(100, (i) => position(prefix, i))
    await settled(pipeline, 100)
    await assertPositions(servers, table, 100)
    return YES
  },

  'a client id that another takes over': async (t, stage) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const mqtt = { clientId: unique('client'), reconnect: { minMs: 10_000, maxMs: 60_000 } }
    const old = await stage.started(t, mqtt, { routes: [route(prefix, table)] })
    const fresh = await stage.started(t, mqtt, { routes: [route(prefix, table)] })
    await waitFor(() => old.metrics().mqtt.connected === 0, { message: 'the older one gone' })
    const sender = await stage.publisher(t)
    await sender.flood(100, (i) => position(prefix, i))
    const isThere = await arrived(fresh, table, 100, 10_000).then(() => true, () => false)
    if (!isThere) return 'no: the newer client receives nothing'
    await assertPositions(servers, table, 100)
    return YES
  },

  'ClickHouse away for 10 s, 20,000 messages': async (t, stage) => {
    const [total, awayMs] = full ? [20_000, 10_000] : [500, 300]
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const clickhouse = await startProxy(t, servers.clickhouse.port)
    const url = `http://127.0.0.1:${clickhouse.port}`
    const mqtt = { clientId: unique('client') }
    const pipeline = await stage.started(t, mqtt, { clickhouse: { url }, routes: [route(prefix, table)] })
    const sender = await stage.publisher(t)
    clickhouse.refuse()
    const flood = sender.flood(total, (i) => position(prefix, i))
    await waitFor(() => pipeline.metrics().inserts.retried > 0, { message: 'a failed INSERT' })
    await sleep(awayMs)
    clickhouse.accept()
    await flood
    await settled(pipeline, total, { timeoutMs: rowsTimeoutMs })
    await assertPositions(servers, table, total)
    assertLedger(pipeline.metrics())
    return YES
  },

  'cut connections': (t, stage) => cuts(t, stage, false),
  'cut connections, with a spool': (t, stage) => cuts(t, stage, true),

  // Nothing distinguishes a message that comes again from an equal one that is new: it may be doubled, and is never lost.
  'equal messages and 50 cuts': async (t, stage) => {
    const table = await servers.table('seq UInt32')
    const topic = unique('topic')
    const network = await startNetwork(t, stage.broker.port)
    const mqtt = { url: network.url, clientId: unique('client') }
    const pipeline = await stage.started(t, mqtt, { routes: [{ topic, table }] })
    const sender = await stage.publisher(t)
    let total = 0
    for (let cut = 0; cut < (full ? 50 : 5); cut++) {
      const { reconnects } = pipeline.metrics().mqtt
      const from = total
      total += 20
      // Each content three times, one behind the other.
      const sending = sender.flood(60, (i) => ({ topic, payload: JSON.stringify({ seq: from + Math.floor(i / 3) }) }))
      await sleep(Math.random() * 40)
      network.cut()
      await waitFor(() => pipeline.metrics().mqtt.reconnects > reconnects, { timeoutMs: 30_000, message: 'the connection' })
      await sending
    }
    const thrice = async () => {
      await pipeline.flush()
      const [{ count }] = await servers.rows(
        `SELECT toUInt32(count()) AS count FROM (SELECT seq FROM ${table} GROUP BY seq HAVING count() >= 3)`,
      )
      return count === total
    }
    await waitFor(thrice, { timeoutMs: 60_000, message: () => `three rows of each: ${JSON.stringify(pipeline.metrics())}` })
    t.diagnostic(`${await servers.count(table)} rows of ${3 * total} messages`)
    assertLedger(pipeline.metrics())
    return 'none lost'
  },

  'a shared group': async (t, stage) => {
    const table = await servers.table('seq UInt32, client String')
    const topic = unique('topic')
    const mqtt = { clientId: unique('client'), sharedGroup: unique('group'), connections: 4 }
    const pipeline = stage.pipeline(t, mqtt, {
      routes: [{ topic, table, columns: { client: { meta: 'clientId' } } }],
    })
    const sender = await stage.publisher(t, { clients: 2 })
    const warnings = collect(pipeline, 'warning')
    try {
      await pipeline.start()
    } catch (error) {
      assert.equal(error.code, 'SUBSCRIPTION_REFUSED')
      assert.match(error.message, new RegExp(`${stage.target.name} has no shared subscriptions`))
      // It is right: an ordinary subscriber of that filter gets nothing.
      const alone = await stage.raw(t, { filters: [`$share/g/${topic}`, topic] })
      await sender.publish(topic, 'x')
      await waitFor(() => alone.messages.length > 0, { message: 'the ordinary copy' })
      assert.equal(await atRest(() => alone.messages.length), 1)
      return 'none: `SUBSCRIPTION_REFUSED`'
    }
    const total = full ? 4_000 : 1_000
    await sender.flood(total, (seq) => ({ topic, payload: JSON.stringify({ seq }) }))
    const isSilent = () => warnings.some((warning) => warning.code === 'SHARED_GROUP_SILENT')
    const isThere = async () => (await servers.count(table)) >= total
    await waitFor(async () => isSilent() || (await isThere()), { timeoutMs: 30_000, message: 'rows, or a warning' })
    if (isSilent()) {
      assert.equal(await servers.count(table), 0)
      return 'none: `SHARED_GROUP_SILENT`'
    }
    assert.deepEqual(await servers.counted(table), { rows: total, different: total })
    assert.equal((await servers.rows(`SELECT DISTINCT client FROM ${table}`)).length, 4)
    assertLedger(pipeline.metrics())
    return YES
  },

  'a version that it does not speak': async (t, stage) => {
    const table = await servers.table(COLUMNS)
    const { speaks, protocolVersion } = stage.target
    const other = speaks === 4 ? 5 : 4
    const routes = [route(unique('topic'), table)]
    const pipeline = stage.pipeline(t, { protocolVersion: other }, { routes })
    try {
      await pipeline.start()
      return `speaks MQTT ${other === 4 ? '3.1.1' : '5'} too`
    } catch (error) {
      assert.match(error.message, new RegExp(`mqtt\\.protocolVersion ${other}.*'auto' or ${speaks}`))
      return protocolVersion ? 'its port speaks one version' : `has no MQTT ${other === 4 ? '3.1.1' : '5'}`
    }
  },

  // By a subscriber that acknowledges nothing. Whatever the publishers do, WINDOW_NARROW names this number and this setting.
  'unacknowledged messages in flight': async (t, stage) => {
    const topic = unique('topic')
    const subscriber = await stage.raw(t, { filters: [topic] })
    const sender = await stage.publisher(t, { inFlight: 200 })
    const total = 1_100
    await sender.flood(total, (i) => ({ topic, payload: String(i) }))
    const count = await atRest(() => subscriber.messages.length)

    const table = await servers.table('seq UInt32')
    const routes = [{ topic: `${topic}/+`, table }]
    const pipeline = stage.pipeline(t, {}, { routes })
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    let sent = 0
    for (const [rounds, burst] of full ? [[40, 1], [40, 9], [40, 50], [2, 1_500]] : [[10, 9], [15, 50], [1, 1_500]]) {
      for (let round = 0; round < rounds; round++) {
        await sender.flood(burst, (seq) => ({ topic: `${topic}/${seq}`, payload: JSON.stringify({ seq }) }))
        sent += burst
        await sleep(25)
      }
    }
    await settled(pipeline, sent, { timeoutMs: rowsTimeoutMs })
    const narrow = warnings.filter((warning) => warning.code === 'WINDOW_NARROW')
    t.diagnostic(`WINDOW_NARROW: ${narrow.map(({ message }) => message)}`)
    // A broker that is slow to answer is not recognised, and all of them are named.
    let advice
    for (let attempt = 0; attempt < 5 && (advice === undefined || /EMQX \(32\)/.test(advice)); attempt++) {
      const { findings } = await checkPipeline(servers.config({ mqtt: stage.mqtt(), routes }))
      advice = findings.find(({ code }) => code === 'WINDOW_UNKNOWN')?.advice
      if (advice === undefined) break
    }
    if (count === total) {
      assert.deepEqual(narrow, [])
      return `all ${total.toLocaleString('en')}`
    }
    // rumqttd is not recognised: all settings that may be meant are named.
    if (stage.target.name.startsWith('rumqttd')) {
      for (const { inflightMessages, message } of narrow) {
        assert.equal(inflightMessages, count)
        assert.match(message, /or what your broker calls it/)
      }
      return `${count.toLocaleString('en')} (\`max_inflight_count\`)`
    }
    const setting = /batch\.maxRows: (\S+) in/.exec(advice ?? '')?.[1]
    for (const { inflightMessages, message } of narrow) {
      assert.equal(inflightMessages, count)
      assert.match(message, new RegExp(`raise ${setting} in ${stage.target.name.split(',')[0]}`))
    }
    return `${count.toLocaleString('en')} (\`${setting}\`)`
  },

  'copies for two filters of one client': async (t, stage) => {
    const prefix = unique('topic')
    const subscriber = await stage.raw(t, { filters: [`${prefix}/+/c`, `${prefix}/b/+`] })
    const sender = await stage.publisher(t)
    await sender.publish(`${prefix}/b/c`, 'x')
    await waitFor(() => subscriber.messages.length > 0, { message: 'a copy' })
    return String(await atRest(() => subscriber.messages.length))
  },

  'delivered again to a session': async (t, stage) => {
    const [topic, clientId] = [unique('topic'), unique('raw')]
    const first = await stage.raw(t, { clientId, clean: false, filters: [topic] })
    const sender = await stage.publisher(t)
    for (let i = 0; i < 4; i++) await sender.publish(topic, `${i}`)
    await waitFor(() => first.messages.length === 4, { message: 'four messages' })
    const ids = first.messages.map(({ id }) => id)
    first.acknowledge([ids[0]])
    // Some brokers have read that before they notice the end, some have not.
    await sleep(200)
    first.cut()
    const second = await stage.raw(t, { clientId, clean: false })
    await waitFor(() => second.messages.length >= 3, { timeoutMs: 5_000, message: 'three messages' }).catch(() => {})
    const again = second.messages.filter(({ payload }) => payload !== '0')
    if (again.length === 0) return 'nothing'
    const [isSame, isMarked] = [again.every(({ id }, i) => id === ids[i + 1]), again.every(({ dup }) => dup)]
    return `${isSame ? 'same packet ids' : 'other packet ids'}, ${isMarked ? 'with DUP' : 'without DUP'}`
  },
}

const table = new BrokerTable(TARGETS.map(({ name }) => name), Object.keys(SCENARIOS))

describe('brokers', { concurrency: 3, skip: externalBroker ? 'MQTT_URL names the broker' : false }, () => {
  for (const target of TARGETS) {
    describe(target.name, { skip: target.skip ?? false, concurrency: 1 }, () => {
      const stage = new Stage(target)
      before(
        async () => {
          stage.broker = await target.start()
        },
        { timeout },
      )
      after(() => stage.broker?.remove(), { timeout })
      for (const [name, scenario] of Object.entries(SCENARIOS)) {
        const lack = target.lacks[name] ?? ((ONLY[name] ?? target.name) === target.name ? undefined : NO_NEED)
        if (lack && !target.skip) table.note(target.name, name, lack)
        test(name, { timeout, skip: lack }, async (t) => table.note(target.name, name, await scenario(t, stage)))
      }
    })
  }
})

test('docs/brokers.md says what was seen', { skip: externalBroker ? 'MQTT_URL names the broker' : false }, () => table.settle())

/** A message for each of its rows, at this QoS from end to end. */
async function delivery(t, stage, qos) {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = stage.pipeline(t, { qos }, { routes: [route(prefix, table)] })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const sender = await stage.publisher(t)
  const total = full ? 3_000 : 500
  await sender.flood(total, (i) => position(prefix, i), { qos })
  await settled(pipeline, total, { timeoutMs: rowsTimeoutMs })
  await assertPositions(servers, table, total)
  assertLedger(pipeline.metrics())
  const lowered = warnings.find((warning) => warning.code === 'QOS_LOWERED')
  return lowered ? 'lowered, with a warning' : YES
}

/** Publishes one message that the broker may refuse, and checks what came of it. */
async function taken(t, stage, pipeline, topic, payload, check) {
  const protocolVersion = stage.target.protocolVersion ?? 4
  const sender = await connectAsync(stage.broker.url, { protocolVersion, reconnectPeriod: 0 })
  t.after(() => sender.end(true))
  let isClosed = false
  let isAccepted = false
  sender.on('error', () => {}).on('close', () => (isClosed = true))
  sender.publish(topic, JSON.stringify(payload), { qos: 1 }, (error) => (isAccepted = !error))
  const { messages } = pipeline.metrics()
  const isTaken = () => pipeline.metrics().messages.received > messages.received
  await waitFor(() => isClosed || isAccepted || isTaken(), { timeoutMs: 2_000, message: 'any answer' }).catch(() => {})
  if (isClosed) return 'no: it closes the connection of the publisher'
  if (!isAccepted && !isTaken()) return 'no: it never answers the publisher'
  await waitFor(isTaken, { timeoutMs: 5_000, message: 'the message' }).catch(() => {})
  if (!isTaken()) return 'no: it takes the message, and delivers nothing'
  await settled(pipeline, 1)
  await check()
  return YES
}

/** Cuts connections in the middle of a flood: nothing is lost, and nothing doubled. */
async function cuts(t, stage, isSpooled) {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const network = await startNetwork(t, stage.broker.port)
  const dir = mkdtempSync(join(tmpdir(), 'millrace-brokers-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const mqtt = { url: network.url, clientId: unique('client') }
  const pipeline = await stage.started(t, mqtt, { ...(isSpooled && { spool: { dir } }), routes: [route(prefix, table)] })
  const sender = await stage.publisher(t)
  let total = 0
  const send = async (more) => {
    const from = total
    total += more
    await sender.flood(more, (i) => position(prefix, from + i))
  }
  await send(KNOWN)
  await waitFor(() => pipeline.metrics().messages.inserted >= KNOWN, { timeoutMs: rowsTimeoutMs, message: `${KNOWN} rows` })
  let count = 0
  for (; count < CUTS; count++) {
    const { reconnects } = pipeline.metrics().mqtt
    const sending = send(60)
    await sleep(Math.random() * 40)
    network.cut()
    await waitFor(() => pipeline.metrics().mqtt.reconnects > reconnects, { timeoutMs: 30_000, message: 'the connection' })
    await sending
  }
  await send(100)
  const message = () => `all rows after ${count} cuts: ${JSON.stringify(pipeline.metrics())}`
  const isThere = async () => {
    await pipeline.flush()
    return (await servers.counted(table)).different === total
  }
  await waitFor(isThere, { timeoutMs: rowsTimeoutMs, message })
  // NATS delivers again later.
  await sleep(stage.target.name === 'NATS' ? 3_000 : 500)
  await pipeline.flush()
  const { rows } = await servers.counted(table)
  t.diagnostic(`${count} cuts, ${pipeline.metrics().messages.skipped} redeliveries recognised, ${rows - total} doubled`)
  await assertPositions(servers, table, total)
  assertLedger(pipeline.metrics())
  return 'none lost, none doubled'
}

/** Waits for this number of rows. amqtt sends messages that were not asked for: how many were received says nothing there. */
async function arrived(pipeline, table, count, timeoutMs = 30_000) {
  const isThere = async () => {
    await pipeline.flush()
    return (await servers.count(table)) >= count
  }
  await waitFor(isThere, { timeoutMs, message: () => `${count} rows: ${JSON.stringify(pipeline.metrics().messages)}` })
}

/** @returns {Promise<Set<number>>} the numbers of the messages that are rows */
async function numbers(table) {
  return new Set((await servers.rows(`SELECT DISTINCT toUInt32(seq) AS seq FROM ${table}`)).map(({ seq }) => seq))
}

/** Whether the messages from `from` to `to - 1`, which came while one side was away, are rows like all others. */
async function keptSession(table, from, to, total) {
  const there = await numbers(table)
  const missed = Array.from({ length: total }, (_, i) => i).filter((number) => !there.has(number))
  if (missed.length > 0) {
    assert.ok(missed.every((number) => number >= from && number < to), `lost: ${missed}`)
    return 'yes; it keeps no session'
  }
  await assertPositions(servers, table, total)
  return YES
}

/** The value once it has not changed for a while. */
async function atRest(value) {
  let last = value()
  for (let calm = 0; calm < 5; calm++) {
    await sleep(60)
    if (value() !== last) calm = -1
    last = value()
  }
  return last
}
