// Filters of routes that MQTT has no words for: levels behind a name that takes several, and a QoS for each route.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPipeline } from '../../index.js'
import { startBroker } from '../../tools/servers/index.mjs'
import { OPEN_BROKER, collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

for (const protocolVersion of [4, 5]) {
  test(`a name takes several levels in front of an end: MQTT ${protocolVersion}`, { timeout }, async (t) => {
    const [availability, states] = [await servers.table('device String, online Bool'), await servers.table('device String, on Bool')]
    const above = unique('home')
    const prefix = `${above}/zigbee`
    const pipeline = await servers.started(t, {
      mqtt: { protocolVersion },
      routes: [
        { topic: `${prefix}/{device#}/availability`, table: availability },
        { topic: `${prefix}/{device}`, table: states },
        // Another filter that overlaps the subscription in part.
        { topic: `${above}/+/bridge/{device}`, table: states },
      ],
    })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t, { clients: 1 })
    await publisher.publish(`${prefix}/lamp/availability`, { online: true })
    await publisher.publish(`${prefix}/floor 1/desk/lamp/availability`, { online: false })
    await publisher.publish(`${prefix}/lamp`, { on: true })
    await publisher.publish(`${prefix}/bridge/log`, { on: false })
    // No route takes any of these.
    for (const topic of ['bridge/log/all', 'lamp/set/on', 'floor 1/lamp']) await publisher.publish(`${prefix}/${topic}`, 'text')
    await publisher.publish(`${prefix}/availability`, { on: true })
    await settled(pipeline, 8)
    assert.deepEqual(await servers.rows(`SELECT * FROM ${availability} ORDER BY device`), [
      { device: 'floor 1/desk/lamp', online: false },
      { device: 'lamp', online: true },
    ])
    assert.deepEqual(await servers.rows(`SELECT * FROM ${states} ORDER BY device`), [
      { device: 'availability', on: true },
      { device: 'lamp', on: true },
      { device: 'log', on: false },
    ])
    const { inserted, skipped, deadLettered } = pipeline.metrics().messages
    // With MQTT 5 the broker sends a copy for each of the two subscriptions that overlap.
    assert.deepEqual([inserted, skipped, deadLettered, letters.length], [5, protocolVersion === 5 ? 4 : 3, 0, 0])
  })

  test(`each route has its QoS, and where they overlap the highest: MQTT ${protocolVersion}`, { timeout }, async (t) => {
    const table = await servers.table('name String, qos UInt8')
    const prefix = unique('qos')
    const columns = { name: { topic: 'name' }, qos: { meta: 'qos' } }
    const pipeline = await servers.started(t, {
      mqtt: { protocolVersion, qos: 1, clientId: unique('client') },
      routes: [
        { topic: `${prefix}/never/{name}`, table, columns, qos: 0 },
        { topic: `${prefix}/default/{name}`, table, columns },
        { topic: `${prefix}/once/{name}`, table, columns, qos: 2 },
        // The first is covered by the second, the third and the fourth overlap in part.
        { topic: `${prefix}/a/{name}`, table, columns, qos: 2 },
        { topic: `${prefix}/a/{name#}`, table, columns, qos: 0 },
        { topic: `${prefix}/b/{name}/x`, table, columns, qos: 0 },
        { topic: `${prefix}/b/y/{name}`, table, columns, qos: 2 },
      ],
    })
    const publisher = await servers.publisher(t, { clients: 1 })
    const topics = ['never/1', 'default/2', 'once/3', 'a/4', 'a/5/6', 'b/7/x', 'b/y/8']
    for (const topic of topics) await publisher.publish(`${prefix}/${topic}`, {}, { qos: 2 })
    await settled(pipeline, topics.length)
    const rows = await servers.rows(`SELECT name, qos FROM ${table} ORDER BY name`)
    assert.deepEqual(
      rows.map(({ name, qos }) => `${name} ${qos}`),
      ['1 0', '2 1', '3 2', '4 2', '5/6 2', '7 2', '8 2'],
    )
  })
}

test('a QoS that is lowered is a warning for the routes that asked for more', { timeout }, async (t) => {
  const broker = await startBroker({ config: [...OPEN_BROKER, 'max_qos 1'] })
  t.after(() => broker.remove())
  const table = await servers.table('a UInt8')
  const config = servers.config({
    mqtt: { url: broker.url, qos: 0 },
    routes: [{ topic: 'once/+', table, qos: 2 }, { topic: 'plain/+', table }, { topic: 'least/+', table, qos: 1 }],
  })
  const pipeline = servers.pipeline(t, config)
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  await pipeline.stop()
  const lowered = warnings.filter(({ code }) => code === 'QOS_LOWERED')
  assert.deepEqual(lowered.map(({ filters }) => filters), [['once/+']])
  const { findings } = await checkPipeline(config)
  const [finding] = findings.filter(({ code }) => code === 'QOS_LOWERED')
  assert.match(finding.message, /less QoS was granted than the routes ask for: once\/\+$/)
})
