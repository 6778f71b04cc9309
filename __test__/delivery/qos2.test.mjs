// QoS 2: each message becomes a row once while the process lives, over lost connections and restarts of the broker.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalBroker, externalClickHouse, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startProxy } from '../support/proxy.mjs'
import { packet, publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { OPEN_BROKER, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers({ ownClickHouse: true })
const timeout = 60_000
const reconnect = { minMs: 10, maxMs: 100 }
const pubrel = (id) => packet(0x62, [id >> 8, id & 255])
const ids = (bodies) => bodies.map((body) => body.readUInt16BE(0))

for (const protocolVersion of [4, 5]) {
  const version = protocolVersion === 4 ? '3.1.1' : '5'
  const properties = protocolVersion === 4 ? undefined : []

  test(`MQTT ${version} at QoS 2`, { timeout }, async (t) => {
    const table = await servers.table(`${COLUMNS}, qos UInt8`)
    const prefix = unique('topic')
    const columns = { qos: { meta: 'qos' } }
    const pipeline = await servers.started(t, {
      mqtt: { protocolVersion, qos: 2 },
      routes: [{ ...route(prefix, table), columns }],
    })
    const publisher = await servers.publisher(t, { protocolVersion })
    await publisher.flood(5_000, (i) => position(prefix, i), { qos: 2 })
    await settled(pipeline, 5_000)
    assert.deepEqual(await servers.rows(`SELECT DISTINCT qos FROM ${table}`), [{ qos: 2 }])
    await servers.command(`ALTER TABLE ${table} DROP COLUMN qos`)
    await assertPositions(servers, table, 5_000)
    await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'everything acknowledged' })
    assertLedger(pipeline.metrics())
  })

  test(`MQTT ${version}: connections that end halfway double nothing`, { timeout, skip: externalBroker }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const proxy = await startProxy(t, servers.broker.port)
    const pipeline = await servers.started(t, {
      mqtt: {
        url: `mqtt://127.0.0.1:${proxy.port}`,
        protocolVersion,
        qos: 2,
        clientId: unique('client'),
        reconnect,
        receiveMaximum: 300,
        coalesceMs: 0,
      },
      routes: [route(prefix, table)],
      batch: { maxRows: 200 },
    })
    const ledger = watchLedger(pipeline)
    const publisher = await servers.publisher(t, { clients: 2, inFlight: 100 })
    const published = publisher.flood(10_000, (i) => position(prefix, i), { qos: 2 })
    for (let cut = 1; cut <= 10; cut++) {
      await waitFor(() => pipeline.metrics().messages.inserted >= cut * 900, { message: `${cut * 900} rows` })
      proxy.cut()
      await waitFor(() => pipeline.metrics().mqtt.reconnects === cut, { message: `connected again, ${cut}` })
    }
    await published
    await waitFor(() => pipeline.metrics().messages.inserted >= 10_000, { message: 'all rows' })
    await pipeline.flush()
    await assertPositions(servers, table, 10_000)
    ledger.close()
  })

  test(`MQTT ${version}: a broker that restarts doubles nothing`, { timeout, skip: externalBroker }, async (t) => {
    const broker = await startBroker({ persistence: true, config: OPEN_BROKER })
    t.after(() => broker.remove())
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const clientId = unique('client')
    const config = {
      mqtt: { url: broker.url, protocolVersion, qos: 2, clientId, reconnect, coalesceMs: 0 },
      routes: [route(prefix, table)],
      batch: { maxRows: 200 },
    }
    // The session exists, and everything waits in it.
    await (await servers.started(t, config)).stop()
    const publisher = await servers.publisher(t, { url: broker.url })
    await publisher.flood(10_000, (i) => position(prefix, i), { qos: 2 })
    await publisher.close()

    const pipeline = await servers.started(t, config)
    const ledger = watchLedger(pipeline)
    for (let restart = 1; restart <= 3; restart++) {
      await waitFor(() => pipeline.metrics().messages.inserted >= restart * 500, { message: `${restart * 500} rows` })
      await broker.stop()
      await broker.start()
      await waitFor(() => pipeline.metrics().mqtt.reconnects === restart, { message: `connected again, ${restart}` })
    }
    await waitFor(() => pipeline.metrics().messages.inserted >= 10_000, { message: 'all rows' })
    await pipeline.flush()
    await assertPositions(servers, table, 10_000)
    ledger.close()
  })

  test(`MQTT ${version}: PUBREC after the rows, PUBCOMP for each PUBREL`, { timeout }, async (t) => {
    const table = await servers.table('seq UInt32')
    const broker = await startScriptedBroker(t, { subscribe: 2, present: true })
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, protocolVersion, qos: 2, clientId: 'c', reconnect },
      routes: [{ topic: 'a', table }],
      batch: { maxDelayMs: 60_000, maxRows: 3 },
    })
    const send = (id, dup = false) =>
      broker.send(publishPacket('a', `{"seq":${id}}`, { id, dup, qos: 2, properties }))
    // With MQTT 3.1.1 PUBRECs leave one at a time until two were answered in their order.
    send(11)
    send(12)
    await waitFor(() => broker.bodies('PUBREC').length === 2, { message: 'two PUBRECs' })
    broker.send(Buffer.concat([pubrel(11), pubrel(12)]))
    await waitFor(() => broker.bodies('PUBCOMP').length === 2, { message: 'two PUBCOMPs' })
    const bodies = (type) => broker.bodies(type).slice(2)

    send(1)
    send(2)
    send(3)
    await waitFor(() => bodies('PUBREC').length === 3, { message: 'three PUBRECs' })
    assert.deepEqual(ids(bodies('PUBREC')), [1, 2, 3])
    assert.equal(await servers.count(table), 5)
    broker.send(pubrel(1))
    broker.send(pubrel(1))
    await waitFor(() => bodies('PUBCOMP').length === 2, { message: 'a repeated PUBREL is answered' })

    broker.hangUp()
    await waitFor(() => pipeline.metrics().mqtt.reconnects === 1, { message: 'connected again' })
    // It had the PUBREC of 2, and not that of 3.
    broker.send(pubrel(2))
    send(3, true)
    await waitFor(() => bodies('PUBREC').length === 4, { message: 'another PUBREC' })
    broker.send(pubrel(3))
    broker.send(pubrel(2))
    await waitFor(() => bodies('PUBCOMP').length === 5, { message: 'all PUBCOMPs' })
    assert.deepEqual(ids(bodies('PUBREC')), [1, 2, 3, 3])
    assert.deepEqual(ids(bodies('PUBCOMP')), [1, 1, 2, 3, 2])
    // Where MQTT 5 has a word for it, what was released before is not found.
    const unknown = bodies('PUBCOMP').map((body) => body.length === 3 && body[2] === 0x92)
    assert.deepEqual(unknown, [false, protocolVersion === 5, false, false, protocolVersion === 5])

    const { received, skipped } = pipeline.metrics().messages
    assert.deepEqual([received, skipped, await servers.count(table)], [6, 1, 5])
    assert.equal(pipeline.metrics().mqtt.unacknowledged, 0)
    assertLedger(pipeline.metrics())
  })
}

test('no PUBREC while ClickHouse is down', { timeout, skip: externalClickHouse }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t, { subscribe: 2 })
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, qos: 2 },
    clickhouse: { retry: { minMs: 20, maxMs: 200 } },
    routes: [{ topic: 'a', table }],
  })
  await servers.clickhouse.stop()
  for (const id of [1, 2]) broker.send(publishPacket('a', `{"seq":${id}}`, { id, qos: 2, properties: [] }))
  await received(pipeline, 2)
  await waitFor(() => pipeline.metrics().inserts.retried > 1, { message: 'attempts that failed' })
  assert.deepEqual(broker.bodies('PUBREC'), [])
  await servers.clickhouse.start()
  await waitFor(() => broker.bodies('PUBREC').length === 2, { timeoutMs: 20_000, message: 'both PUBRECs' })
  assert.equal(await servers.count(table), 2)
})
