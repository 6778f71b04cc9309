// proposeTable() for payloads of every format: the proposed table is created, and a route with the same options fills it with
// the samples.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { encode as encodeMessagePack } from '@msgpack/msgpack'
import { encode as encodeCbor } from 'cbor2'
import protobuf from 'protobufjs'
import 'protobufjs/ext/descriptor/index.js'
import sparkplug from 'sparkplug-payload'
import { MillraceError, proposeTable } from '../../index.js'
import { collect, endPipeline, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

/**
 * Creates the table that is proposed for samples, sends them there, and returns the table's columns and its rows.
 *
 * @param {any} t
 * @param {any[]} samples payloads, or `{ topic, payload }`
 * @param {any} reading options of the route, which are those of the proposal
 */
async function fill(t, samples, reading, { topic = unique('topic'), rows = samples.length, columns = undefined, order = 'ALL' } = {}) {
  const table = unique('proposed')
  const proposal = proposeTable(samples, { table, topic, ...reading })
  await servers.command(proposal)
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, ...reading, ...(columns && { columns }) }] })
  const deadLetters = collect(pipeline, 'deadLetters')
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const sample of samples) await publisher.publish(sample.topic ?? topic, Buffer.from(sample.payload ?? sample))
  await settled(pipeline, samples.length)
  assert.deepEqual(deadLetters.map(({ code, message }) => `${code} ${message}`), [], proposal)
  assert.equal(await servers.count(table), rows, proposal)
  await endPipeline(pipeline)
  const types = Object.fromEntries(Array.from(proposal.matchAll(/^ {4}`(.+?)` (.+?),?$/gm), ([, name, type]) => [name, type]))
  return { types, rows: await servers.rows(`SELECT * FROM ${table} ORDER BY ${order}`) }
}

const READINGS = [
  { id: 'a', seq: 1, temperature: 21.5, on: true },
  { id: 'b', seq: 2, temperature: -3.25, on: false, note: 'cold' },
]

for (const [format, encode] of /** @type {[string, (value: any) => Uint8Array][]} */ ([
  ['msgpack', encodeMessagePack],
  ['cbor', encodeCbor],
])) {
  test(`${format}: numbers, texts, bytes and times`, { timeout }, async (t) => {
    const samples = READINGS.map((reading) => encode({ ...reading, raw: new Uint8Array([0, 255]), at: new Date(1_730_000_000_123) }))
    const { types, rows } = await fill(t, samples, { format })
    assert.deepEqual(types, {
      id: 'String',
      seq: 'Int64',
      temperature: 'Float64',
      on: 'Bool',
      raw: 'String',
      at: "DateTime64(3, 'UTC')",
      note: 'Nullable(String)',
    })
    assert.deepEqual(rows.map(({ id, seq, temperature, on, note }) => ({ id, seq: Number(seq), temperature, on, ...(note && { note }) })), READINGS)
    assert.equal(rows[0].at, '2024-10-27 03:33:20.123')
  })
}

test('csv: numbers are numbers, an empty field is absent', { timeout }, async (t) => {
  const samples = ['id,seq,temperature,note\na,1,21.5,\nb,2,-3.25,cold\n', 'id,seq,temperature,note\nc,3,4,x y\n']
  const { types, rows } = await fill(t, samples, { format: 'csv' }, { rows: 3 })
  assert.deepEqual(types, { id: 'String', seq: 'Int64', temperature: 'Float64', note: 'Nullable(String)' })
  assert.deepEqual(rows.map(({ temperature }) => temperature), [21.5, -3.25, 4])
})

test('text: one column, which the route names', { timeout }, async (t) => {
  const { types, rows } = await fill(t, ['21.5', '-3', '22'], { format: 'text' }, { columns: { value: '$' } })
  assert.deepEqual(types, { value: 'Float64' })
  assert.deepEqual(rows.map(({ value }) => value), [-3, 21.5, 22])
})

test('protobuf: by its descriptors', { timeout }, async (t) => {
  const { root } = protobuf.parse('syntax = "proto3"; package fleet; message Reading { string id = 1; int64 seq = 2; double temperature = 3; bool on = 4; bytes raw = 5; }', { keepCase: true })
  // @ts-expect-error protobufjs/ext/descriptor adds it.
  const descriptor = root.toDescriptor('proto3')
  const schema = Buffer.from(descriptor.constructor.encode(descriptor).finish())
  const type = root.lookupType('fleet.Reading')
  const samples = READINGS.map((reading) => type.encode(type.create({ ...reading, raw: Buffer.from('x') })).finish())
  const { types, rows } = await fill(t, samples, { format: { type: 'protobuf', schema, message: 'fleet.Reading' } })
  assert.deepEqual([types.id, types.seq, types.temperature, types.raw], ['String', 'Int64', 'Float64', 'String'])
  assert.deepEqual(rows.map(({ temperature }) => temperature), [21.5, -3.25])
})

test('sparkplug: a row per metric, with the aliases of the BIRTH', { timeout }, async (t) => {
  const { encodePayload } = sparkplug.get('spBv1.0')
  const [group, node] = [unique('group'), 'node']
  const birth = encodePayload({
    timestamp: 1_730_000_000_000,
    seq: 0,
    metrics: [
      { name: 'temperature', alias: 1, type: 'Double', value: 21.5 },
      { name: 'count', alias: 2, type: 'Int32', value: 7 },
    ],
  })
  const data = encodePayload({ timestamp: 1_730_000_001_000, seq: 1, metrics: [{ alias: 1, type: 'Double', value: 22.5 }] })
  const samples = [
    { topic: `spBv1.0/${group}/NBIRTH/${node}`, payload: birth },
    { topic: `spBv1.0/${group}/NDATA/${node}`, payload: data },
  ]
  const { types, rows } = await fill(t, samples, { format: 'sparkplug' }, { topic: `spBv1.0/${group}/#`, rows: 3, order: 'timestamp, name' })
  assert.deepEqual(rows.map(({ name, value }) => [name, Number(value)]), [['count', 7], ['temperature', 21.5], ['temperature', 22.5]])
  assert.equal(types.group, 'String')
})

test('compressed payloads', { timeout }, async (t) => {
  const samples = READINGS.map((reading) => gzipSync(JSON.stringify(reading)))
  const { rows } = await fill(t, samples, { compression: 'gzip' })
  assert.deepEqual(rows.map(({ id }) => id), ['a', 'b'])
})

test('rows of a list, with the fields around it', { timeout }, async (t) => {
  const sample = (gateway, values) => JSON.stringify({ gateway, meta: { rssi: -70 }, data: { readings: values.map((value, i) => ({ sensor: `s${i}`, value })) } })
  const { types, rows } = await fill(t, [sample('g1', [1.5, 2.5]), sample('g2', [3.5])], { rows: '$.data.readings' }, { rows: 3, order: 'value' })
  assert.deepEqual(Object.keys(types).sort(), ['gateway', 'meta', 'sensor', 'value'])
  assert.deepEqual(rows.map(({ gateway, sensor, value }) => [gateway, sensor, value]), [['g1', 's0', 1.5], ['g1', 's1', 2.5], ['g2', 's0', 3.5]])
})

test('lists that lie side by side', { timeout }, async (t) => {
  const reading = { rows: { zip: { at: '$.times', speed: '$.speeds' } } }
  const { types, rows } = await fill(t, ['{"id":"a","times":[1730000000,1730000001],"speeds":[1.5,2.5]}'], reading, { rows: 2, order: 'at' })
  assert.deepEqual(Object.keys(types).sort(), ['at', 'id', 'speed'])
  assert.deepEqual(rows.map(({ id, speed }) => [id, speed]), [['a', 1.5], ['a', 2.5]])
})

test('wrong options and payloads that cannot be read', () => {
  const refused = (path, message, ...args) => {
    // @ts-ignore
    assert.throws(() => proposeTable(...args), (error) => {
      assert.ok(error instanceof MillraceError, String(error))
      assert.deepEqual([error.code, error.path], ['CONFIG_INVALID', path])
      assert.match(error.message, message)
      return true
    })
  }
  refused('samples[1]', /^samples\[1\]: .*CBOR/, [encodeCbor({ a: 1 }), Buffer.from([0xa1])], { format: 'cbor' })
  refused('samples[0]', /gzip/, ['{"a":1}'], { compression: 'gzip' })
  refused('samples[0]', /rows/, ['{"a":1}'], { rows: '$.list' })
  refused('options.format', /^options\.format/, ['x'], { format: 'xml' })
  refused('options.rows', /^options\.rows/, ['x'], { rows: '@.a' })
  refused('options.columns', /there are table, topic, format/, ['x'], { columns: {} })
})
