// Every format and compression in what is beside a pipeline: dead letters that are replayed, samples of a check, generated types.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as zlib from 'node:zlib'
import { encode as encodeMessagePack } from '@msgpack/msgpack'
import { encode as encodeCbor } from 'cbor2'
import protobuf from 'protobufjs'
import 'protobufjs/ext/descriptor/index.js'
import sparkplug from 'sparkplug-payload'
import { checkPipeline, describeTables, replayDeadLetters } from '../../index.js'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

const { root } = protobuf.parse('syntax = "proto3"; package p; message Reading { uint32 n = 1; }', { keepCase: true })
// @ts-expect-error protobufjs/ext/descriptor adds it.
const descriptor = root.toDescriptor('proto3')
const schema = Buffer.from(descriptor.constructor.encode(descriptor).finish())
const { encodePayload } = sparkplug.get('spBv1.0')
const metrics = (metric) => Buffer.from(encodePayload({ timestamp: 1_000, seq: 0, metrics: [metric] }))

/** A message of each with the number 70000: the options of its route, and how often a message has it. */
const FORMATS = {
  json: { payloads: ['{"n":70000}'] },
  'JSON in gzip': { compression: 'gzip', payloads: [zlib.gzipSync('{"n":70000}')] },
  'JSON in zlib': { compression: 'auto', payloads: [zlib.deflateSync('{"n":70000}')] },
  'rows within rows': { rows: 'a[*].b[*]', payloads: ['{"a":[{"b":[{"n":70000}]}]}'] },
  'lists side by side': { rows: { zip: { n: 'list' } }, payloads: ['{"list":[70000]}'] },
  text: { format: 'text', columns: { n: '$' }, payloads: ['70000'] },
  csv: { format: { type: 'csv', columns: ['n'] }, payloads: ['70000\n'] },
  msgpack: { format: 'msgpack', payloads: [encodeMessagePack({ n: 70_000 })] },
  cbor: { format: 'cbor', payloads: [encodeCbor({ n: 70_000 })] },
  protobuf: { format: { type: 'protobuf', schema, message: 'p.Reading' }, payloads: [root.lookupType('p.Reading').encode({ n: 70_000 }).finish()] },
  sparkplug: {
    format: 'sparkplug',
    columns: { n: 'value' },
    // The DATA needs the BIRTH also when it is replayed.
    payloads: [metrics({ name: 'n', alias: 1, type: 'Int32', value: 70_000 }), metrics({ alias: 1, type: 'Int32', value: 70_000 })],
    topics: ['NBIRTH', 'NDATA'],
  },
}

for (const [name, { payloads, topics = [], ...route }] of Object.entries(FORMATS)) {
  test(`${name}: a replay, a sample and types`, { timeout }, async (t) => {
    const [narrow, wide] = [await servers.table('n UInt8'), await servers.table('n UInt32')]
    const group = unique('group')
    const topicOf = (i) => `spBv1.0/${group}/${topics[i] ?? 'NDATA'}/node`
    const routes = (table) => [{ topic: `spBv1.0/${group}/#`, table, ...route }]
    const dir = await mkdtemp(join(tmpdir(), 'millrace-'))
    t.after(() => rm(dir, { recursive: true }))
    const pipeline = await servers.started(t, { deadLetters: { dir }, routes: routes(narrow) })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t, { clients: 1 })
    const publish = async () => {
      for (const [i, payload] of payloads.entries()) await publisher.publish(topicOf(i), Buffer.from(payload))
    }
    await publish()
    await settled(pipeline, payloads.length)
    await pipeline.stop()
    assert.deepEqual(letters.map(({ code }) => code), payloads.map(() => 'OUT_OF_RANGE'))

    const report = await replayDeadLetters(servers.config({ name: 'replay', routes: routes(wide) }), { dir })
    assert.deepEqual([report.inserted, report.deadLettered], [payloads.length, 0])
    assert.deepEqual(await servers.rows(`SELECT n FROM ${wide}`), payloads.map(() => ({ n: 70_000 })))

    let isOver = false
    const checking = checkPipeline(servers.config({ routes: routes(wide) }), { sample: payloads.length }).finally(() => (isOver = true))
    while (!isOver) await publish()
    const { sample } = await checking
    assert.ok(sample && sample.rows > 0, JSON.stringify(sample))
    // A sample may begin behind the BIRTH.
    const codes = new Set(sample.reasons.map(({ code }) => code))
    codes.delete('ALIAS_UNKNOWN')
    assert.deepEqual([...codes], [])

    const types = await describeTables(servers.config({ routes: routes(wide) }))
    assert.match(types, /\bnumber\b/)
    assert.match(types, /Payload\b/)
  })
}
