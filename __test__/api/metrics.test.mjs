// Metrics as Prometheus text, in a registry of prom-client and on a meter of OpenTelemetry.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { ValueType } from '@opentelemetry/api'
import {
  AggregationTemporality,
  DataPointType,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import parse from 'parse-prometheus-text-format'
import { Registry } from 'prom-client'
import { metricProducer, observeMetrics, Pipeline, registerMetrics } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const DOCUMENT = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')

/** A pipeline that has inserted 75 messages and refused 25. */
async function busy(t, config = {}) {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table }], ...config })
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (seq) => ({ topic, payload: seq % 4 ? JSON.stringify({ seq }) : 'bad' }))
  await settled(pipeline, 100)
  return { pipeline, table, topic, publisher }
}

/** The metrics that an independent parser reads, by name. */
function families(text) {
  return new Map(parse(text).map((family) => [family.name, family]))
}

/** The value of the one sample that has these labels. */
function value(family, labels = {}) {
  const samples = family.metrics.filter((sample) =>
    Object.entries(labels).every(([name, label]) => sample.labels[name] === label),
  )
  assert.equal(samples.length, 1, `${family.name} ${JSON.stringify(labels)}`)
  return Number(samples[0].value)
}

/** Names of the table in the document that this pipeline should have. */
function documented(pipeline) {
  const names = [...DOCUMENT.matchAll(/^\| `(millrace_\w+)` \| (?:counter|gauge|histogram) \|/gm)].map(([, name]) => name)
  const { spool, transforms: transform, lookups: lookup, pivot, dedupe, deadband } = pipeline.metrics()
  // Families of what only some pipelines have.
  const special = { spool, transform, lookup, pivot, dedupe, deadband }
  const lacks = Object.keys(special).filter((word) => Object.keys(special[word] ?? {}).length === 0)
  return names.filter((name) => !lacks.some((word) => name.startsWith(`millrace_${word}_`))).sort()
}

test('other parsers read the text, and its values are those of metrics()', { timeout }, async (t) => {
  const name = unique('mill')
  const { pipeline, table } = await busy(t, { name })
  const metrics = pipeline.metrics()
  const all = families(pipeline.prometheus())
  for (const { name: family, metrics: samples } of all.values()) {
    for (const { labels } of samples) if (labels) assert.equal(labels.pipeline, name, family)
  }
  const figures = {
    millrace_up: 1,
    millrace_messages_received_total: 100,
    millrace_messages_inserted_total: 75,
    millrace_messages_dead_lettered_total: 25,
    millrace_messages_dropped_total: 0,
    millrace_messages_skipped_total: 0,
    millrace_messages_pending: 0,
    millrace_oldest_pending_seconds: 0,
    millrace_rows_decoded_total: 75,
    millrace_rows_inserted_total: 75,
    millrace_received_bytes_total: metrics.bytes.received,
    millrace_inserted_bytes_total: metrics.bytes.inserted,
    millrace_insert_retries_total: 0,
    millrace_inserts_in_flight: 0,
    millrace_mqtt_connections: 1,
    millrace_memory_max_bytes: 256 * 2 ** 20,
  }
  for (const [family, expected] of Object.entries(figures)) assert.equal(value(all.get(family)), expected, family)
  for (const [family, labels, expected] of [
    ['millrace_state', { state: 'running' }, 1],
    ['millrace_state', { state: 'paused' }, 0],
    ['millrace_inserts_total', { result: 'succeeded' }, metrics.inserts.succeeded],
    ['millrace_inserts_total', { result: 'failed' }, 0],
    ['millrace_dead_letters_total', { code: 'JSON_INVALID' }, 25],
    ['millrace_dead_letters_total', { code: 'NO_ROUTE' }, 0],
    ['millrace_mqtt_connected', { connection: '1' }, 1],
    ['millrace_mqtt_reconnects_total', { connection: '1' }, 0],
    ['millrace_table_rows_total', { table }, 75],
    ['millrace_table_inserts_total', { table }, metrics.inserts.succeeded],
    ['millrace_table_dead_lettered_total', { table }, 25],
  ]) {
    assert.equal(value(all.get(family), labels), expected, `${family} ${JSON.stringify(labels)}`)
  }
  const [{ labels }] = all.get('millrace_build_info').metrics
  assert.equal(labels.version, JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version)
  assert.match(labels.runtime, /^(node|bun) \d+\.\d+/)
  const now = Date.now() / 1000
  const last = value(all.get('millrace_last_insert_timestamp_seconds'))
  assert.ok(last > now - timeout / 1000 && last <= now + 1, `${last} at ${now}`)
})

test('histograms rise to their count', { timeout }, async (t) => {
  const { pipeline } = await busy(t)
  // The parser leaves out sum and count of a histogram that has labels.
  const all = families(pipeline.prometheus().replace(/pipeline="[^"]+",?/g, ''))
  const { insert, endToEnd } = pipeline.metrics().latencyMs
  assert.equal(endToEnd.count, 75)
  for (const { name, quantiles } of [
    { name: 'millrace_insert_duration_seconds', quantiles: insert },
    { name: 'millrace_end_to_end_duration_seconds', quantiles: endToEnd },
  ]) {
    const { count, max } = quantiles
    const family = all.get(name)
    assert.equal(family.type, 'HISTOGRAM')
    const [histogram] = family.metrics
    assert.equal(Number(histogram.count), count, name)
    const buckets = Object.entries(histogram.buckets)
      .map(([limit, below]) => [Number(limit.replace('+Inf', 'Infinity')), Number(below)])
      .sort(([a], [b]) => a - b)
    assert.equal(buckets.at(-1)[0], Infinity)
    assert.equal(buckets.at(-1)[1], count)
    for (let i = 1; i < buckets.length; i++) assert.ok(buckets[i][1] >= buckets[i - 1][1], `${name} ${buckets[i]}`)
    const sum = Number(histogram.sum)
    assert.ok(sum > 0 && sum <= (count * max * 1.001) / 1000, `${name} ${sum}`)
  }
})

test('promtool accepts the text', { timeout }, async (t) => {
  const { pipeline } = await busy(t, { name: unique('mill') })
  const { error, status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
    input: pipeline.prometheus(),
    encoding: 'utf8',
  })
  if (error) {
    assert.equal(/** @type {any} */ (error).code, 'ENOENT')
    console.log('promtool is not installed here: nothing was checked')
    return
  }
  assert.equal(stdout + stderr, '')
  assert.equal(status, 0)
})

test('the document lists the metrics of the text', { timeout }, async (t) => {
  const { pipeline } = await busy(t)
  assert.deepEqual([...families(pipeline.prometheus()).keys()].sort(), documented(pipeline))
})

test('the document lists the codes of all warnings, and the fields that index.d.ts has', () => {
  const [, section] = DOCUMENT.split(/^## Warnings$/m)
  const rows = Array.from(section.split(/^## /m)[0].matchAll(/^\| `([A-Z_]+)` \|.*\| ([^|]*) \|$/gm))
  const codes = new Set(rows.map(([, code]) => code))
  const source = (folder) => readdirSync(new URL(`../../${folder}/`, import.meta.url), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(rs|js)$/.test(file))
    .map((file) => readFileSync(new URL(`../../${folder}/${file}`, import.meta.url), 'utf8'))
    .join('\n')
  const engine = source('src')
  const warned = Array.from(engine.matchAll(/Warning::new\(\s*"([A-Z_]+)"/g), ([, code]) => code)
  assert.ok(warned.length > 30, `${warned.length} warnings`)
  assert.deepEqual(warned.filter((code) => !codes.has(code)), [])
  const all = engine + source('lib')
  assert.deepEqual([...codes].filter((code) => !new RegExp(`["']${code}["']`).test(all)), [])

  const types = readFileSync(new URL('../../index.d.ts', import.meta.url), 'utf8')
  const [, body] = types.match(/^export interface Warning \{\n([^]*?)^\}/m)
  const declared = Array.from(body.matchAll(/^ {2}(\w+)\?:/gm), ([, name]) => name).sort()
  const documentedFields = new Set(rows.flatMap(([, , cell]) => Array.from(cell.matchAll(/`(\w+)`/g), ([, name]) => name)))
  assert.deepEqual([...documentedFields].sort(), declared)
})

test('transforms have figures of their own, by route, for all collectors', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topics = [unique('topic'), unique('topic')]
  const transform = (batch) => {
    for (let row = 0; row < batch.length; row++) if (batch.columns.seq.values[row] % 2) batch.drop(row)
  }
  const pipeline = await servers.started(t, { routes: topics.map((topic) => ({ topic, table, transform })) })
  const publisher = await servers.publisher(t)
  await publisher.flood(40, (seq) => ({ topic: topics[seq % 4 ? 1 : 0], payload: JSON.stringify({ seq }) }))
  await settled(pipeline, 40)
  const { transforms } = pipeline.metrics()
  assert.deepEqual(topics.map((topic) => [transforms[topic].rows, transforms[topic].dropped]), [[10, 0], [30, 20]])
  const all = families(pipeline.prometheus())
  assert.deepEqual([...all.keys()].sort(), documented(pipeline))
  for (const [i, route] of topics.entries()) {
    assert.equal(value(all.get('millrace_transform_rows_total'), { route }), transforms[route].rows)
    assert.equal(value(all.get('millrace_transform_dropped_total'), { route }), [0, 20][i])
    assert.equal(value(all.get('millrace_transform_calls_total'), { route }), transforms[route].calls)
  }
  const { resourceMetrics } = await metricProducer(pipeline).collect()
  const { metrics } = resourceMetrics.scopeMetrics[0]
  const durations = metrics.find(({ descriptor }) => descriptor.name === 'millrace.transform_duration_seconds').dataPoints
  const counts = Object.fromEntries(durations.map(({ attributes, value: { count } }) => [attributes.route, count]))
  assert.deepEqual(counts, Object.fromEntries(topics.map((topic) => [topic, transforms[topic].calls])))
  const provider = new MeterProvider()
  t.after(() => provider.shutdown())
  observeMetrics(pipeline, provider.getMeter('test'))()
})

test('two routes with one topic have figures of their own', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const all = () => {}
  const none = (batch) => {
    for (let row = 0; row < batch.length; row++) batch.drop(row)
  }
  const routes = [{ topic, table, transform: all, continue: true }, { topic, table, transform: none }]
  const pipeline = await servers.started(t, { routes })
  const publisher = await servers.publisher(t)
  await publisher.flood(10, (seq) => ({ topic, payload: JSON.stringify({ seq }) }))
  await settled(pipeline, 10)
  const { transforms } = pipeline.metrics()
  const dropped = Object.entries(transforms).map(([route, { rows, dropped }]) => [route, rows, dropped])
  assert.deepEqual(dropped, [[topic, 10, 0], [`${topic} (routes[1])`, 10, 10]])
  const texts = families(pipeline.prometheus())
  for (const [route, rows, count] of dropped) {
    assert.equal(value(texts.get('millrace_transform_rows_total'), { route }), rows)
    assert.equal(value(texts.get('millrace_transform_dropped_total'), { route }), count)
  }
})

test('a spool has figures of its own', { timeout }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-metrics-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const config = { mqtt: { clientId: unique('client') }, spool: { dir: join(dir, 'spool'), maxBytes: 2 ** 30 } }
  const { pipeline, topic, publisher } = await busy(t, { ...config, batch: { maxDelayMs: 3_600_000 } })
  await publisher.publish(topic, { seq: 100 })
  // The spool may still have an older message, whose INSERT is confirmed and not yet noted there.
  await waitFor(() => pipeline.metrics().spool.oldestMs >= 10 && pipeline.metrics().oldestPendingMs >= 10)
  const { spool } = pipeline.metrics()
  const all = families(pipeline.prometheus())
  assert.deepEqual([...all.keys()].sort(), documented(pipeline))
  assert.equal(value(all.get('millrace_spool_bytes')), spool.bytes)
  assert.ok(spool.bytes > 0)
  assert.equal(value(all.get('millrace_spool_max_bytes')), 2 ** 30)
  assert.equal(value(all.get('millrace_spool_segments')), spool.segments)
  assert.ok(value(all.get('millrace_spool_oldest_seconds')) >= spool.oldestMs / 1000)
  await pipeline.flush()
  assert.equal(pipeline.metrics().oldestPendingMs, 0)
})

test('ages: of the oldest message that is pending, and of the last INSERT', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table }], batch: { maxDelayMs: 3_600_000 }, mqtt: { qos: 0 } })
  assert.equal(pipeline.metrics().lastInsertMs, null)
  assert.equal(pipeline.metrics().oldestPendingMs, 0)
  assert.equal(value(families(pipeline.prometheus()).get('millrace_last_insert_timestamp_seconds')), 0)
  const publisher = await servers.publisher(t)
  const sent = Date.now()
  await publisher.publish(topic, { seq: 1 })
  await received(pipeline, 1)
  await waitFor(() => pipeline.metrics().oldestPendingMs >= 100, { message: () => JSON.stringify(pipeline.metrics()) })
  assert.ok(pipeline.metrics().oldestPendingMs <= Date.now() - sent)
  await pipeline.flush()
  const { lastInsertMs, oldestPendingMs } = pipeline.metrics()
  assert.equal(oldestPendingMs, 0)
  assert.ok(lastInsertMs >= 0 && lastInsertMs <= Date.now() - sent, String(lastInsertMs))
})

test('connections have metrics of their own', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { connections: 3, sharedGroup: unique('group') },
    routes: [{ topic, table }],
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(90, (seq) => ({ topic, payload: JSON.stringify({ seq }) }))
  await settled(pipeline, 90)
  const all = families(pipeline.prometheus())
  const connected = all.get('millrace_mqtt_connected').metrics.map(({ labels, value: up }) => [labels.connection, up])
  assert.deepEqual(connected, [['1', '1'], ['2', '1'], ['3', '1']])
  const { mqtt } = pipeline.metrics()
  assert.equal(mqtt.connected, 3)
  const writes = all.get('millrace_mqtt_writes_total').metrics.map((sample) => Number(sample.value))
  assert.ok(writes.every((count) => count > 0), String(writes))
})

test('the metrics event brings what metrics() has', { timeout }, async (t) => {
  const { pipeline } = await busy(t)
  let event
  pipeline.on('metrics', (metrics) => (event = metrics))
  await waitFor(() => event?.messages.deadLettered === 25 && event.messages.pending === 0)
  const snapshot = pipeline.metrics()
  assertLedger(event)
  assert.deepEqual(Object.keys(event).sort(), Object.keys(snapshot).sort())
  assert.deepEqual(event.messages, snapshot.messages)
  assert.deepEqual(event.deadLetters, { JSON_INVALID: 25 })
})

test('a registry of prom-client has the same', { timeout }, async (t) => {
  const [one, two] = [await busy(t, { name: unique('mill') }), await busy(t, { name: unique('mill') })]
  const registry = new Registry()
  const removeOne = registerMetrics(one.pipeline, registry)
  const removeTwo = registerMetrics(two.pipeline, registry)
  registerMetrics(two.pipeline, registry)
  await Promise.all([one, two].map(({ pipeline }) => pipeline.stop()))

  const samples = (text) =>
    text.split('\n').filter((line) => line && !line.startsWith('#') && !line.startsWith('millrace_uptime')).sort()
  const own = [one, two].flatMap(({ pipeline }) => samples(pipeline.prometheus()))
  assert.deepEqual(samples(await registry.metrics()), own.sort())
  const json = await registry.getMetricsAsJSON()
  const { values } = json.find(({ name }) => name === 'millrace_messages_received_total')
  assert.deepEqual(values.map((sample) => sample.value), [100, 100])

  removeOne()
  assert.equal((await registry.metrics()).match(/^millrace_up\{/gm).length, 1)
  removeTwo()
  assert.equal((await registry.metrics()).trim(), '')

  const registered = unique('mill')
  const stopped = (name) => new Pipeline(servers.config({ name, routes: [{ topic: 'a', table: 'b' }] }))
  registerMetrics(stopped(registered), registry)
  assert.throws(() => registerMetrics(stopped(registered), registry), { code: 'CONFIG_INVALID', path: 'name' })
})

test('prom-client writes OpenMetrics of them', { timeout }, async (t) => {
  const { pipeline } = await busy(t)
  const registry = new Registry()
  registry.setContentType(/** @type {any} */ (Registry.OPENMETRICS_CONTENT_TYPE))
  registerMetrics(pipeline, registry)
  for (let scrape = 0; scrape < 2; scrape++) {
    const text = await registry.metrics()
    assert.match(text, /^# TYPE millrace_messages_received counter$/m)
    assert.match(text, /^millrace_messages_received_total\{pipeline="[^"]+"\} 100$/m)
    assert.match(text, /# EOF\n$/)
  }
})

test('instruments on a meter of OpenTelemetry', { timeout }, async (t) => {
  const name = unique('mill')
  const { pipeline, table, topic, publisher } = await busy(t, { name })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  const provider = new MeterProvider({ readers: [reader] })
  t.after(() => provider.shutdown())
  const end = observeMetrics(pipeline, provider.getMeter('test'))
  let collected
  const collect = async () => {
    await provider.forceFlush()
    collected = exporter.getMetrics().at(-1).scopeMetrics[0].metrics
  }
  await collect()
  const of = (metric) => collected.find(({ descriptor }) => descriptor.name === metric)
  const point = (metric, attributes = {}) => {
    const points = of(metric).dataPoints.filter((candidate) =>
      Object.entries({ pipeline: name, ...attributes }).every(([key, label]) => candidate.attributes[key] === label),
    )
    assert.equal(points.length, 1, `${metric} ${JSON.stringify(attributes)}`)
    return points[0].value
  }
  assert.equal(point('millrace.messages_received'), 100)
  assert.equal(point('millrace.table_rows', { table }), 75)
  assert.equal(point('millrace.dead_letters', { code: 'JSON_INVALID' }), 25)
  assert.equal(point('millrace.state', { state: 'running' }), 1)
  const { latencyMs } = pipeline.metrics()
  assert.equal(point('millrace.end_to_end_duration_seconds.quantile', { quantile: '0.5' }), latencyMs.endToEnd.p50 / 1000)
  assert.equal(point('millrace.insert_duration_seconds.quantile', { quantile: '1' }), latencyMs.insert.max / 1000)
  assert.equal(of('millrace.received_bytes').descriptor.unit, 'By')
  assert.equal(of('millrace.up').descriptor.unit, '{pipeline}')
  assert.equal(of('millrace.messages_received').descriptor.unit, '{message}')
  assert.equal(of('millrace.uptime_seconds').descriptor.unit, 's')
  assert.ok(/** @type {any} */ (of('millrace.messages_received')).isMonotonic)

  const derived = documented(pipeline).map((documentedName) => {
    const own = documentedName.replace('millrace_', 'millrace.').replace(/_total$/, '')
    return /_duration_seconds$/.test(own) ? `${own}.quantile` : own
  })
  assert.deepEqual(collected.map(({ descriptor }) => descriptor.name).sort(), derived.sort())

  // After the end nothing is read any more: the values stay.
  end()
  await publisher.publish(topic, { seq: 100 })
  await settled(pipeline, 101)
  await collect()
  assert.equal(point('millrace.messages_received'), 100)
})

test('a reader of OpenTelemetry takes all metrics from a producer, histograms as histograms', { timeout }, async (t) => {
  const name = unique('mill')
  const { pipeline, table, publisher, topic } = await busy(t, { name })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const producer = metricProducer(pipeline)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000, metricProducers: [producer] })
  const provider = new MeterProvider({ readers: [reader] })
  t.after(() => provider.shutdown())
  const before = Date.now()
  await provider.forceFlush()
  const { scope, metrics } = exporter.getMetrics()[0].scopeMetrics.find((scoped) => scoped.scope.name === 'millrace')
  assert.equal(scope.version, JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version)

  const all = families(pipeline.prometheus())
  assert.deepEqual(
    metrics.map(({ descriptor }) => descriptor.name).sort(),
    [...all.keys()].map((own) => own.replace('millrace_', 'millrace.').replace(/_total$/, '')).sort(),
  )
  for (const { descriptor, dataPoints, dataPointType, aggregationTemporality, ...rest } of metrics) {
    const own = descriptor.name.replace('millrace.', 'millrace_')
    const family = all.get(own) ?? all.get(`${own}_total`)
    const expected = { COUNTER: DataPointType.SUM, GAUGE: DataPointType.GAUGE, HISTOGRAM: DataPointType.HISTOGRAM }[family.type]
    assert.equal(dataPointType, expected, own)
    assert.equal(/** @type {any} */ (rest).isMonotonic, family.type === 'COUNTER' ? true : undefined, own)
    assert.deepEqual([aggregationTemporality, descriptor.valueType], [AggregationTemporality.CUMULATIVE, ValueType.DOUBLE], own)
    assert.equal(descriptor.description, family.help, own)
    assert.match(descriptor.unit, /_seconds$/.test(own) ? /^s$/ : /_bytes$/.test(own) ? /^By$/ : /^\{[a-z]+\}$/, own)
  }
  const points = (metric) => metrics.find(({ descriptor }) => descriptor.name === metric).dataPoints
  const unit = (metric) => metrics.find(({ descriptor }) => descriptor.name === metric).descriptor.unit
  assert.deepEqual(points('millrace.messages_received')[0].value, 100)
  const [rows] = points('millrace.table_rows').filter(({ attributes }) => attributes.table === table)
  assert.deepEqual([rows.value, rows.attributes], [75, { pipeline: name, table }])
  assert.deepEqual(
    ['messages_dropped', 'rows_decoded', 'inserts_in_flight', 'table_failing', 'up', 'mqtt_connected'].map((own) => unit(`millrace.${own}`)),
    ['{message}', '{row}', '{insert}', '{table}', '{pipeline}', '{connection}'],
  )

  const [{ value: durations, startTime, endTime, attributes }] = points('millrace.end_to_end_duration_seconds')
  const histogram = /** @type {import('@opentelemetry/sdk-metrics').Histogram} */ (durations)
  assert.deepEqual(attributes, { pipeline: name })
  // The parser leaves out sum and count of a histogram that has labels.
  const unlabelled = families(pipeline.prometheus().replace(/pipeline="[^"]+",?/g, ''))
  const [text] = unlabelled.get('millrace_end_to_end_duration_seconds').metrics
  const limits = Object.keys(text.buckets).filter((le) => le !== '+Inf').map(Number)
  assert.deepEqual(histogram.buckets.boundaries, limits.sort((a, b) => a - b))
  const below = (limit) => histogram.buckets.counts.slice(0, histogram.buckets.boundaries.indexOf(limit) + 1).reduce((sum, count) => sum + count)
  for (const limit of limits) assert.equal(below(limit), Number(text.buckets[limit]), String(limit))
  assert.equal(histogram.buckets.counts.length, histogram.buckets.boundaries.length + 1)
  assert.equal(histogram.buckets.counts.reduce((sum, count) => sum + count), 75)
  assert.deepEqual([histogram.count, histogram.sum], [75, Number(text.sum)])
  const ms = ([seconds, nanos]) => seconds * 1e3 + nanos / 1e6
  assert.ok(ms(startTime) <= before && ms(endTime) >= before, 'the interval is from the construction to now')

  // Counters go on from the same start.
  await publisher.publish(topic, { seq: 100 })
  await settled(pipeline, 101)
  const again = (await producer.collect()).resourceMetrics.scopeMetrics[0].metrics
  const [received] = again.find(({ descriptor }) => descriptor.name === 'millrace.messages_received').dataPoints
  assert.deepEqual([received.value, received.startTime], [101, startTime])
})
