// The measuring instruments of the benchmarks, on known quantities.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import mqtt from 'mqtt'
import { chart } from '../../bench/lib/chart.mjs'
import { countRows, createTables, IDLE, startLoad } from '../../bench/lib/fleet.mjs'
import { measure } from '../../bench/lib/measure.mjs'
import { Program } from '../../bench/lib/program.mjs'
import { quantileBetween, readDurations } from '../../bench/lib/prometheus.mjs'
import { report } from '../../bench/lib/report.mjs'
import { Scope } from '../../bench/lib/scope.mjs'
import { SERVICES } from '../../bench/lib/services.mjs'
import { Meter } from '../../bench/lib/usage.mjs'
import { workspaceProgram } from '../../tools/servers/cargo.mjs'
import { externalBroker, externalClickHouse, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { onlyFull } from '../support/full.mjs'

const MEBIBYTE = 2 ** 20
const scope = new Scope()
after(() => scope.close())

/** Keeps its CPU time at a quarter of the time that passes, by its own account, on a thread that is not its first. */
const BURN = `
  const burn = () => {
    const cpu = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000 }
    const [began, used] = [performance.now(), cpu()]
    setInterval(() => { while (cpu() - used < (performance.now() - began) / 4); }, 10)
  }
  new (require('node:worker_threads').Worker)('(' + burn + ')()', { eval: true })
  const used = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1_000_000 }
  setInterval(() => console.log(JSON.stringify({ event: 'used', seconds: used() })), 100)
  console.log('{"event":"started"}')`

const HOLD = `globalThis.held = Buffer.alloc(100 * ${MEBIBYTE}, 1); ${IDLE}`

/** @param {string} code */
async function run(code) {
  const program = scope.own(new Program('a known process', process.execPath, ['-e', code]), 'stop')
  await program.next('started')
  return program
}

test('the CPU of a process that burns a quarter of a core is what it says itself', { timeout: 90_000 }, async () => {
  const program = await run(BURN)
  const seen = []
  // It gets less than a quarter where the cores are busy. Its report and the measurement are taken at
  // different instants, which matters less the longer the run.
  const condition = async () => {
    const first = await program.next('used')
    const [meter, from] = [new Meter(program.pid), performance.now()]
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    const last = await program.next('used')
    const percent = (100_000 * (last.seconds - first.seconds)) / (performance.now() - from)
    seen.push([meter.cpuPercent(), percent].map(Math.round))
    return percent > 5 && Math.abs(meter.cpuPercent() - percent) < 1.5
  }
  await waitFor(condition, { timeoutMs: 60_000, message: () => `CPU as it is reported: ${JSON.stringify(seen)}` })
})

test('a process that holds 100 MiB is seen to hold them above its bare runtime', { timeout: 60_000 }, async () => {
  const [holding, bare] = await Promise.all([run(HOLD), run(IDLE)])
  const above = new Meter(holding.pid).peakResidentBytes - new Meter(bare.pid).peakResidentBytes
  assert.ok(Math.abs(above / MEBIBYTE - 100) < 8, `${above / MEBIBYTE} MiB`)
})

test('lost and doubled messages do not hide each other', { timeout: 60_000 }, async () => {
  const tables = scope.own(new Scope(), 'close')
  const clickhouse = tables.own(await startClickHouse(), 'remove')
  const database = await createTables(tables, clickhouse)
  const insert = (rest) =>
    clickhouse.command(`INSERT INTO ${database}.positions (driver_id, seq) SELECT 'a', number FROM numbers(1000) ${rest}`)
  await insert('WHERE number % 100 != 99')
  await insert('LIMIT 10')
  assert.deepEqual(await countRows(clickhouse, database, 1000), { rows: 1000, lost: 10, doubled: 10 })
  await tables.close()
})

// These two need the load generator, which npm test does not build.
const ours = { skip: externalBroker || externalClickHouse ? 'it starts its own servers' : onlyFull, timeout: 180_000 }

test('a run of which one in a hundred is withheld lacks exactly these', ours, async () => {
  const step = await measure(scope, {
    service: SERVICES.millrace,
    firehose: false,
    rate: 1000,
    seconds: 1,
    warmUp: 1,
    eventLoop: 0,
    drivers: 100,
    connections: 4,
    qos: 0,
    batchRows: 500,
    programs: { load: workspaceProgram('load') },
    loadOptions: { withhold: 100 },
  })
  const withheld = Math.floor(step.sent / 100)
  assert.ok(withheld > 0)
  const { lost, doubled, rows } = step
  assert.deepEqual({ lost, doubled, rows }, { lost: withheld, doubled: 0, rows: step.sent - withheld })
  assert.ok(step.cpuPercent > 0 && step.peakResidentBytes > step.emptyResidentBytes)
  assert.ok(step.emptyResidentBytes > step.bareResidentBytes)
  assert.ok(step.flush.p50 > 0 && step.flush.p99 >= step.flush.p50)
})

test('the firehose gives a subscriber every number once, in both versions', { timeout: 120_000, skip: onlyFull }, async () => {
  const program = workspaceProgram('load')
  for (const protocolVersion of /** @type {const} */ ([4, 5])) {
    const load = await startLoad(scope, program, { firehose: '127.0.0.1:0', messages: 20_000, rate: 0 })
    const subscribed = load.next('subscribed')
    const url = `mqtt://127.0.0.1:${load.latest.ready.port}`
    const client = await mqtt.connectAsync(url, { protocolVersion, keepalive: 1 })
    const numbers = new Set()
    let received = 0
    client.on('message', (topic, payload) => {
      const { driver_id, seq } = JSON.parse(String(payload))
      assert.equal(topic, `drivers/${driver_id}/position`)
      numbers.add(seq)
      received += 1
    })
    await client.subscribeAsync('drivers/+/position')
    await subscribed
    load.writeLine()
    await waitFor(() => received === 20_000, { timeoutMs: 30_000, message: () => `20,000 messages (${received})` })
    assert.equal(numbers.size, 20_000)
    await client.endAsync()
    await load.ended
  }
})

test('quantiles are those of the interval, and lie in the right bucket', () => {
  const text = (...counts) =>
    ['0.01', '0.1', '+Inf']
      .map((le, at) => `flush_seconds_bucket{table="a {b}",le="${le}"} ${counts[at]}\nflush_seconds_count 7`)
      .join('\n')
  const read = (...counts) => /** @type {any} */ (readDurations(text(...counts), ['absent', 'flush_seconds']))
  const [before, after] = [read(1000, 1000, 1000), read(1090, 1100, 1100)]
  assert.equal(quantileBetween(before, after, 0.5), (0.01 * 50) / 90)
  assert.equal(quantileBetween(before, after, 0.9), 0.01)
  assert.ok(Math.abs(quantileBetween(before, after, 0.99) - 0.091) < 1e-9)
  assert.equal(quantileBetween(before, before, 0.5), undefined)
  assert.equal(quantileBetween(before, read(1000, 1000, 1001), 0.5), undefined)
  const summary = 'flush_seconds{quantile="0.5"} 0.25\nflush_seconds{quantile="0.99"} 1e-1'
  assert.deepEqual(readDurations(summary, ['flush_seconds']), { p50: 0.25, p99: 0.1 })
})

test('a result becomes tables and a chart', () => {
  const process = { cpuPercent: 12.5, peakResidentBytes: 64 * MEBIBYTE }
  const step = {
    service: 'rust',
    title: 'Rust',
    rate: 1000,
    source: 'broker',
    qos: 0,
    clickhouse: '',
    seconds: 1,
    sent: 1000,
    sentPerSecond: 1000,
    rowsPerSecond: 1000,
    limit: /** @type {const} */ (''),
    cpuPercent: 12.5,
    nanosecondsPerMessage: 125_000,
    peakResidentBytes: 64 * MEBIBYTE,
    peakAnonymousBytes: 64 * MEBIBYTE,
    residentBytes: { atFirst: 60 * MEBIBYTE, atLast: 62 * MEBIBYTE },
    bareResidentBytes: undefined,
    emptyResidentBytes: undefined,
    aboveBareBytes: 64 * MEBIBYTE,
    flush: { p50: 1.5, p99: undefined, from: '' },
    rows: 1000,
    lost: 0,
    doubled: 0,
    processes: { service: process, broker: process, clickhouse: process, load: process },
    othersCpuPercent: 0,
    eventLoop: undefined,
  }
  const text = report({
    date: 'today',
    machine: { broker: 'mosquitto' },
    options: {},
    common: {},
    services: {},
    skipped: { Vector: 'vector is not on the PATH' },
    failed: { 'Rust, 10,000 msg/s': 'Rust ended with exit code 1' },
    steps: [step, { ...step, source: 'firehose', rate: 0 }],
  })
  for (const part of ['Through mosquitto', 'From the firehose', '12.5 %', '64.0 MiB', '125,000', 'vector is not', 'exit code 1']) {
    assert.ok(text.includes(part), `${part} in:\n${text}`)
  }
  const svg = chart([step], 'a machine')
  assert.match(svg, /^<svg [^]*Rust[^]*<\/svg>$/)
})
