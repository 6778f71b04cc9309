// Spans of sampled batches in an SDK of OpenTelemetry.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { Pipeline } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { startProxy } from '../support/proxy.mjs'
import { settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

/** A tracer, and the spans that have ended. */
function recorder() {
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  return { tracer: provider.getTracer('test'), spans: () => exporter.getFinishedSpans() }
}

const millis = ([seconds, nanos]) => seconds * 1e3 + nanos / 1e6

/** The batches, each with its INSERTs; every INSERT lies within its batch. */
function batches(spans) {
  const inserts = spans.filter(({ name }) => name.startsWith('INSERT '))
  const found = spans
    .filter(({ name }) => name.startsWith('process'))
    .map((batch) => {
      const own = inserts.filter(({ parentSpanContext }) => parentSpanContext.spanId === batch.spanContext().spanId)
      for (const insert of own) {
        assert.equal(insert.spanContext().traceId, batch.spanContext().traceId)
        assert.ok(millis(batch.startTime) <= millis(insert.startTime))
        assert.ok(millis(insert.startTime) <= millis(insert.endTime))
        assert.ok(millis(insert.endTime) <= millis(batch.endTime))
      }
      return { batch, inserts: own }
    })
  assert.equal(found.flatMap((one) => one.inserts).length, inserts.length, 'every INSERT belongs to a batch')
  return found
}

/** Waits until the spans of `messages` messages are there. */
async function traced(spans, messages) {
  const counted = () => {
    const all = spans().filter(({ name }) => name.startsWith('process'))
    return all.reduce((sum, { attributes }) => sum + attributes['messaging.batch.message_count'], 0)
  }
  await waitFor(() => counted() === messages, { message: () => `spans of ${counted()} of ${messages} messages` })
  return batches(spans())
}

test('a batch, its INSERT, and links to where the messages come from', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const name = unique('mill')
  const { tracer, spans } = recorder()
  const pipeline = await servers.started(t, {
    name,
    routes: [{ topic, table }],
    tracing: { tracer, sampleRatio: 1 },
    batch: { maxDelayMs: 3_600_000 },
  })
  const publisher = await servers.publisher(t, { protocolVersion: 5 })
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const contexts = [
    { traceparent: `00-${traceId}-00f067aa0ba902b7-01`, tracestate: 'vendor=mill,other=1' },
    { traceparent: `00-${traceId}-00f067aa0ba902b7-01`, tracestate: 'vendor=mill,other=1' },
    { traceparent: `00-${traceId}-00f067aa0ba902b8-01` },
    { traceparent: `00-${traceId}-00f067aa0ba902b9-00` },
    { traceparent: 'nonsense' },
    { something: 'else' },
    undefined,
  ]
  const begin = Date.now()
  for (const [seq, userProperties] of contexts.entries()) {
    await publisher.publish(topic, { seq }, { properties: { userProperties } })
  }
  await settled(pipeline, contexts.length)
  const found = await traced(spans, contexts.length)
  const end = Date.now()

  const links = found.flatMap(({ batch }) => batch.links)
  assert.deepEqual(
    new Set(links.map(({ context }) => `${context.traceId} ${context.spanId} ${context.traceFlags}`)),
    new Set([`${traceId} 00f067aa0ba902b7 1`, `${traceId} 00f067aa0ba902b8 1`]),
  )
  const [one] = links.filter(({ context }) => context.spanId.endsWith('b7'))
  assert.equal(one.context.traceState.get('vendor'), 'mill')
  assert.equal(one.context.isRemote, true)

  for (const { batch, inserts } of found) {
    const rows = batch.attributes['messaging.batch.message_count']
    assert.equal(batch.name, `process ${topic}`)
    assert.equal(batch.kind, SpanKind.CONSUMER)
    assert.equal(batch.parentSpanContext, undefined)
    // The clocks of two processes' parts may differ by the resolution of one.
    assert.ok(millis(batch.startTime) >= begin - 1 && millis(batch.endTime) <= end + 1)
    assert.deepEqual(batch.attributes, {
      'messaging.system': 'mqtt',
      'messaging.operation.type': 'process',
      'messaging.operation.name': 'process',
      'messaging.destination.template': topic,
      'server.address': new URL(servers.broker.url).hostname,
      'server.port': Number(new URL(servers.broker.url).port),
      'messaging.batch.message_count': rows,
      'millrace.pipeline': name,
      'millrace.table': table,
      'millrace.rows': rows,
      'millrace.dead_letters': 0,
    })
    const [sealed] = batch.events
    assert.equal(sealed.name, 'sealed')
    assert.ok(millis(sealed.time) >= millis(batch.startTime) && millis(sealed.time) <= millis(batch.endTime))
    assert.equal(inserts.length, 1)
    const [insert] = inserts
    const { 'millrace.token': token, 'millrace.bytes': bytes, ...attributes } = insert.attributes
    assert.equal(insert.kind, SpanKind.CLIENT)
    assert.equal(insert.status.code, SpanStatusCode.UNSET)
    assert.ok(token.startsWith(`${name}-`), token)
    assert.ok(bytes > rows * 4, String(bytes))
    assert.deepEqual(attributes, {
      'db.system.name': 'clickhouse',
      'db.operation.name': 'INSERT',
      'db.collection.name': table,
      'db.namespace': servers.database,
      'server.address': new URL(servers.clickhouse.url).hostname,
      'server.port': Number(new URL(servers.clickhouse.url).port),
      'millrace.pipeline': name,
      'millrace.rows': rows,
      'millrace.attempts': 1,
    })
  }
})

test('through a spool', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const { tracer, spans } = recorder()
  const dir = mkdtempSync(join(tmpdir(), 'millrace-traced-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const pipeline = await servers.started(t, {
    mqtt: { clientId: unique('client') },
    routes: [{ topic, table }],
    spool: { dir: join(dir, 'spool') },
    batch: { maxDelayMs: 3_600_000 },
    tracing: { tracer, sampleRatio: 1 },
  })
  const publisher = await servers.publisher(t, { protocolVersion: 5, clients: 1 })
  // Each is in the spool before the next is sent.
  for (let seq = 0; seq < 5; seq++) {
    const userProperties = { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(15)}${seq}-01` }
    const { bytes } = pipeline.metrics().spool
    await publisher.publish(topic, { seq }, { properties: { userProperties } })
    await waitFor(() => pipeline.metrics().spool.bytes > bytes && pipeline.metrics().messages.received > seq)
  }
  await settled(pipeline, 5)
  const found = await traced(spans, 5)
  assert.equal(found.length, 1)
  const [{ batch, inserts }] = found
  assert.equal(batch.attributes['millrace.rows'], 5)
  assert.deepEqual(new Set(batch.links.map(({ context }) => context.spanId.at(-1))), new Set(['0', '1', '2', '3', '4']))
  assert.equal(inserts.length, 1)
  assert.equal(inserts[0].attributes['millrace.rows'], 5)
  assert.ok(inserts[0].attributes['millrace.token'].length > 0)
})

test('a shared group, and a table of another database', { timeout }, async (t) => {
  const table = `${servers.database}.${await servers.table('seq UInt32')}`
  const topic = unique('topic')
  const { tracer, spans } = recorder()
  const sharedGroup = unique('group')
  const pipeline = await servers.started(t, {
    mqtt: { sharedGroup },
    clickhouse: { database: 'default' },
    routes: [{ topic: `${topic}/{place}`, table }],
    tracing: { tracer, sampleRatio: 1 },
  })
  const publisher = await servers.publisher(t)
  await publisher.publish(`${topic}/here`, { seq: 1 })
  await settled(pipeline, 1)
  const [{ batch, inserts }] = await traced(spans, 1)
  assert.equal(batch.attributes['messaging.consumer.group.name'], sharedGroup)
  assert.equal(batch.attributes['messaging.destination.template'], `${topic}/{place}`)
  const { 'db.namespace': database, 'db.collection.name': collection } = inserts[0].attributes
  assert.equal(`${database}.${collection}`, table)
})

test('attempts are counted', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const { tracer, spans } = recorder()
  const proxy = await startProxy(t, servers.clickhouse.port)
  const pipeline = await servers.started(t, {
    clickhouse: { url: `http://127.0.0.1:${proxy.port}`, retry: { minMs: 1, maxMs: 10 } },
    routes: [{ topic, table }],
    tracing: { tracer, sampleRatio: 1 },
  })
  proxy.loseAnswers(2)
  const publisher = await servers.publisher(t)
  await publisher.publish(topic, { seq: 1 })
  await settled(pipeline, 1)
  const [{ inserts }] = await traced(spans, 1)
  assert.deepEqual(inserts.map(({ attributes }) => attributes['millrace.attempts']), [3])
  assert.equal(await servers.count(table), 1)
})

test('a refused batch is an error, and its halves have tokens of their own', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, CONSTRAINT small CHECK seq < 100')
  const topic = unique('topic')
  const { tracer, spans } = recorder()
  const pipeline = await servers.started(t, {
    routes: [{ topic, table }],
    mqtt: { qos: 0 },
    batch: { maxRows: 8, maxDelayMs: 3_600_000 },
    tracing: { tracer, sampleRatio: 1 },
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(8, (i) => ({ topic, payload: JSON.stringify({ seq: i === 5 ? 500 : i }) }))
  await settled(pipeline, 8)
  const [{ batch, inserts }] = await traced(spans, 8)
  assert.equal(batch.attributes['millrace.dead_letters'], 1)
  const refused = inserts.filter(({ status }) => status.code === SpanStatusCode.ERROR)
  assert.ok(refused.length >= 1 && refused.length < inserts.length)
  for (const { status, attributes } of refused) {
    assert.equal(status.message, 'VIOLATED_CONSTRAINT', 'no values of rows')
    assert.deepEqual([attributes['error.type'], attributes['db.response.status_code']], ['VIOLATED_CONSTRAINT', '469'])
  }
  const tokens = inserts.map(({ attributes }) => attributes['millrace.token'])
  assert.equal(new Set(tokens).size, tokens.length)
  const brought = inserts.filter((insert) => !refused.includes(insert))
  assert.equal(brought.reduce((rows, { attributes }) => rows + attributes['millrace.rows'], 0), 7)
})

test('user properties that columns take are the same with and without', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, origin Nullable(String)')
  const topic = unique('topic')
  const { tracer, spans } = recorder()
  for (const sampleRatio of [0, 1]) {
    const pipeline = await servers.started(t, {
      routes: [{ topic, table, columns: { origin: { userProperty: 'origin' } } }],
      tracing: { tracer, sampleRatio },
    })
    const publisher = await servers.publisher(t, { protocolVersion: 5 })
    const userProperties = { origin: `mill ${sampleRatio}`, traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` }
    await publisher.publish(topic, { seq: sampleRatio }, { properties: { userProperties } })
    await settled(pipeline, 1)
    await pipeline.stop()
  }
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table} ORDER BY seq`), [
    { seq: 0, origin: 'mill 0' },
    { seq: 1, origin: 'mill 1' },
  ])
  // The pipeline with a ratio of 0 has no spans.
  const [{ batch }, ...others] = await traced(spans, 1)
  assert.equal(batch.links.length, 1)
  assert.deepEqual(others, [])
})

test('wrong options', () => {
  const { tracer } = recorder()
  const config = (tracing) => servers.config({ tracing, routes: [{ topic: 'a', table: 'b' }] })
  for (const { tracing, path } of [
    { tracing: {}, path: 'tracing.tracer' },
    { tracing: { tracer: {} }, path: 'tracing.tracer' },
    { tracing: 5, path: 'tracing' },
    { tracing: null, path: 'tracing' },
    { tracing: { tracer, sampleRatio: 1.5 }, path: 'tracing.sampleRatio' },
    { tracing: { tracer, sampleRatio: -0.1 }, path: 'tracing.sampleRatio' },
    { tracing: { tracer, sampleRatio: '1' }, path: 'tracing.sampleRatio' },
    { tracing: { tracer, sample: 1 }, path: 'tracing.sample' },
  ]) {
    assert.throws(() => new Pipeline(config(tracing)), { name: 'MillraceError', code: 'CONFIG_INVALID', path })
  }
  new Pipeline(config({ tracer }))
})
