// Edge nodes of Sparkplug B that are asked for their BIRTH messages: sparkplug-payload encodes, mosquitto is between.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectAsync } from 'mqtt'
import sparkplug from 'sparkplug-payload'
import { Pipeline } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { collect, endPipeline, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const { encodePayload, decodePayload } = sparkplug.get('spBv1.0')
const AT = Date.parse('2026-11-30T12:00:00.250Z')
const TABLE = "type String, device Nullable(String), name String, value Float64"

/** An edge node with one device: it publishes what the test says, and its BIRTH messages when it is asked to. */
class EdgeNode {
  node = unique('node')
  /** The commands to it. */
  commands = /** @type {any[]} */ ([])
  seq = 0

  /** @param {import('mqtt').MqttClient} client @param {string} group */
  constructor(client, group) {
    this.client = client
    this.group = group
    client.on('message', (topic, payload, { qos, retain }) => {
      const command = decodePayload(payload)
      this.commands.push({ topic, qos, retain, ...command })
      if (command.metrics?.some(({ name, value }) => name === 'Node Control/Rebirth' && value === true)) void this.birth()
    })
  }

  static async open(t, group, options = {}) {
    const client = await connectAsync(servers.broker.url, options)
    t.after(() => client.endAsync(true))
    const node = new EdgeNode(client, group)
    await client.subscribeAsync(`spBv1.0/${group}/NCMD/${node.node}`)
    return node
  }

  /** @param {string} kind @param {any[]} metrics */
  async send(kind, metrics, { device = 'd1', seq = this.seq } = {}) {
    this.seq = (seq + 1) % 256
    const topic = `spBv1.0/${this.group}/${kind}/${this.node}${kind.startsWith('D') ? `/${device}` : ''}`
    const payload = encodePayload({ timestamp: AT, seq, metrics: metrics.map((metric) => ({ timestamp: AT, ...metric })) })
    await this.client.publishAsync(topic, Buffer.from(payload), { qos: 1 })
  }

  async birth() {
    await this.send('NBIRTH', [{ name: 'load', alias: 1, type: 'Double', value: 0.5 }], { seq: 0 })
    await this.send('DBIRTH', [{ name: 'temp', alias: 2, type: 'Double', value: 20 }])
  }
}

/** A pipeline with a route for the group, and what it says. */
async function listening(t, { group, mqtt = {}, ...route }) {
  const table = await servers.table(TABLE)
  const routes = [{ topic: `spBv1.0/${group}/#`, table, format: 'sparkplug', where: { not: { path: 'type', eq: 'NCMD' } }, ...route }]
  const pipeline = new Pipeline(servers.config({ mqtt, routes }))
  t.after(() => endPipeline(pipeline))
  const [letters, warnings] = [collect(pipeline, 'deadLetters'), collect(pipeline, 'warning')]
  await pipeline.start()
  const rows = () => servers.rows(`SELECT type, name, value FROM ${table} ORDER BY type, name, value`)
  return { pipeline, letters, warnings, rows, told: () => warnings.filter(({ code }) => code === 'SPARKPLUG_REBIRTH') }
}

for (const protocolVersion of [4, 5]) {
  test(`an edge node whose alias is not known is asked for its BIRTH (MQTT ${protocolVersion})`, { timeout }, async (t) => {
    const group = unique('group')
    const node = await EdgeNode.open(t, group, { protocolVersion })
    const { pipeline, letters, told, rows } = await listening(t, { group, mqtt: { protocolVersion }, sparkplug: { rebirth: true } })
    await node.send('NDATA', [{ alias: 1, type: 'Double', value: 0.75 }], { seq: 7 })
    await waitFor(() => node.commands.length > 0, { message: 'the command' })
    await settled(pipeline, 4)
    await heard(pipeline, letters)
    assert.deepEqual(letters.map(({ code }) => code), ['ALIAS_UNKNOWN'])
    const [{ topic, qos, retain, metrics, seq }] = node.commands
    assert.deepEqual({ topic, qos, retain, seq }, { topic: `spBv1.0/${group}/NCMD/${node.node}`, qos: 0, retain: false, seq: undefined })
    assert.deepEqual(metrics.map(({ name, type, value }) => ({ name, type, value })), [{ name: 'Node Control/Rebirth', type: 'Boolean', value: true }])
    assert.ok(Math.abs(Number(node.commands[0].timestamp) - Date.now()) < 60_000)

    await node.send('NDATA', [{ alias: 1, value: 0.25, type: 'Double' }])
    await node.send('DDATA', [{ alias: 2, value: 21, type: 'Double' }])
    await settled(pipeline, 6)
    assert.deepEqual((await rows()).map((row) => Object.values(row)), [
      ['DBIRTH', 'temp', 20],
      ['DDATA', 'temp', 21],
      ['NBIRTH', 'load', 0.5],
      ['NDATA', 'load', 0.25],
    ])
    assert.equal(node.commands.length, 1)
    assert.equal(pipeline.metrics().mqtt.rebirthRequests, 1)
    const [warning] = told()
    assert.equal(told().length, 1)
    assert.equal(warning.route, 0)
    assert.match(warning.reason, new RegExp(`^no NBIRTH of ${group}/${node.node} has come$`))
    assertLedger(pipeline.metrics())
  })
}

test('a node is asked where a message is missing, or the BIRTH of a device, and once however many messages follow', { timeout }, async (t) => {
  const group = unique('group')
  const [gap, device] = [await EdgeNode.open(t, group), await EdgeNode.open(t, group)]
  const { pipeline, letters, warnings, rows } = await listening(t, { group, sparkplug: { rebirth: true } })
  await gap.birth()
  await gap.send('NDATA', [{ name: 'load', type: 'Double', value: 1 }])
  await gap.send('NDATA', [{ name: 'load', type: 'Double', value: 2 }], { seq: 9 })
  await waitFor(() => gap.commands.length === 1, { message: 'asked because of the gap' })
  await settled(pipeline, 7)
  await device.send('NBIRTH', [{ name: 'load', alias: 1, type: 'Double', value: 0.5 }], { seq: 0 })
  for (let i = 0; i < 20; i++) await device.send('DDATA', [{ name: 'temp', type: 'Double', value: i }], { device: 'unborn' })
  await waitFor(() => device.commands.length === 1, { message: 'asked because of the device' })
  await settled(pipeline, 7 + 21 + 3)
  await heard(pipeline, letters)
  assert.deepEqual(letters, [])
  assert.equal((await rows()).length, 29)
  assert.deepEqual([gap.commands.length, device.commands.length], [1, 1])
  assert.equal(pipeline.metrics().mqtt.rebirthRequests, 2)
  // The second request is within a minute of the first.
  assert.deepEqual(warnings.filter(({ code }) => code === 'SPARKPLUG_REBIRTH').map(({ reason }) => reason), [`${group}/${gap.node} has sent the number 9 after 2`])
})

test('without the option nothing is published', { timeout }, async (t) => {
  const group = unique('group')
  const node = await EdgeNode.open(t, group)
  const { pipeline, letters, told } = await listening(t, { group })
  for (let i = 0; i < 5; i++) await node.send('NDATA', [{ alias: 1, type: 'Double', value: 1 }])
  await settled(pipeline, 5)
  await heard(pipeline, letters)
  assert.equal(letters.length, 5)
  assert.deepEqual([pipeline.metrics().mqtt.rebirthRequests, node.commands, told()], [0, [], []])
})

test('numbers are not compared where other routes or connections take a part of the messages', { timeout }, async (t) => {
  for (const options of [{ mqtt: { sharedGroup: unique('shared') } }, { topic: 'spBv1.0/GROUP/NDATA/+' }]) {
    const group = unique('group')
    const node = await EdgeNode.open(t, group)
    const topic = (options.topic ?? 'spBv1.0/GROUP/#').replace('GROUP', group)
    const { pipeline, letters } = await listening(t, { group, ...options, topic, sparkplug: { rebirth: true } })
    await node.birth()
    await node.send('NDATA', [{ name: 'load', type: 'Double', value: 1 }])
    await node.send('NDATA', [{ name: 'load', type: 'Double', value: 2 }], { seq: 9 })
    const isPart = options.topic !== undefined
    await settled(pipeline, isPart ? 2 : 4)
    await heard(pipeline, letters)
    // Without the BIRTH, which the route does not take, the node is asked nevertheless.
    assert.equal(pipeline.metrics().mqtt.rebirthRequests, isPart ? 1 : 0)
  }
})

test('the option is for routes with this format', () => {
  const routes = [{ topic: 'a', table: 't', sparkplug: { rebirth: true } }]
  assert.throws(() => new Pipeline({ mqtt: { url: 'mqtt://x' }, clickhouse: { url: 'http://x' }, routes }), {
    code: 'CONFIG_INVALID',
    path: 'routes[0].sparkplug',
  })
})
