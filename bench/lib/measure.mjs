// One measurement: starts everything fresh, for one service at one rate.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'
import { freePort, waitFor } from '../../tools/servers/index.mjs'
import { countRows, createTables, IDLE, startLoad } from './fleet.mjs'
import { Program } from './program.mjs'
import { quantileBetween, readDurations } from './prometheus.mjs'
import { Scope } from './scope.mjs'
import { ownBroker, ownClickHouse } from './servers.mjs'
import { commandOf, EMPTY, FLUSH_BUCKETS, runtimeOf } from './services.mjs'
import { machineCpuSeconds, Meter } from './usage.mjs'

/** A rate counts as kept when it is missed by no more than this. */
const KEPT = 0.98
/** The CPU of a saturated single thread, such as mosquitto's. */
const SATURATED_PERCENT = 90
/** How long no row may come before what is missing counts as lost: several times the age at which a batch is due. */
const SILENCE_MS = 5000
/** Longer than the age at which a batch is due: then none comes. */
const NO_BATCH_MS = 2000
/** How long what a service has not kept up with may take to arrive. */
const DRAIN_MS = 60_000
/** How often memory is looked at that the system keeps no peak of. */
const SAMPLE_MS = 200
/** Requests per second to the endpoint while the event loop is watched. */
const REQUEST_RATE = 100

/**
 * @typedef {object} Run
 * @property {import('./services.mjs').Service} service
 * @property {boolean} firehose in the place of a broker
 * @property {number} rate messages per second; 0 is as fast as they are taken
 * @property {number} seconds measured
 * @property {number} warmUp seconds before
 * @property {number} eventLoop seconds afterwards, for what costs CPU of its own; 0 leaves it out
 * @property {number} drivers
 * @property {number} connections of the load generator
 * @property {number} qos
 * @property {number} batchRows
 * @property {{ load: string, rust?: string }} programs
 * @property {Record<string, number>} [loadOptions] further ones
 * @property {(clickhouse: import('../../tools/servers/clickhouse.mjs').ClickHouse, database: string) => Promise<void>} [prepare]
 *   what the service needs beside the fleet's tables
 */

/**
 * @param {import('./scope.mjs').Scope} outer
 * @param {Run} run
 * @param {(text: string) => void} [progress] is called with each step
 */
export async function measure(outer, run, progress = () => {}) {
  const scope = outer.own(new Scope(), 'close')
  try {
    return await measureIn(scope, run, progress)
  } finally {
    await scope.close()
  }
}

/**
 * @param {Scope} scope
 * @param {Run} run
 * @param {(text: string) => void} progress
 */
async function measureIn(scope, run, progress) {
  const { rate, seconds, warmUp, firehose } = run
  progress('starting')
  // On by default since 26.3, it would make every INSERT of a service that does not say otherwise wait.
  const { clickhouse, version } = await ownClickHouse(scope, { async_insert: 0 })
  const database = await createTables(scope, clickhouse)
  await run.prepare?.(clickhouse, database)
  const hasEventLoop = run.service.runtime !== undefined && run.eventLoop > 0

  const { broker, load, service, idle, empty } = await start(scope, run, clickhouse, database, {
    rate,
    drivers: run.drivers,
    // More, so that the stream still flows when the measuring ends: it waits for batches.
    seconds: warmUp + seconds + (hasEventLoop ? run.eventLoop : 0) + (2 * NO_BATCH_MS) / 1000,
    ...(firehose ? {} : { qos: run.qos, connections: run.connections }),
    ...run.loadOptions,
  })

  let stage = 'warming up'
  load.on('progress', ({ rate: now }) => progress(`${stage}, ${Math.round(now)} msg/s`))
  progress(stage)
  const done = load.next('done', [service])
  // Awaited further down; until then a failure must not end the program.
  done.catch(() => {})
  load.writeLine()
  await Promise.race([sleep(warmUp * 1000), done])

  stage = 'measuring'
  const rowsNow = async () => (await clickhouse.query(`SELECT count() AS rows FROM ${database}.positions`))[0].rows
  const pids = { service: service.pid, broker: broker.pid, clickhouse: clickhouse.pid, load: load.pid }
  const durations = async () => {
    // Asked as often, it has taken what an endpoint takes.
    const [text] = await Promise.all([get(service, '/metrics'), empty && get(empty, '/metrics')])
    return readDurations(text, run.service.flush)
  }
  const interval = await measureInterval(pids, rowsNow, durations, () => Promise.race([sleep(seconds * 1000), done]))

  stage = 'event loop'
  const flowing = hasEventLoop ? await eventLoop(service, run.eventLoop, progress) : undefined

  const { sent, rate: sentRate } = await done
  progress('draining')
  const isDrained = await drained(rowsNow, sent)
  // Last of all: what an endpoint under load takes is none of the job's memory.
  const atRest = hasEventLoop ? await eventLoop(service, run.eventLoop, progress, 'event loop at rest') : undefined
  await service.stop(DRAIN_MS)
  const { rows, lost, doubled } = await countRows(clickhouse, database, sent)
  const [bare, emptyPeak] = [idle, empty].map((program) => program && new Meter(program.pid).peakResidentBytes)
  const { peakResidentBytes } = interval
  return {
    rate,
    source: firehose ? 'firehose' : 'broker',
    qos: firehose ? 0 : run.qos,
    clickhouse: version,
    sent,
    sentPerSecond: sentRate,
    limit: limitOf(run, sentRate, interval),
    ...interval,
    bareResidentBytes: bare,
    emptyResidentBytes: emptyPeak,
    aboveBareBytes: peakResidentBytes - (bare ?? 0),
    rows,
    // If a service is still inserting, the figure is unknown.
    lost: isDrained ? lost : undefined,
    doubled,
    eventLoop: flowing && { atRest, flowing },
  }
}

/**
 * From a moment when rows come in to another one, about as long after it as `pass` takes.
 *
 * @param {{ service: number, broker?: number, clickhouse?: number, load: number }} pids
 * @param {() => Promise<number>} rowsNow
 * @param {() => Promise<ReturnType<typeof readDurations>>} durations of the flushes
 * @param {() => Promise<unknown>} pass
 */
async function measureInterval(pids, rowsNow, durations, pass) {
  const begun = await nextRows(rowsNow)
  const machineBefore = machineCpuSeconds()
  const meters = Object.entries(pids).map(([name, pid]) => ({ name, meter: new Meter(pid) }))
  const [{ meter: service }] = meters
  const atFirst = service.residentBytes
  let peakAnonymousBytes = service.anonymousBytes
  const sampling = setInterval(() => {
    service.sample()
    if (service.anonymousBytes !== undefined) peakAnonymousBytes = Math.max(peakAnonymousBytes ?? 0, service.anonymousBytes)
  }, SAMPLE_MS)
  const before = await durations()
  try {
    await pass()
  } finally {
    clearInterval(sampling)
  }
  const ended = await nextRows(rowsNow)
  /** @type {Record<string, { cpuPercent?: number, peakResidentBytes: number }>} */
  const processes = {}
  for (const { name, meter } of meters) {
    processes[name] = { cpuPercent: meter.cpuPercent(), peakResidentBytes: meter.peakResidentBytes }
  }
  const seconds = (ended.at - begun.at) / 1000
  const used = (100 * (machineCpuSeconds() - machineBefore)) / seconds
  const theirs = Object.values(processes).reduce((sum, { cpuPercent = 0 }) => sum + cpuPercent, 0)
  const rowsPerSecond = (ended.rows - begun.rows) / seconds
  const { cpuPercent, peakResidentBytes } = processes.service
  return {
    seconds,
    rowsPerSecond,
    cpuPercent,
    nanosecondsPerMessage: cpuPercent === undefined ? undefined : (cpuPercent * 1e7) / rowsPerSecond,
    peakResidentBytes,
    // Without the pages of files, such as those of the runtime's executable. Only while measuring.
    peakAnonymousBytes,
    // Whether it grows: the peak does not show it.
    residentBytes: { atFirst, atLast: service.residentBytes },
    flush: quantiles(before, await durations()),
    processes,
    othersCpuPercent: Math.max(0, used - theirs),
  }
}

/**
 * Starts broker or firehose, the service, and beside it its bare runtime and the same service without its job.
 *
 * @param {Scope} scope
 * @param {Run} run
 * @param {import('../../tools/servers/clickhouse.mjs').ClickHouse} clickhouse
 * @param {string} database
 * @param {Record<string, number>} options of the load generator
 */
async function start(scope, run, clickhouse, database, options) {
  if (run.firehose) {
    const load = await startLoad(scope, run.programs.load, { firehose: '127.0.0.1:0', ...options })
    const broker = { url: `mqtt://127.0.0.1:${load.latest.ready.port}`, pid: undefined }
    const subscribed = load.next('subscribed')
    // If the service does not start, that error is reported.
    subscribed.catch(() => {})
    const own = await startService(scope, run, { broker, mqttVersion: '5' }, clickhouse, database)
    await Promise.race([subscribed, own.service.failure()])
    return { broker, load, ...own }
  }
  const { broker, mqttVersion } = await ownBroker(scope)
  const own = await startService(scope, run, { broker, mqttVersion }, clickhouse, database)
  if (!tellsItsStart(run.service)) {
    const subscribed = { timeoutMs: 30_000, message: 'a subscription in the log of the broker' }
    await Promise.race([waitFor(() => broker.log.includes('drivers/+/position'), subscribed), own.service.failure()])
  }
  const load = await startLoad(scope, run.programs.load, { url: broker.url, ...options })
  return { broker, load, ...own }
}

/**
 * @param {Scope} scope
 * @param {Run} run
 * @param {{ broker: { url: string, username?: string, password?: string }, mqttVersion: string }} from
 * @param {import('../../tools/servers/clickhouse.mjs').ClickHouse} clickhouse
 * @param {string} database
 */
async function startService(scope, { service: kind, programs, qos, batchRows, firehose }, from, clickhouse, database) {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'))
  scope.defer(() => rmSync(directory, { recursive: true, force: true }))
  const { command, args } = commandOf(kind, programs)
  const url = new URL(from.broker.url)
  const port = kind.runtime ? undefined : await freePort()
  const env = {
    // As services are run: libraries leave out what helps while developing.
    NODE_ENV: 'production',
    MQTT_URL: url.href,
    MQTT_HOST: url.hostname,
    MQTT_PORT: url.port,
    MQTT_VERSION: from.mqttVersion,
    MQTT_QOS: String(firehose ? 0 : qos),
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_USER: clickhouse.username ?? 'default',
    CLICKHOUSE_PASSWORD: clickhouse.password ?? '',
    CLICKHOUSE_DATABASE: database,
    BATCH_ROWS: String(batchRows),
    FLUSH_BUCKETS: FLUSH_BUCKETS.join(','),
    METRICS_PORT: String(port),
    VECTOR_DATA_DIR: directory,
    ...kind.env,
    ...(kind.spool && { SPOOL_DIR: join(directory, 'spool') }),
  }
  const service = scope.own(new Program(kind.title, command, args, env), 'stop')
  const beside = (title, args) => kind.runtime && scope.own(new Program(title, runtimeOf(kind), args), 'stop')
  const idle = beside('the idle process', ['-e', IDLE])
  const empty = beside('the empty service', [EMPTY])
  if (tellsItsStart(kind)) await service.next('started')
  else {
    const serving = { timeoutMs: 30_000, message: `${kind.title} serving metrics` }
    await waitFor(() => fetch(`http://127.0.0.1:${port}/metrics`), serving)
    service.latest.started = { port }
  }
  await Promise.all([idle, empty].map((program) => program && (program.latest.started ?? program.next('started'))))
  return { service, idle, empty }
}

/**
 * Ours do, with the port of their endpoint, once they have subscribed.
 *
 * @param {import('./services.mjs').Service} service
 */
const tellsItsStart = ({ script, needs }) => Boolean(script ?? needs)

/**
 * @param {Program} service
 * @param {string} path
 */
async function get({ latest }, path) {
  const response = await fetch(`http://127.0.0.1:${latest.started.port}${path}`, { signal: AbortSignal.timeout(30_000) })
  return response.text()
}

/**
 * The delay of a service's event loop, and the latency of an endpoint in the same process, in milliseconds.
 *
 * @param {Program} service
 * @param {number} seconds
 * @param {(text: string) => void} progress
 * @param {string} [stage]
 */
async function eventLoop(service, seconds, progress, stage) {
  if (stage) progress(stage)
  const { port } = service.latest.started
  await get(service, '/event-loop/start')
  const { latency, errors, timeouts } = await autocannon({
    url: `http://127.0.0.1:${port}/ping`,
    duration: seconds,
    connections: 2,
    overallRate: REQUEST_RATE,
  })
  const delayMs = JSON.parse(await get(service, '/event-loop/stop'))
  return { delayMs, httpMs: { p50: latency.p50, p99: latency.p99, max: latency.max }, httpErrors: errors + timeouts }
}

/**
 * Waits until rows come in, as they do by the batch: an interval between two such moments holds full
 * batches.
 *
 * @param {() => Promise<number>} rowsNow
 * @returns {Promise<{ at: number, rows: number }>} in milliseconds
 */
async function nextRows(rowsNow) {
  const before = await rowsNow()
  const deadline = performance.now() + NO_BATCH_MS
  for (;;) {
    const now = { rows: await rowsNow(), at: performance.now() }
    if (now.rows !== before || now.at > deadline) return now
    await sleep(10)
  }
}

/**
 * Waits until as many rows have come as were sent. Rows that are lost never come: then nothing new for a while is the
 * end as well.
 *
 * @param {() => Promise<number>} rowsNow
 * @param {number} sent
 * @returns {Promise<boolean>} whether it came to an end in time
 */
async function drained(rowsNow, sent) {
  const begun = performance.now()
  let [rows, changed] = [-1, begun]
  while (performance.now() - begun < DRAIN_MS) {
    const now = await rowsNow()
    if (now >= sent) return true
    if (now !== rows) [rows, changed] = [now, performance.now()]
    else if (performance.now() - changed > SILENCE_MS) return true
    await sleep(100)
  }
  return false
}

/**
 * The reason that a step missed its rate. The broker holds its publishers back by not reading from
 * them, so unsent messages are its doing; messages that it took and the service did not insert may lie
 * at either.
 *
 * @param {Run} run
 * @param {number} sentRate
 * @param {Awaited<ReturnType<typeof measureInterval>>} interval
 * @returns {'' | 'broker' | 'service'}
 */
function limitOf({ rate, firehose }, sentRate, { rowsPerSecond, processes }) {
  // Flat out there is no rate to miss.
  if (rate === 0 || Math.min(sentRate, rowsPerSecond) >= KEPT * rate) return ''
  if (firehose) return 'service'
  return sentRate < KEPT * rate || processes.broker.cpuPercent >= SATURATED_PERCENT ? 'broker' : 'service'
}

/**
 * In milliseconds. A service without a histogram has reported its quantiles since it began, the warm-up
 * included.
 *
 * @param {ReturnType<typeof readDurations>} before
 * @param {ReturnType<typeof readDurations>} after
 */
function quantiles(before, after) {
  if (!after) return undefined
  if (!('buckets' in after)) return { p50: after.p50 * 1000, p99: after.p99 * 1000, from: 'quantiles since the start' }
  const earlier = before && 'buckets' in before ? before : { buckets: [] }
  const ms = (q) => {
    const value = quantileBetween(earlier, after, q)
    return value === undefined ? undefined : value * 1000
  }
  return { p50: ms(0.5), p99: ms(0.99), from: 'buckets of the interval', limits: after.buckets.map(([limit]) => limit) }
}
