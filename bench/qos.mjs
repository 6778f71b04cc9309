// npm run bench:qos: what acknowledgements cost. The same stream at QoS 0 and at QoS 1, one after the other in one run.
//
// The program fails when a message was lost, when the service took more than 1.5 times the CPU at QoS 1, or when it wrote
// to the broker more than once for 20 messages.

import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { findBun } from '../tools/servers/index.mjs'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { countRows, createTables, drain, startLoad, startService } from './lib/fleet.mjs'
import { count, markdown, milliseconds, percent } from './lib/format.mjs'
import { numberOptions } from './lib/options.mjs'
import { runMain } from './lib/scope.mjs'
import { ownBroker, ownClickHouse } from './lib/servers.mjs'
import { machine, machineCpuSeconds, Meter } from './lib/usage.mjs'

const CPU_LIMIT = 1.5
const MESSAGES_PER_WRITE = 20

const HELP = `npm run bench:qos -- [options]

  --rate <n>      messages per second                                  [60000]
  --seconds <n>   measured, for each QoS                               [20]
  --warm-up <n>   seconds before that                                  [5]
  --drivers <n>   how many drivers send their positions                [5000]
  --window <n>    unacknowledged messages the broker has in flight to
                  the service, 0: as many as there are                 [0]
  --bun <0|1>     1 runs the service on Bun                            [0]
  --build <0|1>   0 takes the addon as it is                           [1]`

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    rate: { default: 60_000, min: 1, max: 10_000_000 },
    seconds: { default: 20, min: 1, max: 86_400 },
    'warm-up': { default: 5, min: 1, max: 3600 },
    drivers: { default: 5000, min: 4, max: 10_000_000 },
    window: { default: 0, min: 0, max: 65_535 },
    bun: { default: 0, min: 0, max: 1 },
    build: { default: 1, min: 0, max: 1 },
  })
  const { rate, seconds, 'warm-up': warmUp, drivers, window } = options
  const runtime = options.bun ? findBun() : process.execPath
  if (!runtime) throw new Error('Bun is not installed: run npm install')

  if (options.build) await buildAddon(scope)
  await buildClickHouseServer(scope)
  const loadProgram = await buildLoad(scope)
  const { clickhouse } = await ownClickHouse(scope)
  const database = await createTables(scope, clickhouse)

  const runs = []
  for (const qos of [0, 1]) runs.push(await run(qos))

  console.log(machine())
  console.log(`\n${markdown(
    [`${count(drivers)} drivers, window ${window || 'open'}`, ...runs.map(({ qos }) => `QoS ${qos}`)],
    [
      ['CPU of the service, of one core', ...runs.map(({ cpu }) => percent(cpu))],
      ['CPU per message', ...runs.map(({ cpuPerMessage }) => `${count(cpuPerMessage)} ns`)],
      ['everything else on the machine', ...runs.map(({ others }) => percent(others))],
      ['messages per second, sent', ...runs.map(({ sentRate }) => count(sentRate))],
      ['messages per second, received', ...runs.map(({ receivedRate }) => count(receivedRate))],
      ['messages per write to the broker', ...runs.map(({ messagesPerWrite }) => count(messagesPerWrite))],
      ['lost', ...runs.map(({ lost }) => count(lost))],
      ['doubled', ...runs.map(({ doubled }) => count(doubled))],
      ['flush p50', ...runs.map(({ flush }) => `${milliseconds(flush.p50)} ms`)],
    ],
  )}\n`)
  const [never, once] = runs
  const ratio = once.cpuPerMessage / never.cpuPerMessage
  console.log(`QoS 1 takes ${ratio.toFixed(2)} times the CPU per message of QoS 0`)

  const failures = [
    ...runs.flatMap(({ qos, lost, doubled, sentRate, receivedRate }) => [
      lost && `QoS ${qos}: ${count(lost)} messages were lost`,
      doubled && `QoS ${qos}: ${count(doubled)} messages were doubled`,
      Math.min(sentRate, receivedRate) < 0.98 * rate &&
        `QoS ${qos}: the machine passed ${count(Math.min(sentRate, receivedRate))} messages per second, not ${count(rate)}`,
    ]),
    ratio > CPU_LIMIT && `QoS 1 took ${ratio.toFixed(2)} times the CPU, and ${CPU_LIMIT} is the limit`,
    once.messagesPerWrite < MESSAGES_PER_WRITE && `there was a write for each ${count(once.messagesPerWrite)} messages`,
  ].filter(Boolean)
  if (failures.length > 0) throw new Error(failures.join('; '))

  /** @param {number} qos */
  async function run(qos) {
    await clickhouse.command('TRUNCATE TABLE positions SYNC', { database })
    const { broker, mqttVersion } = await ownBroker(scope, { window })
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
    console.log(`QoS ${qos}, ${count(rate)} messages per second: ${warmUp} s to warm up, ${seconds} s measured …`)
    const done = load.next('done', [service])
    load.writeLine()
    await Promise.race([sleep(warmUp * 1000), done])
    const before = service.latest.metrics
    const meters = [service.pid, broker.pid, clickhouse.pid, load.pid].map((pid) => new Meter(pid))
    const started = { at: performance.now(), cpu: machineCpuSeconds() }
    await Promise.race([sleep(seconds * 1000), done])
    const [cpu, ...rest] = meters.map((meter) => meter.cpuPercent() ?? 0)
    const all = (100_000 * (machineCpuSeconds() - started.cpu)) / (performance.now() - started.at)
    const after = service.latest.metrics
    const received = after.messages.received - before.messages.received
    const receivedRate = (1000 * received) / (after.uptimeMs - before.uptimeMs)
    const { sent, rate: sentRate } = await done
    const metrics = await drain(service, sent)
    await idle.stop()
    const { lost, doubled } = await countRows(clickhouse, database, sent)
    await broker.remove()
    return {
      qos,
      cpu,
      cpuPerMessage: (cpu * 1e7) / receivedRate,
      others: Math.max(0, all - cpu - rest.reduce((sum, one) => sum + one, 0)),
      sentRate,
      receivedRate,
      messagesPerWrite: received / Math.max(1, after.mqtt.writes - before.mqtt.writes),
      lost,
      doubled,
      flush: metrics.latencyMs.insert,
    }
  }
})
