// npm run bench:transform: what a transform costs, beside the same pipeline without one and beside mqtt.js with the same logic for
// each message.
//
// Each service runs at the rate, and those with millrace also flat out from the firehose, in Node.js and in Bun
// (lib/measure.mjs). The program fails where a limit of the table is not kept, or a message is lost or doubled.

import { findBun } from '../tools/servers/index.mjs'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { count, markdown, mebibytes, percent } from './lib/format.mjs'
import { measure } from './lib/measure.mjs'
import { numberOptions } from './lib/options.mjs'
import { runMain } from './lib/scope.mjs'
import { machine } from './lib/usage.mjs'

/** Limits on the cost of a transform, compared within one runtime. */
const LIMITS = {
  cpuBesideNone: 1.25,
  cpuBesideMqttJs: 1 / 8,
  rowsPerSecondBesideNone: 0.6,
  delayMs: 2,
  memoryBytes: 4 * 2 ** 20,
  rowViews: 3,
  rowsPerSecondWithTap: 0.95,
}

const HELP = `npm run bench:transform -- [options]

  --rate <n>      messages per second                      [60000]
  --seconds <n>   measured                                 [20]
  --warm-up <n>   seconds before that                      [5]
  --drivers <n>   how many drivers send their positions    [5000]
  --rounds <n>    how often each is measured, in turns     [1]
  --bun <0|1>     0 leaves Bun out                         [1]
  --quick <0|1>   1 links the addon without LTO            [0]
  --debug <0|1>   1 measures the debug build: does it work [0]`

const MILLRACE = { script: 'millrace.mjs', flush: ['millrace_insert_duration_seconds'] }

/** The services, in the order in which they are measured. */
const KINDS = {
  none: { title: 'without', ...MILLRACE, env: { TRANSFORM: '' } },
  columns: { title: 'columns', ...MILLRACE, env: { TRANSFORM: 'columns' } },
  rows: { title: 'row views', ...MILLRACE, env: { TRANSFORM: 'rows' } },
  tap: { title: 'without, and a tap', ...MILLRACE, env: { TRANSFORM: '', TAP_MS: '100' } },
  mqttjs: { title: 'mqtt.js', script: 'javascript.mjs', flush: ['flush_seconds'], env: { TRANSFORM: 'message' } },
}

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    rate: { default: 60_000, min: 1, max: 10_000_000 },
    seconds: { default: 20, min: 1, max: 86_400 },
    'warm-up': { default: 5, min: 1, max: 3600 },
    drivers: { default: 5000, min: 4, max: 10_000_000 },
    rounds: { default: 1, min: 1, max: 100 },
    bun: { default: 1, min: 0, max: 1 },
    quick: { default: 0, min: 0, max: 1 },
    debug: { default: 0, min: 0, max: 1 },
  })
  if (options.bun && !findBun()) throw new Error('Bun is not installed: run npm ci')
  await buildAddon(scope, options.debug ? 'dev' : options.quick ? 'quick' : 'release')
  await buildClickHouseServer(scope)
  const load = await buildLoad(scope, options.debug ? 'dev' : 'quick')

  const failures = []
  for (const runtime of /** @type {('node' | 'bun')[]} */ (options.bun ? ['node', 'bun'] : ['node'])) {
    const name = runtime === 'bun' ? 'Bun' : 'Node.js'
    /** @type {Record<string, any>} */
    const at = {}
    /** @type {Record<string, any>} */
    const flatOut = {}
    const turns = Array.from({ length: options.rounds }, () => Object.entries(KINDS)).flat()
    for (const [kind, { title, ...service }] of turns) {
      const isTransforming = service.env.TRANSFORM !== ''
      for (const firehose of kind === 'mqttjs' ? [false] : [false, true]) {
        const label = `${name}, ${title}${firehose ? ', flat out' : ''}`
        const step = await measure(scope, {
          service: { ...service, title: label, runtime, configuration: {} },
          firehose,
          rate: firehose ? 0 : options.rate,
          seconds: options.seconds,
          warmUp: options['warm-up'],
          eventLoop: firehose ? 0 : 5,
          drivers: options.drivers,
          connections: 4,
          qos: 0,
          batchRows: 5000,
          programs: { load },
          prepare: (clickhouse, database) => prepare(clickhouse, database, isTransforming),
        })
        const steps = firehose ? flatOut : at
        steps[kind] = best(steps[kind], step)
        // Every hundredth message is dropped.
        const dropped = isTransforming ? Math.ceil(step.sent / 100) : 0
        console.log(`${label}: ${count(step.rowsPerSecond)} rows/s, ${percent(step.cpuPercent)} of a core`)
        // Flat out the load ends while messages lie in sockets; at a rate all of them arrive.
        if (!firehose && (step.lost !== dropped || step.doubled > 0)) {
          failures.push(`${label}: ${count((step.lost ?? Number.NaN) - dropped)} lost, ${count(step.doubled)} doubled`)
        }
        if (!firehose && kind !== 'mqttjs' && step.limit) failures.push(`${label}: the ${step.limit} did not keep up: compare nothing`)
      }
    }
    console.log(`\n${name}, ${machine()}, ${count(options.rate)} messages per second\n`)
    console.log(`${table(at, flatOut)}\n`)
    failures.push(...exceeded(name, at, flatOut))
  }
  if (failures.length > 0) throw new Error(failures.join('; '))
})

/** The numbers of messages as 32 bits, the columns that the transform fills, and the table of what it emits. */
async function prepare(clickhouse, database, isTransforming) {
  await clickhouse.command('ALTER TABLE positions MODIFY COLUMN seq UInt32', { database })
  if (!isTransforming) return
  await clickhouse.command('ALTER TABLE positions ADD COLUMN speed_kmh Float32, ADD COLUMN cell Int32', { database })
  await clickhouse.command(
    `CREATE TABLE alerts (driver_id String, speed_kmh Float32, ts DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY ts
      SETTINGS non_replicated_deduplication_window = 1000`,
    { database },
  )
}

/**
 * Selects the one of two rounds that other load on the machine disturbed less.
 *
 * @param {any} before
 * @param {any} step
 */
function best(before, step) {
  if (before === undefined || (before.limit && !step.limit)) return step
  if (step.limit && !before.limit) return before
  return step.nanosecondsPerMessage < before.nanosecondsPerMessage ? step : before
}

function table(at, flatOut) {
  const kinds = Object.keys(KINDS)
  const of = (kind, steps, text) => (steps[kind] ? text(steps[kind]) : '–')
  const row = (title, steps, text) => [title, ...kinds.map((kind) => of(kind, steps, text))]
  return markdown(
    ['', ...kinds.map((kind) => KINDS[kind].title)],
    [
      row('rows per second', at, (step) => count(step.rowsPerSecond)),
      row('CPU of one core', at, ({ cpuPercent }) => percent(cpuPercent)),
      row('CPU per message', at, ({ nanosecondsPerMessage }) => `${count(nanosecondsPerMessage)} ns`),
      row('event loop delay p99, above rest', at, (step) => `${delayMs(step).toFixed(1)} ms`),
      row('peak memory, resident', at, ({ peakResidentBytes }) => mebibytes(peakResidentBytes)),
      row('of which not from files', at, ({ peakAnonymousBytes }) => mebibytes(peakAnonymousBytes)),
      row('everything else used', at, ({ othersCpuPercent }) => percent(othersCpuPercent)),
      row('rows per second, flat out', flatOut, (step) => count(step.rowsPerSecond)),
    ],
  )
}

/** p99 of the event loop's delay while messages flow, above that at rest. */
function delayMs({ eventLoop: { flowing, atRest } }) {
  return flowing.delayMs.p99 - atRest.delayMs.p99
}

/**
 * The memory of a transform alone. Pages of the runtime's executable that its compiler is in become resident with it, but belong to
 * the file, and to all its processes.
 */
function memoryAbove({ columns, none }) {
  const of = ({ peakAnonymousBytes, peakResidentBytes }) => peakAnonymousBytes ?? peakResidentBytes
  return of(columns) - of(none)
}

/** The limits that were not kept. */
function exceeded(name, at, flatOut) {
  const cpu = (kind) => at[kind].nanosecondsPerMessage
  /** @type {[string, number, number][]} */
  const figures = [
    ['CPU beside no transform', cpu('columns') / cpu('none'), LIMITS.cpuBesideNone],
    ['CPU beside mqtt.js', cpu('columns') / cpu('mqttjs'), LIMITS.cpuBesideMqttJs],
    ['rows per second flat out, without beside with', flatOut.none.rowsPerSecond / flatOut.columns.rowsPerSecond, 1 / LIMITS.rowsPerSecondBesideNone],
    ['event loop delay above rest, ms', delayMs(at.columns), LIMITS.delayMs],
    ['memory above no transform, MiB', memoryAbove(at) / 2 ** 20, LIMITS.memoryBytes / 2 ** 20],
    ['rows per second flat out, without beside with a tap', flatOut.none.rowsPerSecond / flatOut.tap.rowsPerSecond, 1 / LIMITS.rowsPerSecondWithTap],
    // Ratios of the cost of a transform, above none.
    ['row views beside columns', (cpu('rows') - cpu('none')) / Math.max(1, cpu('columns') - cpu('none')), LIMITS.rowViews],
  ]
  console.log(markdown(
    [name, 'measured', 'at most'],
    figures.map(([title, value, limit]) => [title, value.toFixed(2), limit.toFixed(2)]),
  ))
  return figures.filter(([, value, limit]) => !(value <= limit)).map(([title, value, limit]) => `${name}: ${title}: ${value.toFixed(2)}, and ${limit.toFixed(2)} is the limit`)
}
