// npm run bench:scale: several processes, two ClickHouse servers, three ways to get rows to both.
//
// 1. By number of processes and by way: rows per second, CPU, and what each process holds.
// 2. Faults under load, for each way: a process is killed and started again, another is added, a server goes away and comes back.
//
// The program fails when a message that the broker acknowledged was lost, or doubled where the way promises otherwise: equal
// servers that do not replicate each other cannot.

import { setTimeout as sleep } from 'node:timers/promises'
import { restart, startCluster } from '../tools/servers/index.mjs'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { startLoad } from './lib/fleet.mjs'
import { count, markdown, mebibytes, percent } from './lib/format.mjs'
import { numberOptions } from './lib/options.mjs'
import { arrival, countAll, cpuOf, Fleet, makeTables, ScaleConfig, WAYS } from './lib/scale.mjs'
import { runMain } from './lib/scope.mjs'
import { ownBroker } from './lib/servers.mjs'
import { machine } from './lib/usage.mjs'

const HELP = `npm run bench:scale -- [options]

  --rate <n>       messages per second, at QoS 1               [20000]
  --seconds <n>    measured, for each number of processes      [8]
  --warm-up <n>    seconds before that                         [3]
  --most <1|2|4>   the largest number of processes             [4]
  --part <1|2>     only that one, 0: both                      [0]
  --drivers <n>    how many drivers send their positions       [5000]
  --build <0|1>    0 takes the addon as it is                  [1]
  --dev <0|1>      1 builds for development, to see it work    [0]`

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    rate: { default: 20_000, min: 1, max: 1_000_000 },
    seconds: { default: 8, min: 1, max: 3600 },
    'warm-up': { default: 3, min: 1, max: 3600 },
    most: { default: 4, min: 1, max: 4 },
    part: { default: 0, min: 0, max: 2 },
    drivers: { default: 5000, min: 4, max: 10_000_000 },
    build: { default: 1, min: 0, max: 1 },
    dev: { default: 0, min: 0, max: 1 },
  })
  const { rate, seconds, 'warm-up': warmUp, drivers, part } = options
  if (options.build) await buildAddon(scope, options.dev ? 'dev' : 'release')
  await buildClickHouseServer(scope)
  const loadProgram = await buildLoad(scope, options.dev ? 'dev' : 'quick')
  const servers = await startCluster(2)
  for (const server of servers) scope.own(server, 'remove')
  const failures = []
  console.log(machine())

  const ways = /** @type {(keyof typeof WAYS)[]} */ (Object.keys(WAYS))
  if (part !== 2) {
    const steps = []
    for (const way of ways) for (const processes of [1, 2, 4].filter((n) => n <= options.most)) steps.push(await steady(way, processes))
    console.log(`\n${markdown(
      [`${count(rate)} messages/s, QoS 1`, 'processes', 'rows/s', 'CPU millrace', 'CPU broker', 'CPU ClickHouse', 'buffers of one', 'spool of one', 'lost', 'doubled'],
      steps.map((step) => [
        WAYS[step.way].about,
        String(step.processes),
        count(step.rowsPerSecond),
        percent(step.cpu),
        percent(step.brokerCpu),
        percent(step.serverCpu),
        mebibytes(step.memoryBytes),
        mebibytes(step.spoolBytes),
        count(step.lost),
        count(step.doubled),
      ]),
    )}\n`)
  }
  if (part !== 1) {
    const runs = []
    for (const way of ways) runs.push(await faults(way))
    console.log(`\n${markdown(
      ['faults under load', ...runs.map(({ way }) => WAYS[way].about)],
      [
        ['published', ...runs.map(({ sent }) => count(sent))],
        ['acknowledged', ...runs.map(({ acknowledged }) => count(acknowledged))],
        ['rows', ...runs.map(({ rows }) => count(rows))],
        ['lost', ...runs.map(({ lost }) => count(lost))],
        ['doubled', ...runs.map(({ doubled }) => count(doubled))],
        ['buffers of one process, at most', ...runs.map(({ memoryBytes }) => mebibytes(memoryBytes))],
        ['spool of one process, at most', ...runs.map(({ spoolBytes }) => mebibytes(spoolBytes))],
        ['pending messages of one process, at most', ...runs.map(({ pending }) => count(pending))],
        ['first row of the killed process after', ...runs.map(({ backMs }) => `${count(backMs)} ms`)],
      ],
    )}\n`)
  }
  if (failures.length > 0) throw new Error(failures.join('; '))

  /** A broker, a configuration and processes, and a load that waits. */
  async function begin(way, processes, total) {
    await makeTables(servers)
    const { broker } = await ownBroker(scope)
    const config = new ScaleConfig({ broker: broker.url, servers, way })
    scope.defer(() => config.remove())
    const fleet = new Fleet(config.file, ['--processes', String(processes)])
    scope.defer(() => fleet.kill())
    await fleet.running(processes)
    const load = await startLoad(scope, loadProgram, { url: broker.url, rate, drivers, qos: 1, seconds: total })
    return { broker, config, fleet, load }
  }

  async function end(way, name, { broker, fleet, load }, done) {
    const { sent, acknowledged = sent } = await done
    const counted = await arrival(servers, sent)
    await fleet.stop()
    await load.stop()
    await broker.remove()
    const lost = Math.max(0, acknowledged - counted.distinct)
    const doubled = counted.rows - counted.distinct
    if (lost) failures.push(`${name}: ${count(lost)} messages were lost`)
    if (doubled && WAYS[way].isOnce) failures.push(`${name}: ${count(doubled)} messages were doubled`)
    const most = (field) => Math.max(...[...fleet.processes.values()].map(({ peak }) => peak[field]))
    return { sent, acknowledged, ...counted, lost, doubled, memoryBytes: most('memoryBytes'), spoolBytes: most('spoolBytes'), pending: most('pending') }
  }

  async function steady(way, processes) {
    console.log(`${WAYS[way].about}, ${processes} processes: ${warmUp} s to warm up, ${seconds} s measured …`)
    const run = await begin(way, processes, warmUp + seconds + 1)
    const done = run.load.next('done')
    run.load.writeLine()
    await sleep(warmUp * 1000)
    const cpus = [run.fleet.pids(), [run.broker.pid], servers.map(({ pid }) => pid)].map(cpuOf)
    const from = { at: performance.now(), ...(await countAll(servers)) }
    await sleep(seconds * 1000)
    const to = { at: performance.now(), ...(await countAll(servers)) }
    const [cpu, brokerCpu, serverCpu] = cpus.map((read) => read())
    const result = await end(way, `${way}, ${processes} processes`, run, done)
    return { way, processes, rowsPerSecond: ((to.rows - from.rows) * 1000) / (to.at - from.at), cpu, brokerCpu, serverCpu, ...result }
  }

  async function faults(way) {
    const step = Math.max(2, Math.round(seconds / 2))
    console.log(`${WAYS[way].about}, faults: a fault each ${step} s …`)
    const run = await begin(way, 3, 5 * step)
    const done = run.load.next('done')
    run.load.writeLine()
    await sleep(step * 1000)
    const killedAt = performance.now()
    run.fleet.signal(1, 'SIGKILL')
    await run.fleet.running(3)
    await run.fleet.running(1, 2)
    const backMs = performance.now() - killedAt
    await sleep(step * 1000)
    const fourth = new Fleet(run.config.file, ['--process', '4'])
    scope.defer(() => fourth.kill())
    await fourth.running(1)
    await sleep(step * 1000)
    await servers[1].stop()
    await sleep(step * 1000)
    await restart(servers[1])
    const result = await end(way, `${way}, faults`, run, done.then(async (its) => {
      await arrival(servers, its.sent)
      await fourth.stop()
      return its
    }))
    return { way, backMs, ...result }
  }
})
