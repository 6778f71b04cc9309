// Several connections of one pipeline, and several clients with the same client id.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalBroker, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route, topicFilter } from '../support/positions.mjs'
import { endlessFlood } from '../support/publisher.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, OPEN_BROKER, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const reconnect = { minMs: 10, maxMs: 200 }

/** The client id in a CONNECT of MQTT 3.1.1. */
const clientIdOf = ({ body }) => body.subarray(12, 12 + body.readUInt16BE(10)).toString()
/** The wait of a warning in milliseconds, the same in its text and its field. */
const waitOf = ({ message, retryInMs }) => {
  assert.ok(message.endsWith(`; connecting again in ${retryInMs} ms`), message)
  return retryInMs
}

for (const protocolVersion of [4, 5]) {
  const version = protocolVersion === 4 ? '3.1.1' : '5'
  test(`four connections and two routes: each message once, by all of them (MQTT ${version})`, { timeout }, async (t) => {
    const table = await servers.table(`${COLUMNS}, client String`)
    const other = await servers.table('seq UInt32, client String')
    const [prefix, otherTopic, clientId] = [unique('topic'), unique('topic'), unique('client')]
    const client = { client: { meta: 'clientId' } }
    const pipeline = await servers.started(t, {
      mqtt: { protocolVersion, clientId, sharedGroup: unique('group'), connections: 4 },
      routes: [
        { topic: topicFilter(prefix), table, columns: client },
        { topic: otherTopic, table: other, columns: client },
      ],
      batch: { maxRows: 500 },
    })
    const { connected, connections } = pipeline.metrics().mqtt
    assert.deepEqual([connected, connections], [4, 4])
    const ledger = watchLedger(pipeline)
    const publisher = await servers.publisher(t)
    await publisher.flood(10_000, (i) => position(prefix, i))
    await publisher.flood(1_000, (seq) => ({ topic: otherTopic, payload: JSON.stringify({ seq }) }))
    await settled(pipeline, 11_000)
    for (const [name, count] of [
      [table, 10_000],
      [other, 1_000],
    ]) {
      assert.deepEqual(await servers.counted(name), { rows: count, different: count })
      const clients = await servers.rows(`SELECT DISTINCT client FROM ${name} ORDER BY client`)
      assert.deepEqual(
        clients.map((row) => row.client),
        [1, 2, 3, 4].map((number) => `${clientId}-${number}`),
      )
    }

    await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'all acknowledged' })
    const last = await pipeline.stop()
    ledger.close()
    assert.deepEqual([last.messages.inserted, last.mqtt.connected, last.mqtt.unacknowledged], [11_000, 0, 0])
  })
}

test('stop() in the middle of a flood, with several connections: the next pipeline gets the rest', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = {
    mqtt: { clientId: unique('client'), sharedGroup: unique('group'), connections: 3 },
    routes: [route(prefix, table)],
    batch: { maxRows: 1_000, maxDelayMs: 200 },
  }
  const publisher = await servers.publisher(t)
  const first = await servers.started(t, config)
  const flood = endlessFlood(publisher, (i) => position(prefix, i))
  await received(first, 3_000)
  const last = await first.stop()
  assertLedger(last)
  assert.equal(last.messages.pending, 0)
  const total = await flood.end()
  assert.ok(last.messages.received < total)
  const second = await servers.started(t, config)
  await settled(second, total - last.messages.received)
  await assertPositions(servers, table, total)
})

test('each connection acknowledges its own messages, and the metrics are their sum', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, clientId: 'c', sharedGroup: 'g', connections: 3, reconnect },
    routes: [{ topic: 'a', table }],
    batch: { maxDelayMs: 3_600_000 },
  })
  const { members } = broker
  const ids = broker.packets.filter(({ type, connection }) => type === 'CONNECT' && members.includes(connection)).map(clientIdOf)
  assert.deepEqual(ids.sort(), ['c-1', 'c-2', 'c-3'])
  await servers.command(`RENAME TABLE ${table} TO ${table}_away`)
  for (const [i, connection] of members.entries()) {
    // The ids mean another message on each connection.
    for (let id = 1; id <= 10 * (i + 1); id++) {
      broker.send(publishPacket('a', JSON.stringify({ seq: 100 * i + id }), { id }), connection)
    }
  }
  await received(pipeline, 60)
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 60, { message: 'the sum of all' })
  assert.deepEqual(broker.acknowledged, [])
  await servers.command(`RENAME TABLE ${table}_away TO ${table}`)
  await settled(pipeline, 60)
  await waitFor(() => broker.acknowledged.length === 60, { message: 'all acknowledgements' })
  for (const [i, connection] of members.entries()) {
    const acknowledged = broker.packets.filter((packet) => packet.type === 'PUBACK' && packet.connection === connection)
    assert.deepEqual(
      acknowledged.map(({ body }) => body.readUInt16BE(0)),
      Array.from({ length: 10 * (i + 1) }, (_, at) => at + 1),
    )
  }
  assert.equal(pipeline.metrics().mqtt.unacknowledged, 0)
  assert.deepEqual(await servers.counted(table), { rows: 60, different: 60 })
})

test('flush, pause and resume reach every connection', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t, { subscribe: 0 })
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, qos: 0, sharedGroup: 'g', connections: 3, keepAliveSeconds: 1 },
    routes: [{ topic: 'a', table }],
    batch: { maxDelayMs: 3_600_000 },
  })
  const { members } = broker
  const sendToEach = (seq) => {
    for (const connection of members) {
      broker.send(publishPacket('a', JSON.stringify({ seq: 10 * connection + seq }), { qos: 0 }), connection)
    }
  }
  sendToEach(1)
  await received(pipeline, 3)
  await pipeline.flush()
  assert.equal(await servers.count(table), 3)

  pipeline.pause()
  const pings = () => members.map((n) => broker.packets.filter((p) => p.type === 'PINGREQ' && p.connection === n).length)
  // A connection that has pinged since has seen the pause.
  const before = pings()
  await waitFor(() => pings().every((count, i) => count > before[i]), { message: 'a ping of each' })
  sendToEach(2)
  const then = pings()
  await waitFor(() => pings().every((count, i) => count > then[i]), { message: 'another ping of each' })
  assert.equal(pipeline.metrics().messages.received, 3)
  pipeline.resume()
  await received(pipeline, 6)
  await pipeline.flush()
  assert.deepEqual(await servers.counted(table), { rows: 6, different: 6 })
  assert.deepEqual(broker.members, members)
})

test('a connection that is lost comes back by itself', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, sharedGroup: 'g', connections: 3, reconnect },
    routes: [{ topic: 'a', table }],
  })
  const { members } = broker
  assert.equal(members.length, 3)
  broker.hangUp(members[1])
  await waitFor(() => broker.members.length === 4 && pipeline.metrics().mqtt.connected === 3, { message: 'another one' })
  assert.equal(pipeline.metrics().mqtt.reconnects, 1)
  const another = broker.members[3]
  assert.deepEqual(broker.standing, [members[0], members[2], another])
  for (const connection of broker.standing) {
    broker.send(publishPacket('a', JSON.stringify({ seq: connection }), { id: 1 }), connection)
  }
  await settled(pipeline, 3)
  assert.equal(await servers.count(table), 3)
})

test('a connection that is refused at start: none is left, and another start may succeed', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  let refused
  const connect = (connection, body) => {
    if (body && clientIdOf({ body }) === 'c-2') refused ??= connection
    return connection === refused ? 5 : 0
  }
  const broker = await startScriptedBroker(t, { connect })
  const pipeline = servers.pipeline(t, {
    mqtt: { url: broker.url, protocolVersion: 4, clientId: 'c', sharedGroup: 'g', connections: 3, reconnect },
    routes: [{ topic: 'a', table }],
  })
  await assert.rejects(pipeline.start(), { code: 'MQTT_REFUSED' })
  assert.equal(pipeline.state, 'idle')
  await waitFor(() => broker.standing.length === 0, { message: 'nobody connected' })
  assert.equal(pipeline.metrics().mqtt.connected, 0)
  await pipeline.start()
  assert.equal(pipeline.metrics().mqtt.connected, 3)
})

test('a client id that another has taken over: a warning, and a long wait', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  for (const maxMs of [60_000, 20]) {
    const broker = await startScriptedBroker(t)
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, clientId: 'c', reconnect: { minMs: 10, maxMs } },
      routes: [{ topic: 'a', table }],
    })
    const warnings = collect(pipeline, 'warning')
    broker.send(Buffer.from([0xe0, 1, 0x8e]))
    await waitFor(() => warnings.length > 0, { message: 'a warning' })
    assert.equal(warnings[0].code, 'SESSION_TAKEN_OVER')
    assert.match(warnings[0].message, /the client id "c"/)
    assert.equal(warnings[0].clientId, 'c')
    // Not at once, which would take it back: the waits begin where others end.
    assert.ok(waitOf(warnings[0]) >= maxMs / 2, warnings[0].message)
    if (maxMs < 60_000) {
      await waitFor(() => broker.connections === 2 && pipeline.metrics().mqtt.connected === 1, { message: 'it is back' })
    }
  }
})

for (const protocolVersion of [4, 5]) {
  const version = protocolVersion === 4 ? '3.1.1' : '5'
  test(
    `two pipelines with one client id leave each other alone for longer and longer (MQTT ${version})`,
    { timeout, skip: externalBroker },
    async (t) => {
      // mosquitto 2.0.11 only closes the socket, with MQTT 5 as well.
      const broker = await startBroker({ config: OPEN_BROKER })
      t.after(() => broker.remove())
      const table = await servers.table(COLUMNS)
      const prefix = unique('topic')
      const config = {
        mqtt: { url: broker.url, protocolVersion, clientId: unique('client'), reconnect: { minMs: 10, maxMs: 60_000 } },
        routes: [route(prefix, table)],
      }
      const one = await servers.started(t, config)
      const other = await startedBeside(t, config)
      const warnings = collect(one, 'warning')
      await waitFor(() => warnings.length >= 6, { timeoutMs: 20_000, message: () => JSON.stringify(warnings) })
      for (const [i, warning] of warnings.entries()) {
        assert.ok(waitOf(warning) >= 5 * 2 ** i, `${warnings.map(waitOf)}`)
      }
      assert.equal(warnings.filter(({ code }) => code === 'SESSION_TAKEN_OVER').length, 1)
      await one.stop()
      await waitFor(() => other.metrics().mqtt.connected === 1, { message: 'the other one has the session' })
      const publisher = await servers.publisher(t, { url: broker.url })
      await publisher.flood(1_000, (i) => position(prefix, i))
      await settled(other, 1_000)
      await assertPositions(servers, table, 1_000)
    },
  )
}

/** A pipeline beside a rival, which may take the session over before it has started. */
async function startedBeside(t, config) {
  for (;;) {
    try {
      return await servers.started(t, config)
    } catch (error) {
      if (error.code !== 'MQTT_UNREACHABLE') throw error
    }
  }
}

test('a broker that accepts a session and hangs up, again and again: perhaps a rival client', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, clientId: 'c', reconnect: { minMs: 10, maxMs: 200 } },
    routes: [{ topic: 'a', table }],
  })
  const warnings = collect(pipeline, 'warning')
  for (let connections = 1; connections <= 8; connections++) {
    await waitFor(() => broker.connections === connections && pipeline.metrics().mqtt.connected === 1, {
      message: () => `connection ${connections}: ${JSON.stringify(warnings)}`,
    })
    broker.hangUp()
    await waitFor(() => warnings.length === connections, { message: 'a warning' })
  }
  const waits = warnings.map(waitOf)
  // Each is between 50 % and 100 % of 10, 20, 40, …, 200 ms.
  for (const [i, wait] of waits.entries()) assert.ok(wait >= Math.floor(Math.min(10 * 2 ** i, 200) / 2), `${waits}`)
  const told = warnings.filter(({ code }) => code === 'SESSION_TAKEN_OVER')
  assert.equal(told.length, 1)
  assert.match(told[0].message, /another client uses the client id "c"/)
})
