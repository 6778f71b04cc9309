// MQTT over WebSocket: a real mosquitto behind a proxy that frames its bytes correctly, oddly, or not at all.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalBroker, waitFor } from '../../tools/servers/index.mjs'
import { CLOSE, PING, startTransportProxy, TEXT } from '../support/transport-proxy.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { Random } from '../support/random.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const skip = externalBroker

const reconnect = { minMs: 20, maxMs: 100 }

test('ws:// with a path and a query', { timeout, skip }, async (t) => {
  const proxy = await startTransportProxy(t, servers.broker.port, { webSocket: {} })
  const url = `ws://127.0.0.1:${proxy.port}/mqtt/v5?token=secret`
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { mqtt: { url }, routes: [route(prefix, table)] })
  assert.deepEqual(proxy.paths, ['/mqtt/v5?token=secret'])
  // Another client's WebSocket, so that the proxy and ours are not wrong in the same way.
  const publisher = await servers.publisher(t, { url })
  await publisher.flood(5_000, (i) => position(prefix, i))
  await settled(pipeline, 5_000)
  await assertPositions(servers, table, 5_000)
  assert.equal(pipeline.metrics().mqtt.reconnects, 0)
})

for (const protocolVersion of [4, 5]) {
  test(`packets that span frames, MQTT ${protocolVersion === 4 ? '3.1.1' : '5'}`, { timeout, skip }, async (t) => {
    const seed = Random.seed()
    t.diagnostic?.(`SEED=${seed}`)
    const proxy = await startTransportProxy(t, servers.broker.port, { webSocket: { random: new Random(seed) } })
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { url: `ws://127.0.0.1:${proxy.port}`, protocolVersion },
      routes: [route(prefix, table)],
    })
    const publisher = await servers.publisher(t)
    await publisher.flood(3_000, (i) => position(prefix, i))
    await settled(pipeline, 3_000)
    await assertPositions(servers, table, 3_000)
    assert.equal(pipeline.metrics().mqtt.reconnects, 0, `SEED=${seed}`)
    await waitFor(() => proxy.pongs > 0, { message: 'answers to pings' })
  })
}

test('a packet over the limit is a dead letter here too', { timeout, skip }, async (t) => {
  const proxy = await startTransportProxy(t, servers.broker.port, { webSocket: {} })
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url: `ws://127.0.0.1:${proxy.port}`, protocolVersion: 4, maxPacketBytes: 1_024 },
    routes: [{ topic, table }],
  })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(topic, { seq: 1 })
  await publisher.publish(topic, { seq: 2, text: 'x'.repeat(300_000) })
  await publisher.publish(topic, { seq: 3 })
  await settled(pipeline, 3)
  await heard(pipeline, letters)
  assert.deepEqual(
    letters.map(({ code }) => code),
    ['PACKET_TOO_LARGE'],
  )
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`), [{ seq: 1 }, { seq: 3 }])
  assert.equal(pipeline.metrics().mqtt.reconnects, 0)
})

test('servers that open no WebSocket', { timeout, skip }, async (t) => {
  const table = await servers.table(COLUMNS)
  /** @type {[RegExp, import('../support/transport-proxy.mjs').WebSocketOptions?][]} */
  const answers = [
    [/it answers 404 Not Found and opens no WebSocket/, { status: '404 Not Found' }],
    [/it opens no WebSocket: .*[Ss]ub-?[Pp]rotocol/, { protocol: null }],
    [/it opens no WebSocket: .*[Ss]ub-?[Pp]rotocol/, { protocol: 'chat' }],
    // A mosquitto that expects MQTT.
    [/it opens no WebSocket|reset/],
  ]
  for (const [said, webSocket] of answers) {
    const proxy = await startTransportProxy(t, servers.broker.port, { webSocket })
    const url = `ws://127.0.0.1:${proxy.port}/mqtt?token=secret`
    const pipeline = servers.pipeline(t, { mqtt: { url }, routes: [route(unique('topic'), table)] })
    await assert.rejects(pipeline.start(), (/** @type {any} */ error) => {
      assert.equal(error.code, 'MQTT_UNREACHABLE')
      assert.match(error.message, said)
      assert.doesNotMatch(error.message, /secret/)
      return true
    })
  }
})

test('frames that mean the end, and those that mean nothing', { timeout, skip }, async (t) => {
  const proxy = await startTransportProxy(t, servers.broker.port, { webSocket: {} })
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url: `ws://127.0.0.1:${proxy.port}`, clientId: unique('client'), reconnect },
    routes: [route(prefix, table)],
  })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t)
  let sent = 0
  const goesOn = async (reconnects) => {
    await waitFor(() => pipeline.metrics().mqtt.reconnects === reconnects && pipeline.metrics().mqtt.connected === 1, {
      message: () => `${reconnects} reconnects; ${JSON.stringify(warnings)}`,
    })
    const from = sent
    sent += 500
    await publisher.flood(500, (i) => position(prefix, from + i))
    await settled(pipeline, sent, { warnings })
  }

  proxy.send(PING, Buffer.from('there?'))
  await waitFor(() => proxy.pongs === 1, { message: 'an answer to a ping' })
  await goesOn(0)
  proxy.send(TEXT, Buffer.from('hello'))
  await goesOn(1)
  assert.match(warnings.at(-1).message, /a frame of text is no MQTT/)
  proxy.send(CLOSE, Buffer.concat([Buffer.from([0x03, 0xf0]), Buffer.from('against the policy')])) // 1008
  await goesOn(2)
  assert.match(warnings.at(-1).message, /the WebSocket was closed: .*against the policy/)
  proxy.send(CLOSE, Buffer.from([0x03, 0xe8])) // 1000
  await goesOn(3)
  proxy.hangUp()
  await goesOn(4)
  // Redeliveries count as messages: some rows may still be on their way.
  await waitFor(async () => (await servers.count(table)) >= sent, { message: 'all rows' })
  await assertPositions(servers, table, sent)
})
