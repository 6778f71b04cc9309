// routes[].where: what it excludes is acknowledged, counts as dropped, and is neither a row nor a dead letter.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { replayDeadLetters } from '../../index.js'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-where-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

for (const qos of [0, 1, 2]) {
  for (const spool of [false, true]) {
    test(`excluded messages are acknowledged at QoS ${qos}, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
      const table = await servers.table('id LowCardinality(String), seq UInt32')
      const prefix = unique('topic')
      const pipeline = await servers.started(t, {
        mqtt: { qos, clientId: unique('client') },
        routes: [
          {
            topic: `${prefix}/{kind}/{id}`,
            table,
            where: { and: [{ topic: 'kind', in: ['gps', 'gnss'] }, { or: [{ path: 'speed', gt: 0 }, { path: 'forced', eq: true }] }] },
          },
        ],
        ...(spool && { spool: { dir: directory(t) } }),
      })
      const letters = collect(pipeline, 'deadLetters')
      const publisher = await servers.publisher(t, { clients: 1 })
      const messages = [
        ['gps/a', { seq: 1, speed: 5 }],
        ['gps/a', { seq: 2, speed: 0 }],
        ['gps/a', { seq: 3, speed: '5' }],
        ['gps/a', { seq: 4, speed: null, forced: true }],
        ['gnss/b', { seq: 5, speed: 0.1 }],
        ['state/b', { seq: 6, speed: 5 }],
        ['state/b', Buffer.from('no JSON, and not read')],
        ['gps/b', Buffer.from('{"seq":7,"speed":0')],
        ['gps/b', { seq: 'x', speed: 0 }],
        ['gps/b', { seq: 'x', speed: 1 }],
      ]
      // More than the broker's window: only acknowledgements let it send more.
      for (let i = 0; i < 60; i++) messages.push(['gps/c', { seq: 100 + i, speed: i % 2 }])
      for (const [topic, payload] of messages) await publisher.publish(`${prefix}/${topic}`, payload, { qos })
      await settled(pipeline, messages.length)
      await heard(pipeline, letters)
      const rows = await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`)
      const odd = Array.from({ length: 30 }, (_, i) => 101 + 2 * i)
      assert.deepEqual(rows.map(({ seq }) => seq), [1, 4, 5, ...odd])
      assert.deepEqual(letters.map(({ code }) => code).sort(), ['JSON_INVALID', 'TYPE_MISMATCH'])
      const { messages: counts } = pipeline.metrics()
      assert.deepEqual(
        [counts.received, counts.inserted, counts.deadLettered, counts.dropped, counts.pending],
        [70, 33, 2, 35, 0],
      )
    })
  }
}

test('a message keeps the rows that the condition takes', { timeout }, async (t) => {
  const table = await servers.table('gateway String, kind String, v Float64')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [
      {
        topic: `${prefix}/{gateway}`,
        table,
        rows: 'readings',
        where: { and: [{ path: '$.kind', eq: 'report' }, { path: '@.kind', in: ['temperature', 'humidity'] }] },
        columns: { kind: '@.kind' },
      },
    ],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const readings = [
    { kind: 'temperature', v: 21.5 },
    { kind: 'battery', v: 'low' },
    { kind: 'humidity', v: 40 },
  ]
  await publisher.publish(`${prefix}/g1`, { kind: 'report', readings })
  await publisher.publish(`${prefix}/g1`, { kind: 'report', readings: readings.slice(1, 2) })
  await publisher.publish(`${prefix}/g1`, { kind: 'hello' })
  await publisher.publish(`${prefix}/g1`, { kind: 'report', readings: [] })
  await settled(pipeline, 4)
  assert.deepEqual(await servers.rows(`SELECT gateway, kind, v FROM ${table} ORDER BY v`), [
    { gateway: 'g1', kind: 'temperature', v: 21.5 },
    { gateway: 'g1', kind: 'humidity', v: 40 },
  ])
  const { messages, rows } = pipeline.metrics()
  assert.deepEqual([messages.inserted, messages.dropped, messages.deadLettered, rows.inserted], [2, 2, 0, 2])
})

test('a dead letter that the condition excludes by now is dropped by a replay', { timeout }, async () => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const letter = (payload) => ({ route: null, receivedAt: new Date(), topic, payload: Buffer.from(JSON.stringify(payload)), code: 'X', message: '' })
  const config = servers.config({ routes: [{ topic, table, where: { path: 'test', ne: true } }] })
  const report = await replayDeadLetters(config, [letter({ seq: 1 }), letter({ seq: 2, test: true }), letter({})])
  const { read, inserted, dropped, deadLettered, rows } = report
  assert.deepEqual({ read, inserted, dropped, deadLettered, rows }, { read: 3, inserted: 1, dropped: 1, deadLettered: 1, rows: 1 })
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table}`), [{ seq: 1 }])
})
