// Routes that are added, replaced and removed while a pipeline runs.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { Pipeline } from '../../index.js'
import { externalBroker, externalClickHouse, startBroker, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { directory } from '../support/config-file.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { filtersOf, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, endPipeline, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const reconnect = { minMs: 10, maxMs: 50 }
const seqs = async (table) => (await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`)).map(({ seq }) => Number(seq))
const requests = (broker, type, isV5) =>
  broker.packets.filter((packet) => packet.type === type).map(({ body }) => filtersOf(body, isV5, type === 'SUBSCRIBE' ? 1 : 0))

for (const protocolVersion of [4, 5]) {
  test(`a route is added, replaced and removed on a living connection, MQTT ${protocolVersion}`, { timeout }, async (t) => {
    const [first, second, third] = [await servers.table('seq UInt32'), await servers.table('seq UInt32'), await servers.table('seq UInt32, v Float64')]
    const prefix = unique('plant')
    const pipeline = await servers.started(t, {
      mqtt: { protocolVersion, clientId: unique('client') },
      routes: [{ topic: `${prefix}/a`, table: first }],
    })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t)
    const added = await pipeline.addRoute({ topic: `${prefix}/{part}`, table: second })
    assert.equal(added, 1)
    await publisher.publish(`${prefix}/a`, { seq: 1 })
    await publisher.publish(`${prefix}/b`, { seq: 2 })
    await settled(pipeline, 2)
    assert.deepEqual([await seqs(first), await seqs(second)], [[1], [2]])
    assert.equal(await pipeline.updateRoute({ topic: `${prefix}/{part}`, table: third, columns: { v: 'value' } }), 2)
    await publisher.publish(`${prefix}/b`, { seq: 3, value: 1.5 })
    await settled(pipeline, 3)
    assert.deepEqual(await servers.rows(`SELECT seq, v FROM ${third}`), [{ seq: 3, v: 1.5 }])
    const { tables, mqtt } = pipeline.metrics()
    assert.deepEqual([tables[second].rows, tables[third].rows, mqtt.reconnects], [1, 1, 0])
    assert.match(pipeline.prometheus(), new RegExp(`table="${third}"`))
    await pipeline.removeRoute(`${prefix}/{part}`)
    // The broker does not send it any more: the count says so.
    await publisher.publish(`${prefix}/b`, { seq: 4, value: 1 })
    await publisher.publish(`${prefix}/a`, { seq: 5 })
    await settled(pipeline, 4)
    assert.deepEqual([await seqs(first), await seqs(second), await seqs(third)], [[1, 5], [2], [3]])
    assert.equal(pipeline.metrics().messages.received, 4)
    assert.deepEqual(letters, [])
    // The topic may come again.
    await pipeline.addRoute({ topic: `${prefix}/{part}`, table: second })
    await publisher.publish(`${prefix}/b`, { seq: 6 })
    await settled(pipeline, 5)
    assert.deepEqual(await seqs(second), [2, 6])
    await pipeline.stop()
    assertLedger(pipeline.metrics())
  })
}

test('an error leaves the pipeline as it was', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('plant')
  const config = servers.config({ routes: [{ topic, table }] })
  const idle = new Pipeline(config)
  for (const call of [() => idle.addRoute({ topic: 'x', table }), () => idle.updateRoute({ topic, table }), () => idle.removeRoute(topic)]) {
    await assert.rejects(call(), { code: 'INVALID_STATE' })
  }
  const pipeline = await servers.started(t, { routes: [{ topic, table }] })
  const other = unique('other')
  /** @type {[() => Promise<unknown>, any][]} */
  const wrong = [
    [() => pipeline.addRoute({ topic, table }), { code: 'ROUTE_EXISTS' }],
    [() => pipeline.updateRoute({ topic: other, table }), { code: 'ROUTE_NOT_FOUND' }],
    [() => pipeline.removeRoute(other), { code: 'ROUTE_NOT_FOUND' }],
    [() => pipeline.removeRoute(topic), { code: 'CONFIG_INVALID', path: 'topic' }],
    [() => pipeline.removeRoute(/** @type {any} */ (5)), { code: 'CONFIG_INVALID', path: 'topic' }],
    [() => pipeline.addRoute(/** @type {any} */ (5)), { code: 'CONFIG_INVALID', path: 'route' }],
    [() => pipeline.addRoute(/** @type {any} */ ({ table })), { code: 'CONFIG_INVALID', path: 'route.topic' }],
    [() => pipeline.addRoute(/** @type {any} */ ({ topic: other, table, tabel: 1 })), { code: 'CONFIG_INVALID', path: 'route.tabel' }],
    [() => pipeline.addRoute({ topic: 'a/#/b', table }), { code: 'CONFIG_INVALID', path: 'route.topic' }],
    [() => pipeline.addRoute({ topic: other, table: 'no_such_table' }), { code: 'TABLE_NOT_FOUND', path: 'route.table' }],
    [() => pipeline.addRoute({ topic: other, table, columns: { none: 'x' } }), { code: 'COLUMN_NOT_FOUND' }],
    [() => pipeline.addRoute({ topic: other, table, transform: /** @type {any} */ (5) }), { code: 'CONFIG_INVALID', path: 'route.transform' }],
    [() => pipeline.addRoute({ topic: other, table, transform: 'no-such-module.mjs' }), { code: 'TRANSFORM_INVALID', path: 'route.transform.module' }],
    [() => pipeline.addRoute({ topic: other, table, transform: (batch) => batch.drop(0), emits: ['no_such_table'] }), { code: 'TABLE_NOT_FOUND', path: 'route.emits[0]' }],
  ]
  for (const [call, expected] of wrong) await assert.rejects(call(), expected, JSON.stringify(expected))
  // One that hides another one, and one that is hidden.
  await pipeline.addRoute({ topic: `${other}/#`, table })
  await assert.rejects(pipeline.addRoute({ topic: `${other}/a`, table }), { code: 'CONFIG_INVALID', path: 'route.topic', message: /can never match/ })
  await pipeline.removeRoute(`${other}/#`)
  const publisher = await servers.publisher(t)
  await publisher.publish(other, { seq: 9 })
  await publisher.publish(topic, { seq: 1 })
  await settled(pipeline, 1)
  assert.deepEqual(await seqs(table), [1])
  assert.equal(pipeline.metrics().messages.received, 1)
  await pipeline.stop()
  await assert.rejects(pipeline.addRoute({ topic: other, table }), { code: 'INVALID_STATE' })
})

test('a subscription that the broker refuses is an error, and taken back', { timeout }, async (t) => {
  let grant = 1
  const broker = await startScriptedBroker(t, { subscribe: () => grant })
  const table = await servers.table('seq UInt32')
  const pipeline = await servers.started(t, { mqtt: { url: broker.url, protocolVersion: 4, reconnect }, routes: [{ topic: 'a', table }] })
  grant = 0x80
  await assert.rejects(pipeline.addRoute({ topic: 'b', table }), { code: 'SUBSCRIPTION_REFUSED', message: /b/ })
  grant = 1
  assert.deepEqual(requests(broker, 'SUBSCRIBE', false), [['a'], ['b']])
  await pipeline.addRoute({ topic: 'c', table })
  broker.hangUp()
  await waitFor(() => broker.connections === 2 && pipeline.metrics().mqtt.connected === 1, { message: () => 'the connection' })
  assert.deepEqual(requests(broker, 'SUBSCRIBE', false), [['a'], ['b'], ['c'], ['a', 'c']])
})

test('new filters are subscribed to before others are unsubscribed from', { timeout }, async (t) => {
  const broker = await startScriptedBroker(t, { present: true })
  const table = await servers.table('seq UInt32')
  const pipeline = await servers.started(t, {
    mqtt: { url: broker.url, protocolVersion: 4, clientId: unique('client'), unsubscribe: ['old/#', '$share/g/x'], reconnect },
    routes: [{ topic: 't/+/a', table }],
  })
  // A session that was there before this process: what it keeps beside the routes goes.
  await waitFor(() => requests(broker, 'UNSUBSCRIBE', false).length === 1, { message: () => 'the leftovers' })
  assert.deepEqual(requests(broker, 'UNSUBSCRIBE', false), [['old/#', '$share/g/x']])
  // Two filters that overlap are one on a broker without identifiers.
  await pipeline.addRoute({ topic: 't/x/+', table })
  assert.deepEqual(requests(broker, 'SUBSCRIBE', false), [['t/+/a'], ['t/+/+']])
  await pipeline.removeRoute('t/x/+')
  assert.deepEqual(requests(broker, 'SUBSCRIBE', false), [['t/+/a'], ['t/+/+'], ['t/+/a']])
  assert.deepEqual(requests(broker, 'UNSUBSCRIBE', false).slice(1), [['t/+/a'], ['t/+/+']])
  const order = broker.packets.map(({ type }) => type).filter((type) => /SUBSCRIBE/.test(type))
  assert.deepEqual(order, ['SUBSCRIBE', 'UNSUBSCRIBE', 'SUBSCRIBE', 'UNSUBSCRIBE', 'SUBSCRIBE', 'UNSUBSCRIBE'])
  // A route that another one covers needs nothing of the broker.
  const before = broker.packets.length
  await pipeline.addRoute({ topic: 't/{x}/a/b/c', table })
  await pipeline.addRoute({ topic: 'u/#', table })
  assert.deepEqual(requests(broker, 'SUBSCRIBE', false).slice(3), [['t/+/a/b/c'], ['u/#']])
  assert.ok(broker.packets.length > before)
  // The session of this process is resumed with all of it.
  broker.hangUp()
  await waitFor(() => broker.connections === 2 && pipeline.metrics().mqtt.connected === 1, { message: () => 'the connection' })
  assert.equal(requests(broker, 'SUBSCRIBE', false).length, 5)
})

test('a change while there is no connection is made with the next one', { timeout, skip: externalBroker }, async (t) => {
  let broker = await startBroker()
  const { port, url } = broker
  t.after(() => broker.remove())
  const table = await servers.table('seq UInt32')
  const pipeline = await servers.started(t, {
    mqtt: { url, clientId: unique('client'), reconnect },
    routes: [{ topic: 'a', table }, { topic: 'gone', table }],
  })
  await broker.remove()
  await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: () => 'the end of the connection' })
  const changes = Promise.all([pipeline.addRoute({ topic: 'b', table }), pipeline.removeRoute('gone')])
  broker = await startBroker({ port })
  await changes
  const publisher = await servers.publisher(t, { url })
  for (const [seq, topic] of ['a', 'b', 'gone'].entries()) await publisher.publish(topic, { seq })
  await settled(pipeline, 2)
  assert.deepEqual(await seqs(table), [0, 1])
  // Calls that wait for a broker end with the pipeline.
  await broker.remove()
  await waitFor(() => pipeline.metrics().mqtt.connected === 0, { message: () => 'the end of the connection' })
  const waiting = assert.rejects(pipeline.addRoute({ topic: 'c', table }), { code: /ABORTED|INVALID_STATE/ })
  await pipeline.stop()
  await waiting
})

test('a change waits while the pipeline is paused', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('plant')
  const pipeline = await servers.started(t, { routes: [{ topic: `${topic}/a`, table }] })
  pipeline.pause()
  let isAdded = false
  const adding = pipeline.addRoute({ topic: `${topic}/b`, table }).then(() => (isAdded = true))
  const publisher = await servers.publisher(t)
  await publisher.publish(`${topic}/a`, { seq: 1 })
  assert.equal(isAdded, false)
  pipeline.resume()
  await adding
  await publisher.publish(`${topic}/b`, { seq: 2 })
  await settled(pipeline, 2)
  assert.deepEqual(await seqs(table), [1, 2])
})

test('transforms, conditions and routes that share messages are added too', { timeout }, async (t) => {
  const [first, second, third, emitted] = await Promise.all(Array.from({ length: 4 }, () => servers.table('seq UInt32')))
  const prefix = unique('plant')
  const pipeline = await servers.started(t, { routes: [{ topic: `${prefix}/a`, table: first, continue: true }] })
  const seen = []
  const place = await pipeline.addRoute({
    topic: `${prefix}/#`,
    table: second,
    where: { path: 'seq', lt: 10 },
    continue: true,
    emits: [emitted],
    transform: (batch) => {
      seen.push([batch.route, batch.topicFilter])
      const { seq } = batch.columns
      for (let row = 0; row < batch.length; row++) {
        batch.emit(emitted, { seq: Number(seq.get(row)) + 100 })
        seq.set(row, Number(seq.get(row)) + 1000)
      }
    },
  })
  const module = 'data:text/javascript,export%20default%20()%20=>%20{}'
  await pipeline.addRoute({ topic: `${prefix}/+`, table: third, transform: { module } })
  const publisher = await servers.publisher(t)
  await publisher.publish(`${prefix}/a`, { seq: 1 })
  await publisher.publish(`${prefix}/a`, { seq: 20 })
  await settled(pipeline, 2)
  assert.deepEqual([await seqs(first), await seqs(second), await seqs(third), await seqs(emitted)], [[1, 20], [1001], [1, 20], [101]])
  assert.deepEqual(seen, [[place, `${prefix}/#`]])
  assert.equal(pipeline.metrics().transforms[`${prefix}/#`].calls, 1)
  await pipeline.updateRoute({ topic: `${prefix}/#`, table: second, continue: true })
  await publisher.publish(`${prefix}/a`, { seq: 30 })
  await settled(pipeline, 3)
  assert.deepEqual(await seqs(second), [30, 1001])
  assert.equal(seen.length, 1)
  await pipeline.stop()
  assertLedger(pipeline.metrics())
})

test('with a spool a route may join others, but no second transform while the pipeline runs', { timeout }, async (t) => {
  const [first, second] = [await servers.table('seq UInt32'), await servers.table('seq UInt32')]
  const prefix = unique('plant')
  const transform = () => {}
  const spool = { dir: join(directory(t), 'spool') }
  const pipeline = await servers.started(t, { routes: [{ topic: `${prefix}/a`, table: first, continue: true, transform }], spool })
  const expected = { code: 'CONFIG_INVALID', path: 'route.continue' }
  await assert.rejects(pipeline.addRoute({ topic: `${prefix}/+`, table: second, transform }), expected)
  await pipeline.addRoute({ topic: `${prefix}/+`, table: second })
  await assert.rejects(pipeline.updateRoute({ topic: `${prefix}/+`, table: second, transform }), expected)
  const publisher = await servers.publisher(t)
  for (let seq = 0; seq < 50; seq++) await publisher.publish(`${prefix}/a`, { seq })
  await settled(pipeline, 50)
  const all = Array.from({ length: 50 }, (_, i) => i)
  assert.deepEqual([await seqs(first), await seqs(second)], [all, all])
  await pipeline.stop()
  // From a start on it is possible.
  const routes = [
    { topic: `${prefix}/a`, table: first, continue: true, transform },
    { topic: `${prefix}/+`, table: second, transform },
  ]
  const next = await servers.started(t, { routes, spool })
  await publisher.publish(`${prefix}/a`, { seq: 50 })
  await settled(next, 1)
  assert.deepEqual([(await seqs(first)).length, (await seqs(second)).length], [51, 51])
})

test('samples follow a route that was added', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('plant')
  const pipeline = await servers.started(t, { routes: [{ topic: `${topic}/a`, table }] })
  await pipeline.addRoute({ topic: `${topic}/b`, table })
  let rows = 0
  t.after(pipeline.tap(`${topic}/b`, (batch) => (rows += batch.length), { everyMs: 1 }))
  const publisher = await servers.publisher(t)
  await publisher.publish(`${topic}/b`, { seq: 1 })
  await settled(pipeline, 1)
  await waitFor(() => rows === 1, { message: () => `${rows} rows` })
  await pipeline.removeRoute(`${topic}/b`)
  assert.throws(() => pipeline.tap(`${topic}/b`, () => {}), { code: 'CONFIG_INVALID' })
})

for (const spooled of [false, true]) {
  test(`a stream loses nothing while routes change${spooled ? ', with a spool' : ''}`, { timeout }, async (t) => {
    const [table, other] = [await servers.table('seq UInt32'), await servers.table('seq UInt32')]
    const prefix = unique('plant')
    const pipeline = await servers.started(t, {
      mqtt: { clientId: unique('client'), connections: 2, sharedGroup: unique('group') },
      routes: [{ topic: `${prefix}/a`, table }],
      ...(spooled && { spool: { dir: join(directory(t), 'spool') } }),
    })
    const warnings = collect(pipeline, 'warning')
    const publisher = await servers.publisher(t)
    const COUNT = 20_000
    const flood = publisher.flood(COUNT, (seq) => ({ topic: `${prefix}/a`, payload: JSON.stringify({ seq }) }))
    for (let i = 0; i < 10; i++) {
      await pipeline.addRoute({ topic: `${prefix}/b/+`, table: other })
      await publisher.publish(`${prefix}/b/${i}`, { seq: i })
      await pipeline.updateRoute({ topic: `${prefix}/b/+`, table: other, columns: { seq: { path: 'seq' } } })
      await pipeline.removeRoute(`${prefix}/b/+`)
    }
    await flood
    await settled(pipeline, COUNT + 10, { warnings })
    assert.deepEqual(await servers.counted(table), { rows: COUNT, different: COUNT })
    assert.deepEqual(await seqs(other), Array.from({ length: 10 }, (_, i) => i))
    await pipeline.stop()
    assertLedger(pipeline.metrics())
    assert.deepEqual(warnings.filter(({ code }) => code !== 'DEDUPLICATION_OFF'), [])
  })
}

test('the spooled rows of a removed route are inserted, also after a restart without it', { timeout, skip: externalClickHouse }, async (t) => {
  const dir = directory(t)
  let clickhouse = await startClickHouse({ dir: join(dir, 'data') })
  const { port, url } = clickhouse
  t.after(() => clickhouse.remove())
  const create = (table) =>
    clickhouse.command(`CREATE TABLE ${table} (seq UInt32) ENGINE = MergeTree ORDER BY seq SETTINGS non_replicated_deduplication_window = 100`)
  await create('a')
  await create('b')
  const prefix = unique('plant')
  const config = servers.config({
    mqtt: { clientId: unique('client') },
    clickhouse: { url, database: 'default', retry: { minMs: 20, maxMs: 200 }, connectTimeoutMs: 300 },
    spool: { dir: join(dir, 'spool') },
    routes: [{ topic: `${prefix}/a`, table: 'a' }],
  })
  const publisher = await servers.publisher(t)
  const first = new Pipeline(config)
  t.after(() => endPipeline(first))
  await first.start()
  await first.addRoute({ topic: `${prefix}/b`, table: 'b' })
  await clickhouse.remove()
  await publisher.publish(`${prefix}/b`, { seq: 1 })
  await received(first, 1)
  await first.removeRoute(`${prefix}/b`)
  await first.stop()
  assert.equal(first.metrics().messages.pending, 1)
  clickhouse = await startClickHouse({ dir: join(dir, 'data'), port })
  const second = new Pipeline(config)
  t.after(() => endPipeline(second))
  await second.start()
  const count = async () => Number((await clickhouse.query('SELECT count() AS rows FROM b'))[0].rows)
  await waitFor(async () => (await count()) === 1, { message: () => JSON.stringify(second.metrics().messages) })
  // Within one process too.
  await second.addRoute({ topic: `${prefix}/b`, table: 'b' })
  await publisher.publish(`${prefix}/b`, { seq: 2 })
  await received(second, 1)
  await second.removeRoute(`${prefix}/b`)
  await second.flush()
  assert.equal(await count(), 2)
})

test('a session keeps filters of an earlier configuration until mqtt.unsubscribe ends them', { timeout, skip: externalBroker }, async (t) => {
  const broker = await startBroker()
  t.after(() => broker.remove())
  const table = await servers.table('seq UInt32')
  const mqtt = { url: broker.url, clientId: unique('client') }
  const publisher = await servers.publisher(t, { url: broker.url })
  const run = async (config, work) => {
    const pipeline = servers.pipeline(t, config)
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    await work(pipeline)
    await pipeline.stop()
    return warnings.filter(({ code }) => code === 'SUBSCRIPTION_LEFT_OVER')
  }
  assert.deepEqual(await run({ mqtt, routes: [{ topic: 'old/#', table }] }, async () => {}), [])
  const routes = [{ topic: 'new', table }]
  const advice = await run({ mqtt, routes }, async (pipeline) => {
    await publisher.publish('old/a', { seq: 1 })
    await publisher.publish('old/b', { seq: 2 })
    await settled(pipeline, 2)
    assert.deepEqual(pipeline.metrics().deadLetters, { NO_ROUTE: 2 })
  })
  assert.deepEqual(advice.map(({ topic }) => topic), ['old/a'])
  assert.match(advice[0].message, /mqtt\.unsubscribe/)
  const ended = await run({ mqtt: { ...mqtt, unsubscribe: ['old/#'] }, routes }, async (pipeline) => {
    await publisher.publish('new', { seq: 3 })
    await settled(pipeline, 1)
    await publisher.publish('old/a', { seq: 4 })
    await publisher.publish('new', { seq: 5 })
    await settled(pipeline, 2)
    assert.equal(pipeline.metrics().messages.received, 2)
  })
  assert.deepEqual(ended, [])
  assert.deepEqual(await seqs(table), [3, 5])
})
