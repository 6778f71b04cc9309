// npm run demo -- --processes 3 --shards 2: the fleet of the demo with several processes and ClickHouse servers. There is no business
// logic in it: `millrace run --processes` runs a configuration file.

import { performance } from 'node:perf_hooks'
import { startLoad } from '../bench/lib/fleet.mjs'
import { count, mebibytes } from '../bench/lib/format.mjs'
import { arrival, Fleet, makeTables, ScaleConfig } from '../bench/lib/scale.mjs'
import { ownBroker } from '../bench/lib/servers.mjs'
import { startCluster } from '../tools/servers/index.mjs'

const PROGRESS_MS = 1_000

/**
 * @param {import('../bench/lib/scope.mjs').Scope} scope
 * @param {string} loadProgram
 * @param {{ drivers: number, rate: number, seconds: number, qos: number, processes: number, shards: number }} options
 * @param {(url: string) => void} openBrowser
 * @returns {Promise<number>} the exit code
 */
export async function demoOfProcesses(scope, loadProgram, { processes, shards, ...options }, openBrowser) {
  const servers = await startCluster(shards)
  for (const server of servers) scope.own(server, 'remove')
  await makeTables(servers)
  const { broker, name } = await ownBroker(scope)
  const way = shards > 1 ? 'shards' : 'equal'
  const config = new ScaleConfig({ broker: broker.url, servers, way, mqtt: { qos: options.qos } })
  scope.defer(() => config.remove())
  const fleet = new Fleet(config.file, ['--processes', String(processes), '--http', '127.0.0.1:0'])
  scope.defer(() => fleet.kill())
  await fleet.running(processes)
  console.log(`${processes} processes between ${name} at ${broker.url} and ${shards} ClickHouse servers`)
  const load = await startLoad(scope, loadProgram, { url: broker.url, ...options })
  console.log(
    `${count(options.drivers)} drivers send ${count(options.rate)} messages per second for ${options.seconds} seconds: look at ` +
      `${fleet.url} for all, and at ${fleet.url}processes/1/ for one\n`,
  )
  openBrowser(fleet.url)

  const began = performance.now()
  const progress = setInterval(() => console.log(line(fleet, performance.now() - began)), PROGRESS_MS)
  scope.defer(() => clearInterval(progress))
  const done = load.next('done')
  load.writeLine()
  const { sent } = await done
  const { rows, distinct, byServer } = await arrival(servers, sent)
  clearInterval(progress)
  await fleet.stop()

  console.log(`\n  sent ${count(sent)}, rows ${count(rows)}, lost ${count(sent - distinct)}, doubled ${count(rows - distinct)}`)
  for (const [number, { metrics }] of fleet.processes) {
    const { messages, spool } = metrics
    console.log(`  process ${number}: ${count(messages.received)} received, ${count(messages.inserted)} inserted, spool ${mebibytes(spool.bytes)}`)
  }
  for (const [i, own] of byServer.entries()) console.log(`  server ${i + 1}: ${count(own)} rows`)
  return rows === sent && distinct === sent ? 0 : 1
}

function line(fleet, ms) {
  const all = [...fleet.processes.values()].map(({ metrics }) => metrics).filter(Boolean)
  const rates = all.map(({ rates }) => count(rates.rowsPerSecond)).join(' + ')
  const sum = all.reduce((total, { rates }) => total + rates.rowsPerSecond, 0)
  return `${String(Math.round(ms / 1000)).padStart(6)} s  ${rates} = ${count(sum)} rows/s`
}
