// A broker that violates the protocol: millrace sends it the reason where MQTT can, reconnects and
// warns; valid messages before and after become rows. tests/session/hostile.rs tests each rule.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { packet, publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, heard, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const reconnect = { minMs: 10, maxMs: 50 }
const MIB = 1 << 20

const publish = (topic, { id = 9, qos = 1, properties = [] } = {}) =>
  publishPacket(topic, '{"seq":0}', { id, qos, properties })

/**
 * @type {[string, Buffer[], number, RegExp][]} the packets of the broker, the reason code it gets, and
 * the warning
 */
const BREACHES = [
  ['a flag that is reserved', [packet(0xd1, [])], 0x81, /reserved flags/],
  ['a length in more bytes than it needs', [Buffer.from([0xd0, 0x80, 0x00])], 0x81, /more bytes than it needs/],
  ['properties that end early', [packet(0x30, [0, 1, 97, 5, 1])], 0x81, /properties|ends in its head/],
  ['a packet id in use', [publish('a'), publish('b')], 0x82, /packet id that is in use/],
  ['a second CONNACK', [packet(0x20, [0, 0, 0])], 0x82, /second CONNACK/],
  ['AUTH', [packet(0xf0, [0x18, 0])], 0x82, /does not expect/],
  ['a QoS that was not granted', [publish('a', { qos: 2 })], 0x82, /QoS that was not granted/],
  ['too many at once', [9, 10, 11, 12, 13, 14, 15].map((id) => publish('late', { id })), 0x93, /receiveMaximum/],
  ['a large packet that is no message', [packet(0xd0, Array(2_000).fill(0))], 0x95, /maxPacketBytes/],
]

test('a broker of MQTT 5 gets the reason of a violation', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const late = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, reconnect, receiveMaximum: 3, maxPacketBytes: 1024 },
    routes: [
      { topic: 'a', table },
      { topic: 'late', table: late },
    ],
    batch: { maxDelayMs: 20 },
  })
  const warnings = []
  pipeline.on('warning', (warning) => warning.code === 'MQTT_RECONNECTING' && warnings.push(warning))
  let sent = 0
  const sendGood = async () => {
    sent++
    broker.send(publishPacket('a', JSON.stringify({ seq: sent }), { id: sent + 100, properties: [] }))
    await waitFor(() => broker.acknowledged.includes(sent + 100), { message: `message ${sent} is acknowledged` })
  }
  await sendGood()
  for (const [i, [what, bytes, code, warning]] of BREACHES.entries()) {
    broker.send(Buffer.concat(bytes))
    await waitFor(() => broker.bodies('DISCONNECT').length === i + 1, { message: `${what}: a DISCONNECT` })
    assert.equal(broker.bodies('DISCONNECT')[i][0], code, what)
    await waitFor(() => pipeline.metrics().mqtt.reconnects === i + 1, { message: `${what}: another connection` })
    await waitFor(() => warnings.length > i, { message: `${what}: a warning` })
    assert.match(warnings[i].message, warning)
    await sendGood()
  }
  assert.equal(pipeline.state, 'running')
  const [{ different }] = await servers.rows(`SELECT uniqExactIf(seq, seq > 0) AS different FROM ${table}`)
  assert.equal(Number(different), sent)
  assertLedger(pipeline.metrics())
})

test('a broker of MQTT 3.1.1 gets no reason', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, reconnect },
    routes: [{ topic: 'a', table }],
  })
  const breaches = [packet(0xd1, []), publishPacket('a', '', { id: 0 })]
  for (const [i, bytes] of breaches.entries()) {
    broker.send(bytes)
    await waitFor(() => pipeline.metrics().mqtt.reconnects === i + 1, { message: `connection ${i + 2}` })
  }
  broker.send(publishPacket('a', '{"seq":1}', { id: 1 }))
  await settled(pipeline, 1)
  assert.deepEqual([await servers.count(table), broker.bodies('DISCONNECT')], [1, []])
})

// RabbitMQ delivers what was published to `a*b/c` as `a+b/c`. A connection that ended for it would find it again.
for (const protocolVersion of [4, 5]) {
  test(`a message that MQTT ${protocolVersion} does not allow blocks nothing`, { timeout }, async (t) => {
    const table = await servers.table('seq UInt32')
    const broker = await startScriptedBroker(t)
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, protocolVersion, reconnect },
      routes: [{ topic: 'a', table }],
    })
    const letters = collect(pipeline, 'deadLetters')
    const v5 = protocolVersion === 5
    const properties = v5 ? [] : undefined
    /** @type {[string, string, number[]?][]} topic, code, properties */
    const invalid = [
      ['a+b/c', 'TOPIC_INVALID'],
      ['a/#', 'TOPIC_INVALID'],
      ['a\0b', 'TOPIC_INVALID'],
      ['', 'TOPIC_INVALID'],
    ]
    if (v5) invalid.push(['a', 'TOPIC_INVALID', [1, 0, 1, 0]], ['', 'TOPIC_INVALID', [0x23, 0, 1]])
    for (const [i, [topic, , more = properties]] of invalid.entries()) {
      broker.send(publishPacket(topic, '{"seq":0}', { id: i + 1, properties: more }))
    }
    broker.send(publishPacket('a', '{"seq":1}', { id: 100, properties }))
    await settled(pipeline, invalid.length + 1)
    await waitFor(() => broker.acknowledged.includes(100), { message: 'the last acknowledgement' })
    await heard(pipeline, letters)
    assert.deepEqual(
      letters.map((letter) => letter.code),
      invalid.map(([, code]) => code),
    )
    assert.deepEqual(broker.acknowledged, [...invalid.map((_, i) => i + 1), 100])
    assert.equal(pipeline.metrics().mqtt.reconnects, 0)
    assert.equal(await servers.count(table), 1)
    assertLedger(pipeline.metrics())
  })
}

test('a broker that sends DISCONNECT gives its reason', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, reconnect },
    routes: [{ topic: 'a', table }],
  })
  const warnings = collect(pipeline, 'warning')
  const reason = Buffer.from('maintenance')
  broker.send(packet(0xe0, [0x8b, reason.length + 3, 0x1f, 0, reason.length, ...reason]))
  await waitFor(() => warnings.length > 0, { message: 'a warning' })
  assert.match(warnings[0].message, /server shutting down \(maintenance\)/)
  await waitFor(() => pipeline.metrics().mqtt.reconnects === 1, { message: 'another connection' })
  assert.deepEqual(broker.bodies('DISCONNECT'), [])
})

test('topic aliases and user properties', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, topic String, site Nullable(String)')
  const broker = await startScriptedBroker(t)
  const columns = { topic: { meta: 'topic' }, site: { userProperty: 'site' } }
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, topicAliasMaximum: 64 },
    routes: [{ topic: 'a/+', table, columns }],
  })
  const site = [0x26, 0, 4, ...Buffer.from('site'), 0, 4, ...Buffer.from('port')]
  const send = (seq, topic, properties) =>
    broker.send(publishPacket(topic, `{"seq":${seq}}`, { qos: 0, properties }))
  send(1, 'a/one', [0x23, 0, 1])
  send(2, 'a/two', [...site, 0x23, 0, 64])
  send(3, '', [0x23, 0, 1, ...site])
  send(4, '', [0x23, 0, 64])
  await settled(pipeline, 4)
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table} ORDER BY seq`), [
    { seq: 1, topic: 'a/one', site: null },
    { seq: 2, topic: 'a/two', site: 'port' },
    { seq: 3, topic: 'a/one', site: 'port' },
    { seq: 4, topic: 'a/two', site: null },
  ])
})

for (const protocolVersion of [4, 5]) {
  test(`a message of 200 MiB is skipped, MQTT ${protocolVersion}`, { timeout }, async (t) => {
    const table = await servers.table('seq UInt32')
    const broker = await startScriptedBroker(t, { subscribe: 2 })
    const topic = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, protocolVersion, qos: 2 },
      routes: [{ topic, table }],
    })
    const letters = collect(pipeline, 'deadLetters')
    const properties = protocolVersion === 5 ? [] : undefined
    // The head of a packet whose length says 200 MiB.
    const small = publishPacket(topic, '', { id: 7, qos: 2, properties })
    const head = Buffer.concat([Buffer.from([small[0], 0x80, 0x80, 0x80, 0x64]), small.subarray(2)])
    const before = process.memoryUsage().rss
    let most = before
    broker.send(head)
    const chunk = Buffer.alloc(MIB, 'x')
    for (let i = 0; i < 199; i++) {
      await broker.flood(chunk, 1)
      most = Math.max(most, process.memoryUsage().rss)
    }
    const packetBytes = 5 + 200 * MIB
    broker.send(chunk.subarray(0, packetBytes - head.length - 199 * MIB))
    broker.send(publishPacket(topic, '{"seq":1}', { id: 8, qos: 2, properties }))
    await settled(pipeline, 2)
    await heard(pipeline, letters)
    assert.deepEqual(
      letters.map(({ code, topic, payload, message }) => [code, topic, payload.length, message]),
      [['PACKET_TOO_LARGE', topic, 0, `a packet of ${packetBytes} bytes is over maxPacketBytes, ${MIB}`]],
    )
    await waitFor(() => broker.bodies('PUBREC').length === 2, { message: 'both are acknowledged' })
    broker.send(packet(0x62, [0, 7]))
    await waitFor(() => broker.bodies('PUBCOMP').length === 1, { message: 'it is released' })
    assert.ok(most - before < 100 * MIB, `${Math.round((most - before) / MIB)} MiB more than before`)
    assert.equal(await servers.count(table), 1)
    assert.equal(broker.connections, 1)
    assertLedger(pipeline.metrics())
  })
}

test('a broker that asks for answers and reads none is left, without hoarding them', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t, { subscribe: 2 })
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, qos: 2, keepAliveSeconds: 1, reconnect },
    routes: [{ topic: 'a', table }],
  })
  const before = process.memoryUsage().rss
  broker.stopReading()
  const pubrels = Buffer.alloc(MIB, packet(0x62, [0, 1]))
  const flood = broker.flood(pubrels)
  await waitFor(() => pipeline.metrics().mqtt.reconnects === 1, { timeoutMs: 30_000, message: 'another connection' })
  await flood
  const more = process.memoryUsage().rss - before
  assert.ok(more < 100 * MIB, `${Math.round(more / MIB)} MiB more than before`)
  broker.send(publishPacket('a', '{"seq":1}', { id: 1, properties: [] }))
  await received(pipeline, 1)
  await settled(pipeline, 1)
  assert.equal(await servers.count(table), 1)
})
