// routes[].pivot: messages of one key become one row, on real servers.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Pipeline, checkPipeline } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const HOUR = 3_600_000

function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-pivot-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const COLUMNS = 'device String, temperature Nullable(Float64), humidity Nullable(UInt8), state LowCardinality(Nullable(String)), at DateTime DEFAULT now()'
const rowsOf = (table) => servers.rows(`SELECT device, temperature, humidity, state FROM ${table} ORDER BY device, temperature, humidity, state`)

for (const qos of [0, 1, 2]) {
  for (const spool of [false, true]) {
    test(`values of a device become one row at QoS ${qos}, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
      const [table, prefix] = [await servers.table(COLUMNS), unique('topic')]
      const route = { topic: `${prefix}/{device}/{property}`, table, format: 'text', pivot: { key: ['device'], name: 'property', windowMs: HOUR } }
      const pipeline = await servers.started(t, {
        mqtt: { qos, clientId: unique('client') },
        routes: [route],
        ...(spool && { spool: { dir: directory(t) } }),
      })
      const publisher = await servers.publisher(t, { clients: 1 })
      // Three rows at a time are open; a window of 20 lets that many messages come. Complete rows go on by themselves.
      for (let round = 0; round < 30; round++) {
        for (const [property, value] of [['temperature', round + 0.5], ['humidity', round], ['state', 'open']]) {
          for (const device of ['a', 'b', 'c']) await publisher.publish(`${prefix}/${device}/${property}`, String(value), { qos })
        }
      }
      await settled(pipeline, 270)
      const rows = await rowsOf(table)
      const expected = ['a', 'b', 'c'].flatMap((device) =>
        Array.from({ length: 30 }, (_, i) => ({ device, temperature: i + 0.5, humidity: i, state: 'open' })),
      )
      assert.deepEqual(rows, expected)
      const { messages, pivot } = pipeline.metrics()
      assert.deepEqual([messages.inserted, messages.pending, messages.deadLettered], [270, 0, 0])
      assert.deepEqual(Object.values(pivot), [{ open: 0, rows: 90, complete: 90 }])
      assert.match(pipeline.prometheus(), /millrace_pivot_rows_total{[^}]*} 90\n/)
    })
  }
}

test('messages are acknowledged with their row', { timeout }, async (t) => {
  const [table, prefix] = [await servers.table(COLUMNS), unique('topic')]
  for (const spool of [false, true]) {
    const pipeline = await servers.started(t, {
      mqtt: { clientId: unique('client') },
      routes: [{ topic: `${prefix}/{device}`, table, pivot: { key: ['device'], windowMs: HOUR } }],
      ...(spool && { spool: { dir: directory(t), commitMs: 1 } }),
    })
    const publisher = await servers.publisher(t, { clients: 1 })
    for (const payload of [{ temperature: 1 }, { humidity: 2 }]) {
      await publisher.publish(`${prefix}/a`, JSON.stringify(payload), { qos: 1 })
      await waitFor(() => Object.values(pipeline.metrics().pivot)[0].open === 1)
    }
    await waitFor(() => pipeline.metrics().messages.received === 2)
    const { mqtt, messages, spool: held } = pipeline.metrics()
    assert.deepEqual([mqtt.unacknowledged, messages.pending, await servers.count(table)], [2, 2, spool ? 1 : 0])
    await publisher.publish(`${prefix}/a`, '{"state":"on"}', { qos: 1 })
    await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0)
    await settled(pipeline, 3)
    assert.equal(await servers.count(table), spool ? 2 : 1)
    assert.equal(held === null, !spool)
    await pipeline.stop()
  }
})

test('a row goes on when its window ends', { timeout }, async (t) => {
  const [table, prefix] = [await servers.table(COLUMNS), unique('topic')]
  const topic = `${prefix}/{device}`
  const pipeline = await servers.started(t, {
    mqtt: { clientId: unique('client') },
    routes: [{ topic, table, pivot: { key: ['device'], windowMs: 1500 } }],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const publish = (payload) => publisher.publish(`${prefix}/a`, JSON.stringify(payload), { qos: 1 })
  await publish({ temperature: 1 })
  await publish({ humidity: 2, other: 3 })
  await waitFor(async () => (await servers.count(table)) === 1)
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0)
  // Late values open the next row.
  await publish({ state: 'late' })
  await waitFor(async () => (await servers.count(table)) === 2)
  assert.deepEqual(await rowsOf(table), [
    { device: 'a', temperature: 1, humidity: 2, state: null },
    { device: 'a', temperature: null, humidity: null, state: 'late' },
  ])
  assert.deepEqual(Object.values(pipeline.metrics().pivot), [{ open: 0, rows: 2, complete: 0 }])
})

test('a value that comes again opens the next row, or takes the place of the one before', { timeout }, async (t) => {
  const prefix = unique('topic')
  const tables = { next: await servers.table(COLUMNS), last: await servers.table(COLUMNS) }
  const pipeline = await servers.started(t, {
    routes: ['next', 'last'].map((repeated) => ({
      topic: `${prefix}/${repeated}/{device}`,
      table: tables[repeated],
      pivot: { key: 'device', windowMs: HOUR, repeated: /** @type {'next' | 'last'} */ (repeated) },
    })),
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const repeated of ['next', 'last']) {
    for (const payload of [{ temperature: 1, humidity: 1 }, { temperature: 2 }, { humidity: 3, temperature: null }]) {
      await publisher.publish(`${prefix}/${repeated}/a`, JSON.stringify(payload), { qos: 1 })
    }
  }
  // flush() ends open rows.
  await settled(pipeline, 6)
  assert.deepEqual(await rowsOf(tables.next), [
    { device: 'a', temperature: 1, humidity: 1, state: null },
    { device: 'a', temperature: 2, humidity: 3, state: null },
  ])
  assert.deepEqual(await rowsOf(tables.last), [{ device: 'a', temperature: 2, humidity: 3, state: null }])
  assert.equal(pipeline.metrics().messages.inserted, 6)
})

for (const spool of [false, true]) {
  test(`a row that is refused becomes dead letters of all its messages, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
    const table = await servers.table('device String, a UInt8, b Nullable(Int32), c Nullable(Int32), CONSTRAINT positive CHECK b > 0 OR b IS NULL')
    const prefix = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { clientId: unique('client') },
      routes: [{ topic: `${prefix}/{device}`, table, pivot: { key: 'device', windowMs: HOUR } }],
      ...(spool && { spool: { dir: directory(t) } }),
    })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t, { clients: 1 })
    const parts = {
      good: ['{"a":1}', '{"b":1}', '{"unknown":1}', '{"a":"x"}', '[]', '[{"c":1},{"c":2}]', '{"c":1}'],
      // Required, and no message has it.
      without: ['{"b":2}', '{"c":2}'],
      refused: ['{"a":1}', '{"b":-1}', '{"c":3}'],
      last: ['{"a":9}', '{"c":9}'],
    }
    const longest = 7
    for (let i = 0; i < longest; i++) {
      for (const [device, payloads] of Object.entries(parts)) {
        if (payloads[i]) await publisher.publish(`${prefix}/${device}`, payloads[i], { qos: 1 })
      }
    }
    await settled(pipeline, 14)
    await heard(pipeline, letters)
    assert.deepEqual(await servers.rows(`SELECT * FROM ${table} ORDER BY device`), [
      { device: 'good', a: 1, b: 1, c: 1 },
      { device: 'last', a: 9, b: null, c: 9 },
    ])
    const heardOf = letters.map(({ topic, payload, code }) => [topic.split('/')[1], String(payload), code])
    assert.deepEqual(heardOf.sort(), [
      ['good', '[{"c":1},{"c":2}]', 'NOT_AN_OBJECT'],
      ['good', '{"a":"x"}', 'TYPE_MISMATCH'],
      ['refused', '{"a":1}', 'REJECTED_BY_CLICKHOUSE'],
      ['refused', '{"b":-1}', 'REJECTED_BY_CLICKHOUSE'],
      ['refused', '{"c":3}', 'REJECTED_BY_CLICKHOUSE'],
      ['without', '{"b":2}', 'FIELD_MISSING'],
      ['without', '{"c":2}', 'FIELD_MISSING'],
    ])
    const { inserted, dropped, deadLettered, pending } = pipeline.metrics().messages
    assert.deepEqual({ inserted, dropped, deadLettered, pending }, { inserted: 5, dropped: 2, deadLettered: 7, pending: 0 })
  })
}

test('a table that changes while rows are open', { timeout }, async (t) => {
  const [table, prefix] = [await servers.table('device String, a Nullable(UInt8), b Nullable(UInt8)'), unique('topic')]
  const pipeline = await servers.started(t, {
    routes: [{ topic: `${prefix}/{device}`, table, pivot: { key: 'device', windowMs: HOUR } }],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const publish = (device, payload) => publisher.publish(`${prefix}/${device}`, JSON.stringify(payload), { qos: 1 })
  await publish('x', { a: 1 })
  await waitFor(() => Object.values(pipeline.metrics().pivot)[0].open === 1)
  await servers.command(`ALTER TABLE ${table} ADD COLUMN c Nullable(UInt16), MODIFY COLUMN a Nullable(String)`)
  // An INSERT notices the change.
  let sent = 1
  await waitFor(async () => {
    await publish(`y${sent}`, { a: sent % 200, b: 2, c: 300 })
    await settled(pipeline, ++sent)
    return Number((await servers.rows(`SELECT count() AS rows FROM ${table} WHERE c = 300`))[0].rows) > 0
  })
  assert.deepEqual(await servers.rows(`SELECT a, b, c FROM ${table} WHERE device = 'x'`), [{ a: '1', b: null, c: null }])
  assert.equal(await servers.count(table), sent)
})

test('routes with pivot are added and removed while rows are open', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const [one, other] = [unique('topic'), unique('topic')]
  const pivot = { key: ['device'], windowMs: HOUR }
  const pipeline = await servers.started(t, { routes: [{ topic: `${one}/{device}`, table, pivot }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  const open = () => Object.values(pipeline.metrics().pivot).map(({ open }) => open)
  await publisher.publish(`${one}/a`, '{"temperature":1}', { qos: 1 })
  await waitFor(() => open()[0] === 1)
  await assert.rejects(pipeline.addRoute({ topic: `${other}/{device}`, table, pivot: { key: 'gone' } }), { code: 'COLUMN_NOT_FOUND', path: 'route.pivot.key[0]' })
  await pipeline.addRoute({ topic: `${other}/{device}`, table, pivot })
  await publisher.publish(`${other}/a`, '{"temperature":2}', { qos: 1 })
  await waitFor(() => open().join() === '1,1')
  await pipeline.removeRoute(`${one}/{device}`)
  await publisher.publish(`${other}/a`, '{"humidity":3}', { qos: 1 })
  await settled(pipeline, 3)
  assert.deepEqual((await rowsOf(table)).map(({ temperature, humidity }) => [temperature, humidity]), [
    [1, null],
    [2, 3],
  ])
})

test('check says how rows are made, and counts those of a sample', { timeout }, async (t) => {
  const [table, prefix] = [await servers.table('device String, a UInt8, b UInt8'), unique('topic')]
  const route = { topic: `${prefix}/{device}/{property}`, table, pivot: { key: 'device', name: 'property', windowMs: 2000 } }
  const report = checkPipeline(servers.config({ routes: [route] }), { sample: 6 })
  const publisher = await servers.publisher(t, { clients: 1 })
  let sent = 0
  const timer = setInterval(() => {
    publisher.publish(`${prefix}/d${sent++ % 2}/${sent % 3 ? 'a' : 'other'}`, '7', { qos: 0 })
  }, 20)
  t.after(() => clearInterval(timer))
  const { ok, routes, sample, findings } = await report
  assert.ok(ok, JSON.stringify(findings))
  assert.deepEqual(routes[0].rules, ['pivot: messages with the same device become one row, when all columns are there or after 2s'])
  assert.deepEqual([sample.messages, sample.rows, sample.dropped, sample.deadLetters], [6, 2, 2, 0])
  const wrong = servers.config({ routes: [{ ...route, pivot: { key: 'site' } }] })
  const errors = (await checkPipeline(wrong)).findings.filter(({ level }) => level === 'error')
  assert.deepEqual(errors.map(({ code, path }) => [code, path]), [['COLUMN_NOT_FOUND', 'routes[0].pivot.key[0]']])
  await assert.rejects(new Pipeline(wrong).start(), { code: 'COLUMN_NOT_FOUND', path: 'routes[0].pivot.key[0]' })
})
