// routes[].continue: several routes take one message. It is acknowledged once, when the rows of all are settled, and counts once.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPipeline, replayDeadLetters } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { collect, endPipeline, heard, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-joined-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

for (const qos of [0, 1, 2]) {
  for (const spool of [false, true]) {
    test(`three routes take a message at QoS ${qos}, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
      const [raw, fast, rest] = [
        await servers.table('topic String, payload String'),
        await servers.table('id String, speed Float64'),
        await servers.table('id String, kind String, seq UInt32'),
      ]
      const prefix = unique('topic')
      const pipeline = await servers.started(t, {
        mqtt: { qos, clientId: unique('client') },
        routes: [
          { topic: `${prefix}/#`, table: raw, continue: true, columns: { topic: { meta: 'topic' }, payload: { meta: 'payload' } } },
          { topic: `${prefix}/{kind}/{id}`, table: fast, continue: true, where: { path: 'speed', gt: 100 } },
          { topic: `${prefix}/{kind}/{id}`, table: rest },
        ],
        ...(spool && { spool: { dir: directory(t) } }),
      })
      const letters = collect(pipeline, 'deadLetters')
      const publisher = await servers.publisher(t, { clients: 1 })
      // More than the broker's window: only acknowledgements let it send more.
      const count = 100
      for (let seq = 0; seq < count; seq++) {
        await publisher.publish(`${prefix}/gps/${seq % 7}`, { seq, speed: seq % 2 ? 101 : 99 }, { qos })
      }
      await publisher.publish(`${prefix}/gps/x`, { seq: 'x', speed: 200 }, { qos })
      await publisher.publish(`${prefix}/other`, { seq: 1 }, { qos })
      await settled(pipeline, count + 2)
      await heard(pipeline, letters)
      assert.deepEqual(await servers.counted(raw, 'payload'), { rows: count + 2, different: count + 2 })
      assert.equal(await servers.count(fast), count / 2 + 1)
      assert.deepEqual(await servers.counted(rest), { rows: count, different: count })
      // The first route had the message, so it counts as inserted; the dead letter of the third has its
      // route.
      assert.deepEqual(letters.map(({ code, route }) => [code, route]), [['TYPE_MISMATCH', 2]])
      const { messages, rows, deadLetters } = pipeline.metrics()
      assert.deepEqual(
        [messages.received, messages.inserted, messages.deadLettered, messages.dropped, messages.pending],
        [count + 2, count + 2, 0, 0, 0],
      )
      assert.equal(rows.inserted, count + 2 + count / 2 + 1 + count)
      assert.deepEqual(deadLetters, { TYPE_MISMATCH: 1 })
    })
  }
}

for (const spool of [false, true]) {
  test(`a transform drops and rejects what another route keeps, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
    const [changed, all] = [await servers.table('seq UInt32, v Float64'), await servers.table('seq UInt32, v Float64')]
    const topic = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { clientId: unique('client') },
      routes: [
        {
          topic,
          table: changed,
          continue: true,
          transform(batch) {
            const { seq, v } = batch.columns
            for (let row = 0; row < batch.length; row++) {
              if (seq.values[row] % 10 === 1) batch.drop(row)
              else if (seq.values[row] % 10 === 2) batch.reject(row, 'two')
              else v.values[row] *= 2
            }
          },
        },
        { topic, table: all },
      ],
      ...(spool && { spool: { dir: directory(t) } }),
    })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t, { clients: 1 })
    for (let seq = 0; seq < 100; seq++) await publisher.publish(topic, { seq, v: 1 }, { qos: 1 })
    await settled(pipeline, 100)
    await heard(pipeline, letters)
    assert.deepEqual(await servers.counted(all), { rows: 100, different: 100 })
    assert.deepEqual(await servers.counted(changed), { rows: 80, different: 80 })
    assert.deepEqual(await servers.rows(`SELECT uniqExact(v) AS n, max(v) AS most FROM ${changed}`), [{ n: '1', most: 2 }])
    assert.equal(letters.length, 10)
    const { received, inserted, deadLettered, dropped, pending } = pipeline.metrics().messages
    assert.deepEqual([received, inserted + deadLettered + dropped, pending], [100, 100, 0])
  })
}

test('a message waits for the route whose table takes nothing, and comes again until then', { timeout }, async (t) => {
  const [one, other] = [await servers.table('seq UInt32'), unique('table')]
  const create = () =>
    servers.command(`CREATE TABLE ${other} (seq UInt32) ENGINE = MergeTree ORDER BY seq SETTINGS non_replicated_deduplication_window = 1000`)
  await create()
  const topic = unique('topic')
  const config = servers.config({
    mqtt: { clientId: unique('client') },
    clickhouse: { retry: { minMs: 20, maxMs: 100 } },
    routes: [
      { topic, table: one, continue: true },
      { topic, table: other },
    ],
  })
  const { Pipeline } = await import('../../index.js')
  const first = new Pipeline(config)
  t.after(() => endPipeline(first))
  await first.start()
  await servers.command(`DROP TABLE ${other} SYNC`)
  const publisher = await servers.publisher(t, { clients: 1 })
  for (let seq = 0; seq < 5; seq++) await publisher.publish(topic, { seq })
  await received(first, 5)
  await waitFor(async () => (await servers.count(one)) === 5, { message: () => 'the rows of the first route' })
  assert.deepEqual([first.metrics().messages.pending, first.metrics().messages.inserted], [5, 0])
  await assert.rejects(first.stop({ timeoutMs: 300 }), { code: 'STOP_TIMEOUT' })
  await create()
  const second = await servers.started(t, { ...config, mqtt: config.mqtt })
  await settled(second, 5)
  assert.deepEqual(await servers.counted(other), { rows: 5, different: 5 })
  // Without a spool a killed or hurried process has no memory of the first table's rows.
  assert.equal((await servers.counted(one)).different, 5)
  assert.equal(second.metrics().messages.inserted, 5)
})

test('a dead letter is replayed for its own route, and doubles nothing', { timeout }, async (t) => {
  for (const place of ['event', 'dir', 'table']) {
    const [all, strict] = [await servers.table('seq UInt32'), await servers.table('seq UInt32, v UInt8')]
    const topic = unique('topic')
    const letterTable = unique('letters')
    const dir = directory(t)
    const routes = [
      { topic, table: all, continue: true },
      { topic, table: strict },
    ]
    const stored = { event: {}, dir: { deadLetters: { dir } }, table: { deadLetters: { table: letterTable } } }[place]
    const pipeline = await servers.started(t, { routes, ...stored })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t, { clients: 1 })
    for (let seq = 0; seq < 6; seq++) await publisher.publish(topic, { seq, ...(seq % 2 && { v: seq }) })
    await settled(pipeline, 6)
    await heard(pipeline, letters)
    assert.equal(letters.length, 3)
    await pipeline.stop()
    const source = { event: letters, dir: { dir }, table: { table: letterTable } }[place]
    const mended = [routes[0], { ...routes[1], columns: { v: { path: 'v', default: 0 } } }]
    const report = await replayDeadLetters(servers.config({ routes: mended }), source)
    assert.deepEqual([report.read, report.inserted, report.rows], [3, 3, 3], place)
    assert.deepEqual(await servers.counted(all), { rows: 6, different: 6 }, place)
    assert.deepEqual(await servers.counted(strict), { rows: 6, different: 6 }, place)
  }
})

test('a route below one that continues is reachable, one below one that does not is not', { timeout }, async () => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const checked = async (routes) => (await checkPipeline(servers.config({ routes }))).findings.map(({ code, path }) => [code, path])
  const wrong = ['CONFIG_INVALID', 'routes[2].topic']
  const on = { topic: `${topic}/#`, table, continue: true }
  const off = { topic: `${topic}/#`, table }
  const last = { topic: `${topic}/a`, table }
  assert.ok(!(await checked([on, on, last])).some(([code]) => code === 'CONFIG_INVALID'))
  assert.deepEqual((await checked([on, off, last])).filter(([code]) => code === 'CONFIG_INVALID'), [wrong])
  const report = await checkPipeline(servers.config({ routes: [on, off, last] }))
  assert.match(report.findings.find(({ code }) => code === 'CONFIG_INVALID').message, /routes\[1\] takes all its topics first/)
})

test('a sample shows what each route makes of a message', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const routes = [
    { topic, table, continue: true },
    { topic, table, where: { path: 'seq', lt: 0 } },
  ]
  const publisher = await servers.publisher(t)
  let isOver = false
  const checking = checkPipeline(servers.config({ routes }), { sample: 20 }).finally(() => (isOver = true))
  for (let seq = 0; !isOver; seq++) await publisher.publish(topic, { seq })
  const { sample } = await checking
  assert.deepEqual([sample.messages, sample.rows, sample.dropped, sample.deadLetters], [20, 20, 0, 0])
  assert.deepEqual(sample.routes, [
    { messages: 20, rows: 20, dropped: 0, times: [] },
    { messages: 20, rows: 0, dropped: 20, times: [] },
  ])
})
