// routes[].dedupe and routes[].deadband: rows that are dropped for those before them, on real servers.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Pipeline, checkPipeline } from '../../index.js'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-repeats-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

for (const qos of [0, 1, 2]) {
  for (const spool of [false, true]) {
    test(`repeated events are dropped and acknowledged at QoS ${qos}, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
      const table = await servers.table('event_id String, seq UInt32')
      const topic = unique('topic')
      const pipeline = await servers.started(t, {
        mqtt: { qos, clientId: unique('client') },
        routes: [{ topic, table, dedupe: { by: ['event_id'], windowMs: 3_600_000 } }],
        ...(spool && { spool: { dir: directory(t) } }),
      })
      const publisher = await servers.publisher(t, { clients: 1 })
      // More than the broker's window: only acknowledgements let it send more.
      const messages = Array.from({ length: 120 }, (_, i) => ({ event_id: `event ${i % 40}`, seq: i }))
      for (const message of messages) await publisher.publish(topic, JSON.stringify(message), { qos })
      await settled(pipeline, messages.length)
      const rows = await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`)
      assert.deepEqual(rows.map(({ seq }) => seq), Array.from({ length: 40 }, (_, i) => i))
      const { messages: counts, dedupe, deadband } = pipeline.metrics()
      assert.deepEqual([counts.inserted, counts.dropped, counts.deadLettered], [40, 80, 0])
      assert.deepEqual([dedupe, deadband], [{ [topic]: { dropped: 80, keys: 40, evicted: 0 } }, {}])
      assert.match(pipeline.prometheus(), new RegExp(`millrace_dedupe_dropped_total{[^}]*route="${topic}"} 80\n`))
    })
  }
}

test('a value is a row when it has left its deadband, for each device by itself', { timeout }, async (t) => {
  const table = await servers.table('device String, celsius Nullable(Float64), at DateTime64(3) DEFAULT now64(3)')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [{ topic: `${prefix}/{device}`, table, deadband: { column: 'celsius', delta: 0.5, by: ['device'] } }],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const values = [20, 20.5, 20.4, 20.6, 20.2, null, 20.2, 20.3, 21]
  for (const celsius of values) {
    for (const device of ['a', 'b']) await publisher.publish(`${prefix}/${device}`, JSON.stringify({ celsius }), { qos: 1 })
  }
  await settled(pipeline, 2 * values.length)
  for (const device of ['a', 'b']) {
    const rows = await servers.rows(`SELECT celsius FROM ${table} WHERE device = '${device}' ORDER BY celsius`)
    assert.deepEqual(rows.map(({ celsius }) => celsius), [20, 20.2, 20.6, 21, null])
  }
  const { messages, deadband } = pipeline.metrics()
  assert.deepEqual(Object.values(deadband), [{ dropped: 8, keys: 2, evicted: 0 }])
  assert.equal(messages.dropped, 8)
})

for (const spool of [false, true]) {
  test(`dropped rows of a message stay dropped when it is decoded again, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
    // ClickHouse refuses one row: the others are inserted in parts.
    const table = await servers.table('id UInt32, v Int32, CONSTRAINT positive CHECK v > 0')
    const topic = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { clientId: unique('client') },
      routes: [{ topic, table, dedupe: { by: 'id' } }],
      ...(spool && { spool: { dir: directory(t) } }),
    })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t, { clients: 1 })
    const lists = [
      [{ id: 1, v: 1 }, { id: 2, v: 1 }, { id: 1, v: 2 }],
      [{ id: 3, v: -1 }],
      [{ id: 2, v: 3 }, { id: 4, v: 1 }],
      [{ id: 4, v: 4 }, { id: 3, v: 5 }],
      [{ id: 5, v: 1 }],
    ]
    for (const list of lists) await publisher.publish(topic, JSON.stringify(list), { qos: 1 })
    await settled(pipeline, lists.length)
    await heard(pipeline, letters)
    assert.deepEqual(await servers.rows(`SELECT id, v FROM ${table} ORDER BY id, v`), [
      { id: 1, v: 1 },
      { id: 2, v: 1 },
      { id: 4, v: 1 },
      { id: 5, v: 1 },
    ])
    assert.deepEqual(letters.map(({ code, payload }) => [code, String(payload)]), [['REJECTED_BY_CLICKHOUSE', '[{"id":3,"v":-1}]']])
    const { inserted, dropped, deadLettered } = pipeline.metrics().messages
    assert.deepEqual([inserted, dropped, deadLettered], [3, 1, 1])
  })
}

test('several connections share what is remembered, and the oldest keys are forgotten', { timeout }, async (t) => {
  const table = await servers.table('id UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { clientId: unique('client'), sharedGroup: unique('group'), connections: 3 },
    routes: [{ topic, table, dedupe: { by: 'id', maxKeys: 50 } }],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const publish = async (id) => publisher.publish(topic, JSON.stringify({ id }), { qos: 1 })
  for (let round = 0; round < 3; round++) for (let id = 0; id < 50; id++) await publish(id)
  await settled(pipeline, 150)
  assert.deepEqual(await servers.counted(table, 'id'), { rows: 50, different: 50 })
  for (let id = 50; id < 100; id++) await publish(id)
  await settled(pipeline, 200)
  assert.deepEqual(Object.values(pipeline.metrics().dedupe), [{ dropped: 100, keys: 50, evicted: 50 }])
  await publish(0)
  await settled(pipeline, 201)
  assert.equal(await servers.count(table), 101)
})

test('a start after a stop remembers nothing, also with a spool', { timeout }, async (t) => {
  const table = await servers.table('id UInt32')
  const [topic, clientId, dir] = [unique('topic'), unique('client'), directory(t)]
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const rows of [1, 2]) {
    const pipeline = await servers.started(t, { mqtt: { clientId }, routes: [{ topic, table, dedupe: { by: 'id' } }], spool: { dir } })
    for (let i = 0; i < 3; i++) await publisher.publish(topic, '{"id":7}', { qos: 1 })
    await settled(pipeline, 3)
    await pipeline.stop()
    assert.equal(await servers.count(table), rows)
  }
})

test('a route that is added has rules of its own', { timeout }, async (t) => {
  const table = await servers.table('id UInt32')
  const [one, other] = [unique('topic'), unique('topic')]
  const dedupe = { by: ['id'] }
  const pipeline = await servers.started(t, { routes: [{ topic: one, table, dedupe }] })
  const path = 'route.dedupe.by[0]'
  await assert.rejects(pipeline.addRoute({ topic: other, table, dedupe: { by: ['gone'] } }), { code: 'COLUMN_NOT_FOUND', path })
  await pipeline.addRoute({ topic: other, table, dedupe })
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const topic of [one, other, one, other]) await publisher.publish(topic, '{"id":1}', { qos: 1 })
  await settled(pipeline, 4)
  assert.equal(await servers.count(table), 2)
  assert.deepEqual(pipeline.metrics().dedupe, {
    [one]: { dropped: 1, keys: 1, evicted: 0 },
    [other]: { dropped: 1, keys: 1, evicted: 0 },
  })
})

test('check says what a route drops, and counts it in a sample', { timeout }, async (t) => {
  const table = await servers.table('id UInt32, v Float64, tags Array(String)')
  const topic = unique('topic')
  const route = { topic, table, dedupe: { by: 'id', windowMs: 5000 }, deadband: { column: 'v', delta: 1 } }
  const config = servers.config({ routes: [route] })
  const report = checkPipeline(config, { sample: 4 })
  const publisher = await servers.publisher(t, { clients: 1 })
  let id = 0
  const timer = setInterval(() => {
    // Each id twice; the values of two ids differ by more than delta.
    publisher.publish(topic, JSON.stringify({ id: id >> 1, v: 10 * (id++ >> 1), tags: [] }), { qos: 0 })
  }, 20)
  t.after(() => clearInterval(timer))
  const { ok, routes, sample } = await report
  assert.ok(ok)
  assert.deepEqual(routes[0].rules, [
    'dedupe: a row is dropped if one with its id came within 5s before it',
    'deadband: a row is dropped until v changes by more than 1',
  ])
  assert.equal(sample.messages, 4)
  assert.ok(sample.dropped >= 1 && sample.rows + sample.dropped === 4, JSON.stringify(sample))
  const wrong = servers.config({ routes: [{ ...route, dedupe: { by: 'tags' } }] })
  const { findings } = await checkPipeline(wrong)
  assert.deepEqual(
    findings.filter(({ level }) => level === 'error').map(({ code, path }) => [code, path]),
    [['COLUMN_UNSUPPORTED', 'routes[0].dedupe.by[0]']],
  )
  await assert.rejects(new Pipeline(wrong).start(), { code: 'COLUMN_UNSUPPORTED', path: 'routes[0].dedupe.by[0]' })
})

for (const [options, path] of [
  [{ dedupe: {} }, 'routes[0].dedupe.by'],
  [{ dedupe: { by: [] } }, 'routes[0].dedupe.by'],
  [{ dedupe: { by: ['a', 'a'] } }, 'routes[0].dedupe.by[1]'],
  [{ dedupe: { by: ['a', ''] } }, 'routes[0].dedupe.by[1]'],
  [{ dedupe: { by: 'a', windowMs: 0 } }, 'routes[0].dedupe.windowMs'],
  [{ dedupe: { by: 'a', maxKeys: 0 } }, 'routes[0].dedupe.maxKeys'],
  [{ dedupe: { by: 'a', window: 5 } }, 'routes[0].dedupe.window'],
  [{ deadband: { delta: 1 } }, 'routes[0].deadband.column'],
  [{ deadband: { column: 'v' } }, 'routes[0].deadband.delta'],
  [{ deadband: { column: 'v', delta: -1 } }, 'routes[0].deadband.delta'],
  [{ deadband: { column: 'v', delta: '1' } }, 'routes[0].deadband.delta'],
  [{ deadband: { column: 'v', delta: 1, by: ['v'] } }, 'routes[0].deadband.by[0]'],
  [{ deadband: { column: 'v', delta: 1, everyMs: 0 } }, 'routes[0].deadband.everyMs'],
]) {
  test(`${JSON.stringify(options)} is refused at ${path}`, () => {
    const config = { mqtt: { url: 'mqtt://x' }, clickhouse: { url: 'http://x' }, routes: [{ topic: 't', table: 't', .../** @type {any} */ (options) }] }
    assert.throws(() => new Pipeline(config), { code: 'CONFIG_INVALID', path })
  })
}
