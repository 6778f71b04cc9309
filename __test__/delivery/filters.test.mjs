// Many filters: a broker may take few in one SUBSCRIBE, and no packet beyond a size.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { filtersOf, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const reconnect = { minMs: 10, maxMs: 50 }
/** CONNACK: no subscription identifiers, so that all filters go into one SUBSCRIBE. */
const NO_IDS = [0x29, 0]
const COUNT = 20

const topics = (count = COUNT) => Array.from({ length: count }, (_, i) => `plant/${i}/state`)
const routesTo = (table, count = COUNT) => topics(count).map((topic) => ({ topic, table }))
/** The filters of each SUBSCRIBE of one connection, or of all. */
const subscribes = (broker, isV5, connection) =>
  broker.packets
    .filter(({ type, connection: its }) => type === 'SUBSCRIBE' && its === (connection ?? its))
    .map(({ body }) => filtersOf(body, isV5, 1))
const counts = (lists) => lists.map((list) => list.length)

for (const protocolVersion of [4, 5]) {
  const isV5 = protocolVersion === 5
  const properties = isV5 ? NO_IDS : []

  test(`SUBSCRIBE holds filtersPerSubscribe filters, MQTT ${protocolVersion}`, { timeout }, async (t) => {
    const broker = await startScriptedBroker(t, { maxFilters: 8, properties })
    const table = await servers.table('seq UInt32')
    const mqtt = { url: broker.url, protocolVersion, filtersPerSubscribe: 8, reconnect }
    const pipeline = servers.pipeline(t, { mqtt, routes: routesTo(table) })
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    assert.deepEqual(counts(subscribes(broker, isV5)), [8, 8, 4])
    assert.deepEqual(subscribes(broker, isV5).flat(), topics())
    assert.deepEqual(warnings.filter(({ code }) => code === 'SUBSCRIBE_SPLIT'), [])
    await pipeline.stop()
    const ended = broker.bodies('UNSUBSCRIBE').map((body) => filtersOf(body, isV5, 0))
    assert.deepEqual(counts(ended), [8, 8, 4])
    assert.equal(broker.connections, 1)
  })

  for (const refuses of [false, true]) {
    const how = refuses ? 'refuses all of them' : 'closes the connection'
    for (const maxFilters of [8, 3]) {
      test(`a broker that ${how} beyond ${maxFilters} filters, MQTT ${protocolVersion}`, { timeout }, async (t) => {
        const broker = await startScriptedBroker(t, { maxFilters, refuses, properties })
        const table = await servers.table('seq UInt32')
        const pipeline = servers.pipeline(t, {
          mqtt: { url: broker.url, protocolVersion, reconnect },
          routes: routesTo(table),
        })
        const warnings = collect(pipeline, 'warning')
        await pipeline.start()
        const each = maxFilters === 8 ? 8 : 1
        const split = maxFilters === 8 ? [8, 8, 4] : Array(COUNT).fill(1)
        assert.deepEqual(counts(subscribes(broker, isV5)).slice(-split.length), split)
        assert.equal(broker.connections, refuses ? 1 : each === 8 ? 2 : 3)
        // It is remembered, and reported once.
        const before = broker.connections
        broker.hangUp()
        await waitFor(() => broker.connections > before && pipeline.metrics().mqtt.connected === 1, { message: () => 'a reconnect' })
        assert.deepEqual(counts(subscribes(broker, isV5, before + 1)), split)
        const reports = warnings.filter(({ code }) => code === 'SUBSCRIBE_SPLIT')
        assert.deepEqual(reports.map(({ url, filtersPerSubscribe }) => [url, filtersPerSubscribe]), [[broker.url, each]])
        assert.match(reports[0].message, new RegExp(`Set mqtt.filtersPerSubscribe to ${each}`))
      })
    }
  }

  test(`a broker that refuses each filter is an error, MQTT ${protocolVersion}`, { timeout }, async (t) => {
    const broker = await startScriptedBroker(t, { subscribe: isV5 ? 0x87 : 0x80, properties })
    const table = await servers.table('seq UInt32')
    const pipeline = servers.pipeline(t, { mqtt: { url: broker.url, protocolVersion }, routes: routesTo(table) })
    await assert.rejects(pipeline.start(), { code: 'SUBSCRIPTION_REFUSED', message: /plant\/\d+\/state/ })
  })
}

test("packets stay below the broker's Maximum Packet Size", { timeout }, async (t) => {
  const MOST = 64
  const broker = await startScriptedBroker(t, { properties: [...NO_IDS, 0x27, 0, 0, 0, MOST] })
  const table = await servers.table('seq UInt32')
  const pipeline = await servers.started(t, { mqtt: { url: broker.url, protocolVersion: 5 }, routes: routesTo(table) })
  const sizes = (type) => broker.bodies(type).map((body) => body.length + 2)
  assert.ok(sizes('SUBSCRIBE').every((size) => size <= MOST), `${sizes('SUBSCRIBE')}`)
  assert.ok(sizes('SUBSCRIBE').length < COUNT, 'several filters fit into one packet')
  assert.deepEqual(subscribes(broker, true).flat().sort(), topics().sort())
  await pipeline.stop()
  assert.ok(sizes('UNSUBSCRIBE').every((size) => size <= MOST), `${sizes('UNSUBSCRIBE')}`)
})

test('a real broker delivers what many filters in small packets ask for', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const prefix = unique('plant')
  const pipeline = await servers.started(t, {
    mqtt: { protocolVersion: 4, filtersPerSubscribe: 8 },
    routes: topics(100).map((topic) => ({ topic: `${prefix}/${topic}`, table })),
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(1000, (seq) => ({ topic: `${prefix}/plant/${seq % 100}/state`, payload: JSON.stringify({ seq }) }))
  await settled(pipeline, 1000)
  assert.deepEqual(await servers.counted(table), { rows: 1000, different: 1000 })
})
