// Every public name, used as a TypeScript program uses it. Nothing here runs: that it compiles is the test.

import { type EventEmitter, once } from 'node:events'
import { createServer } from 'node:http'
import { metrics, trace } from '@opentelemetry/api'
import { ConsoleMetricExporter, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import pino from 'pino'
import { Registry } from 'prom-client'
import {
  type BatchConfig,
  checkPipeline,
  type CheckOptions,
  type ClickHouseConfig,
  type ColumnSource,
  type CredentialFile,
  type CredentialFunction,
  type DeadLetter,
  type DeadLetterCode,
  type DeadLetterConfig,
  definePipeline,
  describeTables,
  type ErrorCode,
  httpHandler,
  type HttpServerOptions,
  metricProducer,
  type Metrics,
  MillraceError,
  type MqttConfig,
  observeMetrics,
  Pipeline,
  type PipelineConfig,
  type PipelineEvents,
  type ProposalOptions,
  proposeTable,
  type Quantiles,
  registerMetrics,
  type ReplayOptions,
  type ReplayReport,
  type ReplaySource,
  replayDeadLetters,
  type Condition,
  type Route,
  serveHttp,
  type SpoolConfig,
  type WarningCode,
} from '../../index.js'
import * as millrace from '../../index.js'

/** Compiles only where both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(_: Same<A, B>) => {}

// The configuration: the least, and everything.

const least: PipelineConfig = {
  mqtt: { url: 'mqtt://localhost:1883' },
  clickhouse: { url: 'http://localhost:8123' },
  routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions' }],
}

const mqtt: MqttConfig = {
  url: ['mqtt://one', 'mqtts://two', 'ws://three', 'wss://four'],
  clientId: 'fleet-1',
  username: 'miller',
  password: 'grist',
  protocolVersion: 4,
  qos: 2,
  sharedGroup: 'fleet',
  connections: 2,
  sessionExpirySeconds: 60,
  keepAliveSeconds: 30,
  receiveMaximum: 65_535,
  maxPacketBytes: 1024 * 1024,
  coalesceMs: 'auto',
  ackAfter: 'insert',
  retained: 'skip',
  reconnect: { minMs: 100, maxMs: 30_000 },
  tls: { ca: 'PEM', cert: Buffer.from('PEM'), key: 'PEM', serverName: 'broker', insecure: false, alpn: ['x-amzn-mqtt-ca'] },
}

const credentials: CredentialFunction[] = [() => 'grist', async () => 'grist']
const changing: MqttConfig[] = [
  { url: 'mqtt://one', username: { file: '/run/secrets/name' }, password: credentials[0] },
  { url: 'mqtt://one', username: () => 'miller', password: async () => 'grist' },
]
// @ts-expect-error a function gives a text
const wrongCredential: MqttConfig = { url: 'mqtt://one', username: 'miller', password: () => 5 }
// @ts-expect-error the user of ClickHouse is a text
const wrongUser: ClickHouseConfig = { url: 'http://one', username: () => 'miller' }
const changingToo: ClickHouseConfig = { url: 'http://one', password: { file: 'a' } satisfies CredentialFile }
void [changing, wrongCredential, wrongUser, changingToo]

const clickhouse: ClickHouseConfig = {
  url: ['http://one:8123', 'https://two:8443'],
  database: 'fleet',
  username: 'miller',
  password: 'grist',
  compression: 'zstd',
  settings: { max_threads: 1, log_comment: 'x', optimize_on_insert: false },
  maxInFlight: 2,
  connectTimeoutMs: 5_000,
  requestTimeoutMs: 30_000,
  retry: { minMs: 100, maxMs: 30_000 },
  tls: { ca: Buffer.from('PEM'), cert: 'PEM', key: Buffer.from('PEM') },
}

const sources: ColumnSource[] = [
  'position.lat',
  { path: 'axes[0]' },
  { path: 'ts', default: null, unit: 'ms' },
  { path: 'tags', default: { nested: [1, 'two', true, null] }, unit: 'auto' },
  { topic: 'driver_id' },
  { meta: 'topic' },
  { meta: 'receivedAt' },
  { meta: 'payload' },
  { meta: 'qos' },
  { meta: 'retain' },
  { meta: 'clientId' },
  { userProperty: 'site' },
  { value: 5 },
  { lookup: 'devices', key: 'driver_id' },
  { lookup: 'devices', key: { topic: 'driver_id' }, field: 'tenant', default: null },
  { lookup: 'devices', key: { path: 'meta.id' } },
  { lookup: 'devices', key: { meta: 'clientId' } },
  { lookup: 'devices', key: { userProperty: 'site' } },
  // @ts-expect-error the QoS cannot be a key
  { lookup: 'devices', key: { meta: 'qos' } },
]

const condition: Condition = {
  or: [
    { path: ['speed', 'v'], ge: 1, lt: 9, ne: 'x', exists: true },
    { not: { and: [{ topic: 'driver_id', in: ['a', 5, true] }, { path: 'test', eq: true }] } },
  ],
}
// @ts-expect-error a condition compares something
const comparesNothing: Condition = { eq: 5 }
// @ts-expect-error booleans have no order
const ordersBooleans: Condition = { path: 'a', lt: true }
// @ts-expect-error a missing field is { exists: false }
const comparesNull: Condition = { path: 'a', eq: null }
void [comparesNothing, ordersBooleans, comparesNull]

const route: Route = {
  where: condition,
  continue: true,
  topic: 'a/{b}/{c#}',
  table: 'db.t',
  columns: { lat: 'position.lat', site: { value: 'x' } },
  rows: 'points',
  unknownFields: 'reject',
  missingFields: 'zero',
}

const batch: BatchConfig = { maxRows: 5_000, maxBytes: 8 * 1024 * 1024, maxDelayMs: 1_000 }
const spool: SpoolConfig = { dir: 'spool', maxBytes: 4 * 1024 ** 3, commitMs: 'auto', segmentBytes: 64 * 1024 * 1024 }
const deadLetters: DeadLetterConfig[] = [{ table: 'dead' }, { dir: 'dead' }, {}]

const most: PipelineConfig = {
  name: 'fleet',
  mqtt,
  clickhouse,
  routes: [route],
  tables: ['audit'],
  batch,
  spool,
  deadLetters: deadLetters[0],
  lookups: { devices: { file: 'devices.json' }, classes: { entries: { a: 1, b: { c: 'd', e: null } } } },
  memory: { maxBytes: 256 * 1024 * 1024 },
  metricsIntervalMs: 1_000,
  logger: pino(),
  tracing: { tracer: trace.getTracer('fleet'), sampleRatio: 0.5 },
}

// Configurations as constants, and with options that are undefined.

const constant = {
  mqtt: { url: ['mqtt://one', 'mqtt://two'] },
  clickhouse: { url: 'http://localhost' },
  routes: [{ topic: 'a/{b}', table: 't', columns: { c: ['d', 'e'], f: { path: 'g', map: { on: true } } }, emits: ['u'] }],
  tables: ['t'],
} as const
const isConstant: PipelineConfig = constant
const undefinedOptions: PipelineConfig = {
  ...least,
  name: undefined,
  spool: undefined,
  mqtt: { url: 'mqtt://localhost', username: undefined, password: undefined, tls: undefined },
  deadLetters: { table: undefined, dir: 'dead' },
}
void [isConstant, undefinedOptions]

// Configurations whose topics are known.

const defined = definePipeline({
  mqtt: { url: 'mqtt://localhost' },
  clickhouse: { url: 'http://localhost' },
  routes: [
    { topic: 'a/{site}/{rest#}', table: 't', columns: { place: { topic: 'site' }, others: { topic: 'rest' }, lat: 'position.lat' } },
    { topic: 'b', table: 'u' },
  ],
})
same<(typeof defined)['routes'][0]['topic'], 'a/{site}/{rest#}'>(true)
new Pipeline(defined)
definePipeline({
  mqtt: { url: 'mqtt://localhost' },
  clickhouse: { url: 'http://localhost' },
  // @ts-expect-error: the topic has no such name
  routes: [{ topic: 'a/{site}', table: 't', columns: { place: { topic: 'side' } } }],
})

// Configurations that the compiler refuses.

// @ts-expect-error: two sources are none
const twoSources: ColumnSource = { topic: 'a', meta: 'topic' }
// @ts-expect-error: a topic has no default
const topicWithDefault: ColumnSource = { topic: 'a', default: 1 }
// @ts-expect-error: a condition is one of both
const twoConditions: Condition = { and: [{ path: 'a', eq: 1 }], path: 'b', eq: 1 }
// @ts-expect-error: dead letters go to one place
const twoPlaces: DeadLetterConfig = { table: 'a', dir: 'b' }
// @ts-expect-error: a password needs a user name
const passwordAlone: MqttConfig = { url: 'mqtt://localhost', password: 'a' }
// @ts-expect-error: a certificate needs its key
const certificateAlone: ClickHouseConfig = { url: 'http://localhost', tls: { cert: 'a' } }
void [twoSources, topicWithDefault, twoConditions, twoPlaces, passwordAlone, certificateAlone]


// @ts-expect-error: routes are missing
const noRoutes: PipelineConfig = { mqtt, clickhouse }
// @ts-expect-error: there is no such option
const unknownOption: PipelineConfig = { ...least, batch: { maxRow: 5 } }
// @ts-expect-error: there is no such version
const wrongVersion: MqttConfig = { url: 'mqtt://localhost', protocolVersion: 3 }
// @ts-expect-error: there is no such compression
const wrongCompression: ClickHouseConfig = { url: 'http://localhost', compression: 'gzip' }
// @ts-expect-error: there is no such meta
const wrongMeta: ColumnSource = { meta: 'sender' }
// @ts-expect-error: there is no such unit
const wrongUnit: ColumnSource = { path: 'ts', unit: 'minutes' }

// The pipeline.

async function use(): Promise<void> {
  const pipeline: Pipeline = new Pipeline(least)
  const emitter: EventEmitter = pipeline
  emitter.listenerCount('metrics')
  pipeline.addListener('warning', ({ code }) => same<typeof code, WarningCode>(true))
  pipeline.off('state', (state) => same<typeof state, Pipeline['state']>(true))
  pipeline.prependOnceListener('error', ({ path }) => same<typeof path, string | undefined>(true))
  for (const event of ['metrics', 'deadLetters', 'warning'] as const) pipeline.on(event, () => {})
  const [measured] = await once(pipeline, 'metrics')
  measured.rows
  // @ts-expect-error: there is no such event
  pipeline.on('rows', () => {})
  // @ts-expect-error: nor for off
  pipeline.off('row', () => {})
  // @ts-expect-error: a warning has no such code
  pipeline.on('warning', ({ code }) => code === 'CLICKHOUSE_RETRY')
  // @ts-expect-error: a metrics event brings one argument
  pipeline.on('metrics', (metrics, more) => more)
  same<Pipeline['state'], 'idle' | 'starting' | 'running' | 'paused' | 'stopping' | 'stopped'>(true)
  // @ts-expect-error: it is only read
  pipeline.state = 'running'

  pipeline
    .on('metrics', (metrics) => same<typeof metrics, Metrics>(true))
    .on('deadLetters', (letters) => same<typeof letters, DeadLetter[]>(true))
    .on('state', (state, previous) => {
      same<typeof state, Pipeline['state']>(true)
      same<typeof previous, Pipeline['state']>(true)
    })
    .on('warning', ({ code, message }) => {
      same<typeof code, WarningCode>(true)
      same<typeof message, string>(true)
    })
    .on('error', (error) => same<typeof error, MillraceError>(true))
  pipeline.once('metrics', (metrics) => metrics.uptimeMs)
  const listener = (metrics: Metrics) => metrics.uptimeMs
  pipeline.on('metrics', listener).off('metrics', listener)
  same<ReturnType<typeof pipeline.ref>, Pipeline>(true)
  pipeline.ref().unref()

  same<Awaited<ReturnType<typeof pipeline.start>>, void>(true)
  await pipeline.start()
  await pipeline.start({ signal: new AbortController().signal, wait: true })
  await pipeline.flush()
  pipeline.lookup('devices', new Map([['a', { tenant: 'acme', since: new Date(), quota: 5n }]]))
  pipeline.lookup('devices', { a: 1, b: { tenant: null, on: true } })
  // @ts-expect-error a list cannot be a value
  pipeline.lookup('devices', { a: { tenant: ['acme'] } })
  const added: number = await pipeline.addRoute({ topic: 'a', table: 't', transform: (batch) => batch.drop(0) })
  const updated: number = await pipeline.updateRoute({ topic: 'a', table: 't' })
  await pipeline.removeRoute('a')
  // @ts-expect-error a route has a table
  await pipeline.addRoute({ topic: 'a' })
  void [added, updated]
  pipeline.pause()
  pipeline.resume()
  const text: string = pipeline.prometheus()
  read(pipeline.metrics())
  const ends: (() => void)[] = [
    registerMetrics(pipeline, new Registry()),
    observeMetrics(pipeline, metrics.getMeter('fleet')),
  ]
  for (const end of ends) end()
  const exporter = new ConsoleMetricExporter()
  void new PeriodicExportingMetricReader({ exporter, metricProducers: [metricProducer(pipeline)] })
  const last: Metrics = await pipeline.stop()
  const lastInTime: Metrics = await pipeline.stop({ timeoutMs: 5_000 })
  const disposed: Promise<void> = pipeline[Symbol.asyncDispose]()
  await Promise.all([text, last, lastInTime, disposed])
  await using scoped = new Pipeline(most)
  await scoped.start()
}

function read(metrics: Metrics): void {
  same<keyof Metrics['messages'], 'received' | 'inserted' | 'deadLettered' | 'dropped' | 'skipped' | 'pending'>(true)
  const { received, inserted, deadLettered, dropped, skipped, pending } = metrics.messages
  const numbers: number[] = [
    metrics.uptimeMs,
    received,
    inserted,
    deadLettered,
    dropped,
    skipped,
    pending,
    metrics.rows.decoded,
    metrics.rows.inserted,
    metrics.bytes.received,
    metrics.bytes.inserted,
    metrics.rates.messagesPerSecond,
    metrics.rates.rowsPerSecond,
    metrics.inserts.succeeded,
    metrics.inserts.retried,
    metrics.inserts.failed,
    metrics.inserts.inFlight,
    metrics.mqtt.connected,
    metrics.mqtt.connections,
    metrics.mqtt.reconnects,
    metrics.mqtt.unacknowledged,
    metrics.memoryBytes,
    metrics.memoryMaxBytes,
    metrics.oldestPendingMs,
    metrics.lastInsertMs ?? 0,
    metrics.deadLetters.JSON_INVALID ?? 0,
  ]
  const state: Pipeline['state'] = metrics.state
  const latencies: Quantiles[] = [metrics.latencyMs.insert, metrics.latencyMs.endToEnd]
  for (const { count, p50, p90, p99, max } of latencies) numbers.push(count, p50, p90, p99, max)
  // @ts-expect-error: without a spool there is none
  numbers.push(metrics.spool.bytes)
  if (metrics.spool) numbers.push(metrics.spool.bytes, metrics.spool.segments, metrics.spool.oldestMs)
  for (const [name, { rows, inserts, deadLettered }] of Object.entries(metrics.tables)) {
    numbers.push(name.length, rows, inserts, deadLettered)
  }
  numbers.push(state.length)
}

function see(letter: DeadLetter): void {
  same<typeof letter.receivedAt, Date>(true)
  same<typeof letter.route, number>(true)
  same<typeof letter.topic, string>(true)
  same<typeof letter.topicBytes, Buffer | undefined>(true)
  const payload: Buffer = letter.payload
  same<typeof letter.code, DeadLetterCode>(true)
  same<typeof letter.message, string>(true)
  payload.toString()
}

async function replay(letters: DeadLetter[], later: AsyncIterable<DeadLetter>): Promise<ReplayReport> {
  const places: ReplaySource[] = [{ dir: 'a' }, { file: 'a' }, { table: 'a' }, { table: 'a', where: '1' }, letters, later]
  // @ts-expect-error: these are not dead letters
  places.push(['a'])
  const options: ReplayOptions = {
    signal: new AbortController().signal,
    onProgress: (report) => same<typeof report, ReplayReport>(true),
    onDeadLetters: (again) => again.forEach(see),
    onWarning: ({ code, message }) => `${code} ${message}`,
  }
  const report = await replayDeadLetters(least, places[0], options)
  const numbers: number[] = [report.read, report.inserted, report.deadLettered, report.malformed, report.rows]
  for (const { file, line, message } of report.malformedLetters) numbers.push(file?.length ?? 0, line, message.length)
  return replayDeadLetters(least, letters)
}

async function generate(payloads: Buffer[]): Promise<string[]> {
  const options: ProposalOptions = { table: 'a', topic: 'a/{b}' }
  // @ts-expect-error: a number is not a payload
  proposeTable([1])
  return [await describeTables(least), proposeTable(payloads, options), proposeTable(new Set(['{}', { a: 1 }]))]
}

async function check(): Promise<string[]> {
  const options: CheckOptions = { sample: 100, sampleTimeoutMs: 1_000, clientId: 'a' }
  // @ts-expect-error: not an option
  await checkPipeline(least, { samples: 1 })
  const { ok, findings, brokers, clickhouse, routes, sample } = await checkPipeline(least, options)
  same<typeof ok, boolean>(true)
  same<(typeof findings)[number]['level'], 'error' | 'warning' | 'note'>(true)
  const texts = findings.map(({ code, path, message, advice }) => `${code} ${path ?? ''} ${message} ${advice ?? ''}`)
  const limits: number[] = brokers.map(({ limits }) => limits?.maxQos ?? 2)
  const versions = clickhouse.map(({ version, tls }) => `${version ?? ''} ${tls?.certificate.validUntil ?? ''}`)
  const columns = routes.flatMap(({ columns }) => columns.map(({ name, source }) => `${name} ${source ?? ''}`))
  return [...texts, ...versions, ...columns, String(limits), String(sample?.reasons[0]?.count)]
}

function explain(error: unknown): string {
  if (!(error instanceof MillraceError)) return String(error)
  const asError: Error = error
  same<typeof error.code, ErrorCode | DeadLetterCode>(true)
  same<typeof error.path, string | undefined>(true)
  return `${error.code} ${error.path ?? ''} ${asError.message} ${String(error.cause)}`
}

const everything: [typeof Pipeline, typeof MillraceError] = [millrace.Pipeline, millrace.MillraceError]
export { check, everything, explain, generate, least, most, noRoutes, replay, see, sources, unknownOption, use }
export { wrongCompression, wrongMeta, wrongUnit, wrongVersion }

async function show(pipeline: Pipeline): Promise<void> {
  const options: HttpServerOptions = { host: '::1', port: 9090, hosts: ['fleet.example'] }
  const http = await serveHttp(pipeline, options)
  same<typeof http.url, string>(true)
  await http.close()
  // @ts-expect-error: a port is a number
  await serveHttp(pipeline, { port: '80' })
  const handle = httpHandler(pipeline)
  createServer((request, response) => {
    if (!handle(request, response)) response.end()
  })
  handle.close()
}

// Routes that gather, drop and divide rows.

const shaped: Route[] = [
  { topic: 'a/{device}/{property}', table: 't', format: 'text', pivot: { key: ['device'], name: 'property', windowMs: 1000, repeated: 'last' } },
  {
    topic: 'b/{device}',
    table: 't',
    dedupe: { by: 'event_id', windowMs: 60_000, maxKeys: 1000 },
    deadband: { column: 'celsius', delta: 0.5, by: ['device'], everyMs: 60_000, maxKeys: 1000 },
  },
  { topic: 'c/{plant}', table: 'telemetry_{plant}', tables: { allow: ['telemetry_*'], max: 10 } },
]
definePipeline<{ t: { device: string } }>({ mqtt: least.mqtt, clickhouse: least.clickhouse, routes: [{ topic: 'c/{plant}', table: 'telemetry_{plant}', tables: { allow: 'telemetry_*' } }] })
// @ts-expect-error a route needs a key
shaped.push({ topic: 'a', table: 't', pivot: { windowMs: 1000 } })
// @ts-expect-error there are two words
shaped.push({ topic: 'a', table: 't', pivot: { key: 'device', repeated: 'first' } })
// @ts-expect-error a deadband has a delta
shaped.push({ topic: 'a', table: 't', deadband: { column: 'celsius' } })
// @ts-expect-error the columns of the key are required
shaped.push({ topic: 'a', table: 't', dedupe: { windowMs: 1000 } })
// @ts-expect-error which tables is required
shaped.push({ topic: 'c/{plant}', table: 'telemetry_{plant}', tables: { max: 10 } })

const counters = (metrics: Metrics): number[] => [
  ...Object.values(metrics.pivot).flatMap(({ open, rows, complete }) => [open, rows, complete]),
  ...Object.values({ ...metrics.dedupe, ...metrics.deadband }).flatMap(({ dropped, keys, evicted }) => [dropped, keys, evicted]),
]
void counters
