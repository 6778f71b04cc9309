// npm run bench:metrics: what metrics cost, thread by thread, by the kernel's account of each. Linux.
//
// The same stream once without metrics (no event, no reader) and once with them (the event and a text
// for Prometheus every second), in turn. The threads on the way of a message are to notice nothing.
//
// At rates around 15,000 messages per second a connection sometimes sleeps between reads and sometimes
// does not, which makes far greater a difference than metrics could.

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { createTables, startLoad } from './lib/fleet.mjs'
import { count, markdown, percent } from './lib/format.mjs'
import { numberOptions } from './lib/options.mjs'
import { runMain } from './lib/scope.mjs'
import { ownBroker, ownClickHouse } from './lib/servers.mjs'
import { machine } from './lib/usage.mjs'

const HELP = `npm run bench:metrics -- [options]

  --rate <n>      messages per second                      [60000]
  --seconds <n>   measured, of each turn                   [20]
  --warm-up <n>   seconds before that                      [5]
  --turns <n>     with metrics, and as many without        [3]
  --debug <0|1>   1 measures the debug build               [0]`

/** The threads of a pipeline, and the one of JavaScript. */
const THREADS = ['mill-mqtt', 'mill-insert', 'mill-metrics', 'JavaScript']

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    rate: { default: 60_000, min: 1, max: 10_000_000 },
    seconds: { default: 20, min: 1, max: 86_400 },
    'warm-up': { default: 5, min: 1, max: 3600 },
    turns: { default: 3, min: 1, max: 1000 },
    debug: { default: 0, min: 0, max: 1 },
  })
  if (process.platform !== 'linux') throw new Error('only Linux tells what each thread uses')
  await buildAddon(scope, options.debug ? 'dev' : 'release')
  await buildClickHouseServer(scope)
  const loadProgram = await buildLoad(scope, options.debug ? 'dev' : 'quick')

  const { clickhouse } = await ownClickHouse(scope)
  const { broker } = await ownBroker(scope)
  const database = await createTables(scope, clickhouse)
  // Now that it is built.
  const { Pipeline } = await import('../index.js')
  const turns = { without: [], with: [] }
  for (let turn = 0; turn < options.turns; turn++) {
    for (const [name, results] of Object.entries(turns)) {
      const { url, username, password } = clickhouse
      const pipeline = new Pipeline({
        mqtt: { url: broker.url, qos: 0 },
        clickhouse: { url, username, ...(password && { password }), database },
        routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions' }],
        metricsIntervalMs: name === 'with' ? 1000 : 0,
      })
      const load = await startLoad(scope, loadProgram, {
        url: broker.url,
        rate: options.rate,
        drivers: 5000,
        qos: 0,
        seconds: options['warm-up'] + options.seconds + 1,
      })
      await pipeline.start()
      const done = load.next('done')
      load.writeLine()
      results.push(await measure(pipeline, name === 'with', options))
      await done
      await pipeline.stop()
      const { rate, cpu } = results.at(-1)
      console.log(`${name} metrics: ${count(rate)} messages per second, mill-mqtt ${count(cpu['mill-mqtt'])} µs`)
    }
  }

  const medians = Object.values(turns).map((results) => ({
    rate: median(results.map(({ rate }) => rate)),
    cpu: THREADS.map((thread) => median(results.map(({ cpu }) => cpu[thread]))),
  }))
  const [off, on] = medians
  const all = off.cpu.reduce((sum, cpu) => sum + cpu, 0)
  console.log(`\n${machine()}; medians of ${options.turns} turns each, µs of CPU per second\n`)
  console.log(markdown(
    ['thread', 'without', 'with', 'difference to all'],
    [
      ...THREADS.map((thread, i) => [
        thread,
        count(off.cpu[i]),
        count(on.cpu[i]),
        percent((100 * (on.cpu[i] - off.cpu[i])) / all),
      ]),
      ['messages per second', count(off.rate), count(on.rate), ''],
    ],
  ))
  const rate = Math.min(off.rate, on.rate)
  if (rate < 0.98 * options.rate) {
    throw new Error(`the machine passed ${count(rate)} messages per second, not ${count(options.rate)}: compare nothing`)
  }
})

/** CPU of the threads per second during the stream. */
async function measure(pipeline, hasMetrics, { seconds, 'warm-up': warmUp }) {
  let reader
  if (hasMetrics) {
    pipeline.on('metrics', () => {})
    reader = setInterval(() => pipeline.prometheus(), 1000)
  }
  await sleep(warmUp * 1000)
  const [before, from] = [cpuMicros(), pipeline.metrics()]
  await sleep(seconds * 1000)
  const [after, to] = [cpuMicros(), pipeline.metrics()]
  clearInterval(reader)
  const elapsed = (to.uptimeMs - from.uptimeMs) / 1000
  const cpu = Object.fromEntries(THREADS.map((thread) => [thread, (after[thread] - before[thread]) / elapsed]))
  return { rate: (to.messages.received - from.messages.received) / elapsed, cpu }
}

/** By thread, in microseconds. */
function cpuMicros() {
  const micros = Object.fromEntries(THREADS.map((thread) => [thread, 0]))
  for (const id of readdirSync('/proc/self/task')) {
    const read = (file) => readFileSync(`/proc/self/task/${id}/${file}`, 'utf8').trim()
    const thread = Number(id) === process.pid ? 'JavaScript' : read('comm')
    if (thread in micros) micros[thread] += Number(read('schedstat').split(' ')[0]) / 1000
  }
  return micros
}

/** @param {number[]} values */
function median(values) {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)]
}
