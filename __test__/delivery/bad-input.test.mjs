// Messages that cannot become rows: each is a dead letter with its reason, and the stream continues.

import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, heard, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

const COLUMNS = `seq UInt32, name String, small Int8, big UInt64, ratio Float64, narrow Float32, live Bool, trip UUID,
  zone Enum8('city' = 1, 'road' = 2), day Date, at DateTime('UTC'), at3 DateTime64(3, 'UTC'), maybe Nullable(Int8)`

const GOOD = {
  name: 'x',
  small: 1,
  big: 1,
  ratio: 1,
  narrow: 1,
  live: true,
  trip: '01234567-89ab-cdef-0123-456789abcdef',
  zone: 'city',
  day: '2024-01-01',
  at: '2024-01-01T00:00:00Z',
  at3: 1_730_000_000_000,
  maybe: null,
}

const withField = (name, value) => JSON.stringify({ seq: 0, ...GOOD, [name]: value })
const withText = (name, json) => `{"seq":0,${JSON.stringify(GOOD).slice(1, -1)},"${name}":${json}}`
const without = (name) => JSON.stringify({ seq: 0, ...GOOD, [name]: undefined })
const bytes = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)))

const JSON_INVALID = [
  '',
  ' ',
  'nonsense',
  '{',
  '{"seq":1',
  '{"seq":1,}',
  '{"seq":01}',
  '{"seq":+1}',
  '{"seq":.5}',
  '{"seq":NaN}',
  "{'seq':1}",
  '{seq:1}',
  `${withField('seq', 1)}}`,
  `${withField('seq', 1)}x`,
  withText('name', '"a\nb"'),
  withText('name', '"\\ud800"'),
  withText('name', '"\\x41"'),
  bytes('{"seq":1,"', [0xff, 0xfe], '":1}'),
  bytes('{"seq":1,"zone":"', [0xed, 0xa0, 0x80], '"}'),
  Buffer.from([0, 1, 2, 3, 0xff]),
  Buffer.alloc(1000),
  '{"deep":'.repeat(10_000),
  '['.repeat(100_000),
]

/** @type {any[]} the code, what the message says, the payload */
const BAD = [
  ...JSON_INVALID.map((payload) => ['JSON_INVALID', /./, payload]),
  ...['[1]', `[${withField('seq', 1)},[]]`, 'null', 'true', '12', '-1.5', '"text"'].map((p) => [
    'NOT_AN_OBJECT',
    /object/,
    p,
  ]),
  ['FIELD_MISSING', /seq/, '{}'],
  ...Object.keys(GOOD)
    .filter((name) => name !== 'maybe')
    .flatMap((name) => [
      ['FIELD_MISSING', new RegExp(`\\b${name}\\b`), without(name)],
      ['FIELD_MISSING', new RegExp(`\\b${name}\\b`), withField(name, null)],
      // A list fits nothing but a String, which takes it as text.
      ...(name === 'name' ? [] : [['TYPE_MISMATCH', new RegExp(`\\b${name}\\b`), withField(name, [1])]]),
    ]),
  ['TYPE_MISMATCH', /seq/, withField('seq', 'one')],
  ['TYPE_MISMATCH', /seq/, withField('seq', 1.5)],
  ['TYPE_MISMATCH', /seq/, withField('seq', { a: 1 })],
  ['OUT_OF_RANGE', /seq.*4294967296/, withField('seq', 4_294_967_296)],
  ['OUT_OF_RANGE', /small/, withField('small', 128)],
  ['OUT_OF_RANGE', /small/, withField('small', -129)],
  ['OUT_OF_RANGE', /big/, withField('big', -1)],
  ['OUT_OF_RANGE', /big/, withText('big', '18446744073709551616')],
  ['OUT_OF_RANGE', /big/, withText('big', '1e300')],
  ['OUT_OF_RANGE', /maybe/, withField('maybe', 1000)],
  ['OUT_OF_RANGE', /narrow/, withField('narrow', 1e39)],
  ['TYPE_MISMATCH', /ratio/, withField('ratio', '12,5')],
  ['TYPE_MISMATCH', /live/, withField('live', 'perhaps')],
  ['TYPE_MISMATCH', /trip/, withField('trip', '01234567-89ab-cdef-0123-456789abcdeg')],
  ['TYPE_MISMATCH', /trip/, withField('trip', '01234567')],
  ['TYPE_MISMATCH', /zone.*village/, withField('zone', 'village')],
  ['TYPE_MISMATCH', /zone/, withField('zone', 3)],
  ['TYPE_MISMATCH', /day/, withField('day', '2024-02-30')],
  ['TYPE_MISMATCH', /day/, withField('day', '01.02.2024')],
  ['OUT_OF_RANGE', /day/, withField('day', '1969-12-31')],
  ['TYPE_MISMATCH', /at/, withField('at', 'yesterday')],
  ['OUT_OF_RANGE', /at/, withField('at', '2107-01-01T00:00:00Z')],
  ['OUT_OF_RANGE', /at/, withField('at', -1)],
  ['OUT_OF_RANGE', /at3/, withText('at3', '1e25')],
]

for (const protocolVersion of [4, 5]) {
  test(`every kind of bad message, between good ones (MQTT ${protocolVersion})`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, { mqtt: { protocolVersion }, routes: [{ topic: `${prefix}/+`, table }] })
    const ledger = watchLedger(pipeline)
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t, { clients: 1 })
    const before = Date.now()
    for (const [i, [, , payload]] of BAD.entries()) {
      await publisher.publish(`${prefix}/${i}`, withField('seq', i))
      await publisher.publish(`${prefix}/${i}`, payload)
    }
    await settled(pipeline, 2 * BAD.length)
    await heard(pipeline, letters)

    assert.equal(letters.length, BAD.length)
    for (const [i, [code, message, payload]] of BAD.entries()) {
      const letter = letters[i]
      const about = `${String(payload).slice(0, 200)}: ${letter.code} ${letter.message}`
      assert.equal(letter.code, code, about)
      assert.match(letter.message, message, about)
      assert.equal(letter.topic, `${prefix}/${i}`)
      assert.equal(letter.route, 0)
      assert.ok(Buffer.isBuffer(letter.payload))
      assert.ok(letter.payload.equals(Buffer.from(payload)), about)
      assert.ok(letter.receivedAt instanceof Date)
      assert.ok(letter.receivedAt.getTime() >= before - 1 && letter.receivedAt.getTime() <= Date.now())
    }
    const rows = await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`)
    assert.deepEqual(
      rows.map((row) => row.seq),
      BAD.map((_, i) => i),
    )
    const { messages, tables, mqtt } = pipeline.metrics()
    assert.equal(messages.inserted, BAD.length)
    assert.equal(messages.deadLettered, BAD.length)
    assert.equal(Object.values(tables)[0].deadLettered, BAD.length)
    assert.equal(mqtt.reconnects, 0)
    await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'dead letters are acknowledged too' })
    ledger.close()
  })
}

test('harmless input: deep nesting and odd values in fields that no column reads', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  const payloads = [
    `{"seq":0,"deep":${'['.repeat(50_000)}${']'.repeat(50_000)}}`,
    `{"deep":${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)},"seq":1}`,
    '{"seq":2,"huge":1e5000}',
    `{"${'k'.repeat(100_000)}":0,"seq":3}`,
  ]
  for (const payload of payloads) await publisher.publish(topic, payload)
  await settled(pipeline, payloads.length)
  // A parser may refuse the first ones, for its own safety; nothing may be lost without a word.
  const { inserted, deadLettered } = pipeline.metrics().messages
  assert.equal(inserted + deadLettered, payloads.length)
  const rows = await servers.rows(`SELECT seq FROM ${table} WHERE seq = 3`)
  assert.equal(rows.length, 1)
  assertLedger(pipeline.metrics())
})

test('a payload of nearly maxPacketBytes is a row', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, text String')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  const length = 1024 * 1024 - 100
  for (let seq = 0; seq < 5; seq++) await publisher.publish(topic, { seq, text: 'ü'.repeat(length / 2) })
  await settled(pipeline, 5)
  const rows = await servers.rows(
    `SELECT seq, length(text) AS bytes, lengthUTF8(text) AS length FROM ${table} ORDER BY seq`,
  )
  assert.deepEqual(
    rows,
    [0, 1, 2, 3, 4].map((seq) => ({ seq, bytes: String(length), length: String(length / 2) })),
  )
})

test('a larger packet is a dead letter with MQTT 3.1.1', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, text Nullable(String)')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { mqtt: { protocolVersion: 4 }, routes: [{ topic: `${prefix}/+`, table }] })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  const text = 'x'.repeat(1024 * 1024)
  await publisher.publish(`${prefix}/a`, { seq: 1 })
  await publisher.publish(`${prefix}/b`, { seq: 2, text })
  await publisher.publish(`${prefix}/c`, { seq: 3, text: text.repeat(8) })
  await publisher.publish(`${prefix}/d`, { seq: 4 })
  await settled(pipeline, 4)
  await heard(pipeline, letters)
  assert.deepEqual(
    letters.map(({ code, topic }) => [code, topic]),
    [
      ['PACKET_TOO_LARGE', `${prefix}/b`],
      ['PACKET_TOO_LARGE', `${prefix}/c`],
    ],
  )
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`), [{ seq: 1 }, { seq: 4 }])
  assert.equal(pipeline.metrics().mqtt.reconnects, 0)
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'large packets are acknowledged' })
  assertLedger(pipeline.metrics())
})

test('with MQTT 5 the broker does not send it', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, text Nullable(String)')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { protocolVersion: 5, maxPacketBytes: 10_000 },
    routes: [{ topic, table }],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(topic, { seq: 1 })
  await publisher.publish(topic, { seq: 2, text: 'x'.repeat(10_000) })
  await publisher.publish(topic, { seq: 3 })
  await settled(pipeline, 2)
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`), [{ seq: 1 }, { seq: 3 }])
  assert.equal(pipeline.metrics().mqtt.reconnects, 0)
})

test('a message of an old subscription that no route takes any more', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const prefix = unique('topic')
  const mqtt = { clientId: unique('client') }
  const first = await servers.started(t, { mqtt, routes: [{ topic: `${prefix}/old`, table }] })
  await first.stop()

  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(`${prefix}/old`, { seq: 1 })
  const second = servers.pipeline(t, { mqtt, routes: [{ topic: `${prefix}/new`, table }] })
  const letters = collect(second, 'deadLetters')
  await second.start()
  await publisher.publish(`${prefix}/new`, { seq: 2 })
  await settled(second, 2)
  await heard(second, letters)
  assert.deepEqual(
    letters.map(({ code, topic, payload }) => [code, topic, String(payload)]),
    [['NO_ROUTE', `${prefix}/old`, '{"seq":1}']],
  )
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [{ seq: 2 }])
  assertLedger(second.metrics())
})

test('a topic that is not UTF-8', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, topic Nullable(String)')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4 },
    routes: [{ topic: 'a/#', table, columns: { topic: { meta: 'topic' } } }],
  })
  const letters = collect(pipeline, 'deadLetters')
  const topic = Buffer.from([0x61, 0x2f, 0xff, 0xfe])
  broker.send(publishPacket('a/good', '{"seq":1}', { id: 1 }))
  broker.send(publishPacket(topic, '{"seq":2}', { id: 2 }))
  broker.send(publishPacket('a/good', '{"seq":3}', { id: 3 }))
  await waitFor(async () => (await servers.count(table)) === 2, { message: 'the good rows' })
  await waitFor(() => letters.length === 1, { message: 'the dead letter' })
  assert.equal(String(letters[0].payload), '{"seq":2}')
  assert.match(letters[0].message, /UTF-8/)
  await waitFor(() => broker.acknowledged.length === 3, { message: 'all are acknowledged' })
  assert.deepEqual(broker.acknowledged, [1, 2, 3])
  assert.equal(broker.connections, 1)
  assertLedger(pipeline.metrics())
})

test('a batch that ClickHouse refuses goes to the dead letters, the stream goes on', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, lat Float64, CONSTRAINT on_earth CHECK abs(lat) <= 90')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table }], batch: { maxDelayMs: 300 } })
  const ledger = watchLedger(pipeline)
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t)
  const flood = (from, count, lat) =>
    publisher.flood(count, (i) => ({ topic, payload: JSON.stringify({ seq: from + i, lat }) }))
  await flood(0, 100, 45)
  await settled(pipeline, 100)
  await flood(100, 10, 91)
  await settled(pipeline, 110)
  await flood(110, 100, 45)
  await settled(pipeline, 210)
  await heard(pipeline, letters)
  const refused = letters.map(({ payload }) => JSON.parse(payload).seq).sort((a, b) => a - b)
  assert.deepEqual(
    refused,
    Array.from({ length: 10 }, (_, i) => 100 + i),
  )
  for (const letter of letters) {
    assert.equal(letter.code, 'REJECTED_BY_CLICKHOUSE')
    assert.match(letter.message, /on_earth/)
    assert.equal(letter.topic, topic)
  }
  assert.deepEqual(await servers.counted(table), { rows: 200, different: 200 })
  const { messages } = pipeline.metrics()
  assert.deepEqual([messages.inserted, messages.deadLettered, messages.pending], [200, 10, 0])
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, {
    message: 'refused messages are acknowledged too',
  })
  ledger.close()
})

test('bad messages do not fill the window of a broker', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { mqtt: { receiveMaximum: 5 }, routes: [{ topic, table }] })
  const publisher = await servers.publisher(t)
  await publisher.flood(500, (seq) => ({ topic, payload: seq % 100 === 0 ? JSON.stringify({ seq }) : 'bad' }))
  await settled(pipeline, 500)
  const { messages } = pipeline.metrics()
  assert.deepEqual([messages.inserted, messages.deadLettered], [5, 495])
})

test('dead letters to a table that is created', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const deadLetters = { table: unique('dead_letters') }
  const prefix = unique('topic')
  const config = { routes: [{ topic: `${prefix}/+`, table }], deadLetters }
  const pipeline = await servers.started(t, config)
  const ledger = watchLedger(pipeline)
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(`${prefix}/a`, 'nonsense')
  await publisher.publish(`${prefix}/b`, Buffer.from([0, 0xff, 0x80, 0x0a]))
  await publisher.publish(`${prefix}/c`, { seq: 1 })
  await publisher.publish(`${prefix}/d`, { seq: 'ü' })
  await publisher.publish(`${prefix}/e`, '')
  await settled(pipeline, 5)
  ledger.close()
  const rows = await servers.rows(`SELECT topic, toString(route) AS route, hex(payload) AS payload, error_code, error,
    abs(dateDiff('second', received_at, now())) < 60 AS recent FROM ${deadLetters.table} ORDER BY topic`)
  assert.deepEqual(
    rows.map(({ error, ...row }) => row),
    [
      { topic: `${prefix}/a`, route: '0', payload: hex('nonsense'), error_code: 'JSON_INVALID', recent: 1 },
      { topic: `${prefix}/b`, route: '0', payload: '00FF800A', error_code: 'JSON_INVALID', recent: 1 },
      { topic: `${prefix}/d`, route: '0', payload: hex('{"seq":"ü"}'), error_code: 'TYPE_MISMATCH', recent: 1 },
      { topic: `${prefix}/e`, route: '0', payload: '', error_code: 'JSON_INVALID', recent: 1 },
    ],
  )
  for (const { error } of rows) assert.notEqual(error, '')
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'all are acknowledged' })
  await pipeline.stop()

  // It is there now: the next pipeline adds to it.
  const next = await servers.started(t, config)
  await publisher.flood(5_000, (i) => ({ topic: `${prefix}/f`, payload: `bad ${i}` }))
  await settled(next, 5_000)
  assert.deepEqual(await servers.counted(deadLetters.table, 'payload'), { rows: 5_004, different: 5_004 })
  assertLedger(next.metrics())
})

test('dead letters to files', { timeout }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-'))
  t.after(() => rm(dir, { recursive: true }))
  const table = await servers.table('seq UInt32')
  const prefix = unique('topic')
  const config = { routes: [{ topic: `${prefix}/+`, table }], deadLetters: { dir: join(dir, 'dead', 'letters') } }
  const pipeline = await servers.started(t, config)
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(`${prefix}/a`, 'non\nsense "ü"')
  await publisher.publish(`${prefix}/b`, Buffer.from([0xff, 0xfe, 0x0a]))
  await publisher.publish(`${prefix}/c`, { seq: 1 })
  await publisher.publish(`${prefix}/d`, '')
  await settled(pipeline, 4)
  const letters = await readLetters(config.deadLetters.dir)
  assert.deepEqual(
    letters.map(({ receivedAt, message, ...letter }) => letter),
    [
      { route: 0, topic: `${prefix}/a`, payload: 'non\nsense "ü"', code: 'JSON_INVALID' },
      {
        route: 0,
        topic: `${prefix}/b`,
        payload: Buffer.from([0xff, 0xfe, 0x0a]).toString('base64'),
        encoding: 'base64',
        code: 'JSON_INVALID',
      },
      { route: 0, topic: `${prefix}/d`, payload: '', code: 'JSON_INVALID' },
    ],
  )
  for (const { receivedAt, message } of letters) {
    assert.ok(Math.abs(Date.parse(receivedAt) - Date.now()) < 60_000, receivedAt)
    assert.notEqual(message, '')
  }
  await pipeline.stop()

  const next = await servers.started(t, config)
  await publisher.flood(1_000, (i) => ({ topic: `${prefix}/f`, payload: `bad ${i}` }))
  await settled(next, 1_000)
  assert.equal((await readLetters(config.deadLetters.dir)).length, 1_003)
})

test('dead letters to nowhere: the event, the counter, and one warning', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table }] })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(3_000, () => ({ topic, payload: 'bad' }))
  await settled(pipeline, 3_000)
  await heard(pipeline, letters)
  assert.equal(pipeline.metrics().messages.deadLettered, 3_000)
  assert.equal(warnings.filter(({ message }) => /dead letter/i.test(message)).length, 1)
})

test('dead letters without a listener are counted', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(100, (seq) => ({ topic, payload: seq % 2 ? 'bad' : JSON.stringify({ seq }) }))
  await settled(pipeline, 100)
  const { messages } = pipeline.metrics()
  assert.deepEqual([messages.inserted, messages.deadLettered], [50, 50])
})

test('bytes that are not MQTT end the connection, not the pipeline', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, reconnect: { minMs: 10, maxMs: 50 } },
    routes: [{ topic: 'a', table }],
  })
  const garbage = [
    [0x00, 0x00],
    [0xf0, 0x00],
    [0x30, 0xff, 0xff, 0xff, 0xff, 0x7f],
    [0x32, 0x03, 0x00, 0x01, 0x61],
    [0x36, 0x00],
  ]
  for (const [i, bytes] of garbage.entries()) {
    broker.send(Buffer.from(bytes))
    await waitFor(() => broker.connections === i + 2, { message: () => `connection ${i + 2} after ${bytes}` })
    await waitFor(() => broker.packets.filter(({ type }) => type === 'SUBSCRIBE').length === i + 2, {
      message: 'subscribed again',
    })
  }
  broker.send(publishPacket('a', '{"seq":1}', { id: 1 }))
  await received(pipeline, 1)
  await pipeline.flush()
  assert.equal(await servers.count(table), 1)
  assert.equal(pipeline.metrics().mqtt.reconnects, garbage.length)
  assertLedger(pipeline.metrics())
})

const hex = (text) => Buffer.from(text).toString('hex').toUpperCase()

/** All dead letters of a directory, in the order of the files' names. */
async function readLetters(dir) {
  const files = (await readdir(dir)).filter((name) => name.endsWith('.jsonl')).sort()
  const texts = await Promise.all(files.map((name) => readFile(join(dir, name), 'utf8')))
  return texts
    .join('')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}
