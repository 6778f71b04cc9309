// npm run bench:60k: what a stream of 60,000 messages per second costs, with everything on one machine.
//
// Each message has a number, and ClickHouse counts which numbers it holds. The program fails when a message was lost
// or doubled, and when the service took 10 % of a core or more.

import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { findBun } from '../tools/servers/index.mjs'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { countRows, createTables, drain, startLoad, startService } from './lib/fleet.mjs'
import { count, markdown, mebibytes, milliseconds, percent } from './lib/format.mjs'
import { numberOptions } from './lib/options.mjs'
import { runMain } from './lib/scope.mjs'
import { ownBroker, ownClickHouse } from './lib/servers.mjs'
import { machine, machineCpuSeconds, Meter } from './lib/usage.mjs'

const CPU_LIMIT_PERCENT = 10

const HELP = `npm run bench:60k -- [options]

  --rate <n>      messages per second                      [60000]
  --seconds <n>   measured                                 [20]
  --warm-up <n>   seconds before that                      [5]
  --drivers <n>   how many drivers send their positions    [5000]
  --qos <0|1>                                              [0]
  --bun <0|1>     1 runs the service on Bun                [0]`

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    rate: { default: 60_000, min: 1, max: 10_000_000 },
    seconds: { default: 20, min: 1, max: 86_400 },
    'warm-up': { default: 5, min: 1, max: 3600 },
    drivers: { default: 5000, min: 4, max: 10_000_000 },
    qos: { default: 0, min: 0, max: 1 },
    bun: { default: 0, min: 0, max: 1 },
  })
  const { rate, seconds, 'warm-up': warmUp, drivers, qos } = options
  const runtime = options.bun ? findBun() : process.execPath
  if (!runtime) throw new Error('Bun is not installed: run npm ci')

  await buildAddon(scope)
  await buildClickHouseServer(scope)
  const loadProgram = await buildLoad(scope)

  const { clickhouse, version } = await ownClickHouse(scope)
  const { broker, name: brokerName, mqttVersion } = await ownBroker(scope)
  const database = await createTables(scope, clickhouse)
  const env = {
    MQTT_URL: broker.url,
    MQTT_VERSION: mqttVersion,
    MQTT_QOS: String(qos),
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_DATABASE: database,
  }
  const { service, idle } = await startService(scope, env, runtime)
  service.on('warning', ({ code, message }) => console.log(`warning: ${code}: ${message}`))
  const load = await startLoad(scope, loadProgram, {
    url: broker.url,
    rate,
    drivers,
    qos,
    // A second more, so that the stream still flows when the measuring ends.
    seconds: warmUp + seconds + 1,
  })

  console.log(`${count(rate)} messages per second: ${warmUp} s to warm up, ${seconds} s measured …\n`)
  const done = load.next('done', [service])
  load.writeLine()
  await Promise.race([sleep(warmUp * 1000), done])
  const before = service.latest.metrics
  const processes = [
    { name: `service (${options.bun ? 'Bun' : 'Node.js'})`, meter: new Meter(service.pid) },
    { name: 'the same, idle', meter: new Meter(idle.pid) },
    { name: brokerName, meter: new Meter(broker.pid) },
    { name: `ClickHouse ${version}`, meter: new Meter(clickhouse.pid) },
    { name: 'load generator', meter: new Meter(load.pid) },
  ]
  const started = { at: performance.now(), cpu: machineCpuSeconds() }
  await Promise.race([sleep(seconds * 1000), done])
  const measured = processes.map(({ name, meter }) => {
    const first = { resident: meter.residentBytes, anonymous: meter.anonymousBytes }
    const cpu = meter.cpuPercent()
    return { name, cpu, memory: meter.peakResidentBytes, first, last: { resident: meter.residentBytes, anonymous: meter.anonymousBytes } }
  })
  const all = (100_000 * (machineCpuSeconds() - started.cpu)) / (performance.now() - started.at)
  // Shown because others on the same cores make the caches cold and the figures worse.
  const others = all - measured.reduce((sum, { cpu }) => sum + (cpu ?? 0), 0)
  const after = service.latest.metrics
  const received = after.messages.received - before.messages.received
  const receivedRate = (1000 * received) / (after.uptimeMs - before.uptimeMs)
  const { sent, rate: sentRate } = await done
  const metrics = await drain(service, sent)

  const { rows, lost, doubled } = await countRows(clickhouse, database, sent)
  const [of, bare] = measured
  const flush = metrics.latencyMs.insert
  console.log(machine())
  console.log(`\n${markdown(
    ['process', 'CPU of one core', 'peak memory'],
    [
      ...measured.map(({ name, cpu, memory }) => [name, percent(cpu), memory ? mebibytes(memory) : '–']),
      ['everything else', percent(Math.max(0, others)), '–'],
    ],
  )}\n`)
  console.log(markdown(
    [`QoS ${qos}, ${count(drivers)} drivers`, ''],
    [
      ['messages per second, sent', count(sentRate)],
      ['messages per second, received', count(receivedRate)],
      ['sent', count(sent)],
      ['received by the service', count(metrics.messages.received)],
      ['rows in ClickHouse', count(rows)],
      ['lost', count(lost)],
      ['doubled', count(doubled)],
      ['CPU per message', `${count((of.cpu * 1e7) / receivedRate)} ns`],
      ['peak memory above the idle process', mebibytes(of.memory - bare.memory)],
      [`resident memory, at first and ${seconds} s later`, `${mebibytes(of.first.resident)}, ${mebibytes(of.last.resident)}`],
      // The rest of the growth is pages of the runtime's program, which are read on first use.
      ...(of.first.anonymous && of.last.anonymous
        ? [['of it not from files', `${mebibytes(of.first.anonymous)}, ${mebibytes(of.last.anonymous)}`]]
        : []),
      ['flush p50', `${milliseconds(flush.p50)} ms`],
      ['flush p99', `${milliseconds(flush.p99)} ms`],
    ],
  ))

  const failures = [
    lost && `${count(lost)} messages were lost`,
    doubled && `${count(doubled)} messages were doubled`,
    of.cpu >= CPU_LIMIT_PERCENT &&
      `the service took ${percent(of.cpu)} of a core, and ${CPU_LIMIT_PERCENT} % is the limit`,
    // Messages that the broker cannot forward wait in socket buffers, so both ends must show the rate.
    Math.min(sentRate, receivedRate) < 0.98 * rate &&
      `the machine passed ${count(Math.min(sentRate, receivedRate))} messages per second, not ${count(rate)}`,
  ].filter(Boolean)
  if (failures.length > 0) throw new Error(failures.join('; '))
})
