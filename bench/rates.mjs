// npm run bench:rates: what a message costs at the rates people have, and how often each thread wakes for it. Linux.
//
// With --against <folder> a second build of millrace, in a working tree of its own, is measured by turns with this one, and the
// ratio of the two is in the table. Each measurement has a broker and a service of its own. The program fails when a message
// was lost or doubled.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Authority } from '../__test__/support/certificates.mjs'
import { findBun, freePort } from '../tools/servers/index.mjs'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { countRows, createTables, drain, IDLE, startLoad } from './lib/fleet.mjs'
import { count, markdown, mebibytes, milliseconds, percent } from './lib/format.mjs'
import { Program } from './lib/program.mjs'
import { runMain } from './lib/scope.mjs'
import { ownBroker, ownClickHouse } from './lib/servers.mjs'
import { ThreadMeter } from './lib/threads.mjs'
import { machine, Meter, usage } from './lib/usage.mjs'

const SERVICE = fileURLToPath(new URL('services/rates.mjs', import.meta.url))
const HERE = fileURLToPath(new URL('..', import.meta.url))

const HELP = `npm run bench:rates -- [options]

  --against <folder>    a second build, measured by turns: a working tree with
                        its addon and node_modules
  --rate <rates>        messages per second, with commas; max is as many
                        as a firehose gives                            [1k,10k,60k]
  --qos <0|1>                                                          [0]
  --spool               with a spool
  --tls                 over TLS
  --firehose            from the firehose of the load generator, which
                        knows how long acknowledgements take (QoS 1)
  --options <json>      parts of the configuration, such as
                        '{"mqtt":{"coalesceMs":10}}'
  --against-options <json>  those of the second build
  --rounds <n>          of each rate                                   [3]
  --seconds <n>         measured, of each round                        [10]
  --warm-up <n>         seconds before that                            [3]
  --drivers <n>                                                        [5000]
  --bun                 on Bun
  --profile <name>      how the addon is built: release, quick, dev    [release]
  --no-build            takes the addon as it is`

/**
 * @typedef {object} Measurement
 * @property {number} cpuNs of a message
 * @property {number} cpu percent of a core
 * @property {Record<string, number>} wakes a second, by thread
 * @property {Record<string, number>} threadNs a message, by thread
 * @property {number} rate
 * @property {{ p50: number, p99: number }} endToEnd from its sending to its row, in ms
 * @property {{ p50: number, p99: number, max: number } | undefined} acknowledged in ms
 * @property {number} memory peak above an idle process
 * @property {number} clickhouse percent of a core
 */

await runMain(async (scope) => {
  const options = readOptions()
  if (!options) return console.log(HELP)
  if (process.platform !== 'linux') throw new Error('only Linux says what each thread uses')
  const runtime = options.bun ? findBun() : process.execPath
  if (!runtime) throw new Error('Bun is not installed: run npm ci')
  if (!options['no-build']) await buildAddon(scope, options.profile)
  await buildClickHouseServer(scope)
  const loadProgram = await buildLoad(scope)
  const { clickhouse } = await ownClickHouse(scope)
  const database = await createTables(scope, clickhouse)
  await clickhouse.command('ALTER TABLE positions ADD COLUMN row_at DateTime64(3) MATERIALIZED now64(3)', { database })
  const directory = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  scope.defer(() => rmSync(directory, { recursive: true, force: true }))
  const idleBytes = await idleMemory()
  const failures = []
  console.log(machine())

  for (const rate of options.rates) await compare(rate)
  if (failures.length > 0) throw new Error(failures.join('; '))

  /** @param {number} rate */
  async function compare(rate) {
    /** @type {Measurement[][]} */
    const results = options.builds.map(() => [])
    for (let round = 0; round < options.rounds; round++) {
      for (const [at, build] of options.builds.entries()) results[at].push(await measure(rate, build))
    }
    const best = results.map((of) => summary(of))
    const threads = [...new Set(best.flatMap(({ wakes }) => Object.keys(wakes)))].sort()
    const row = (name, value) => [name, ...best.map(value), ...(best.length > 1 ? ['–'] : [])]
    const ratio = (name, value, text) => [
      name,
      ...best.map((of) => text(value(of))),
      ...(best.length > 1 ? [(value(best[1]) / value(best[0])).toFixed(3)] : []),
    ]
    const { qos, spool, tls } = options
    const title = `${rate ? `${count(rate)} msg/s` : 'flat out'}, QoS ${qos}${spool ? ', spool' : ''}${tls ? ', TLS' : ''}`
    console.log(`\n${markdown(
      [title, ...options.builds.map(({ name }) => name), ...(best.length > 1 ? ['ratio'] : [])],
      [
        ratio('CPU of a message', ({ cpuNs }) => cpuNs, (ns) => `${count(ns)} ns`),
        row('in each round', ({ all }) => all.map(count).join(' ')),
        ratio('CPU of one core', ({ cpu }) => cpu, (value) => `${value.toFixed(2)} %`),
        ...threads.map((name) => ratio(`${name}: wakes a second`, ({ wakes }) => wakes[name] ?? 0, (value) => value.toFixed(0))),
        ...threads.map((name) => ratio(`${name}: CPU of a message`, ({ threadNs }) => threadNs[name] ?? 0, (ns) => `${count(ns)} ns`)),
        ratio('messages a second', ({ rate: of }) => of, count),
        row('sent → in ClickHouse, p50, p99', ({ endToEnd }) => `${count(endToEnd.p50)}, ${count(endToEnd.p99)} ms`),
        ...(best[0].acknowledged
          ? [row('sent → acknowledged, p50, p99, max', ({ acknowledged: of }) => [of.p50, of.p99, of.max].map(milliseconds).join(', ') + ' ms')]
          : []),
        ratio('peak memory above an idle process', ({ memory }) => memory, mebibytes),
        ratio('ClickHouse: CPU of one core', ({ clickhouse: of }) => of, percent),
      ],
    )}`)
  }

  /**
   * @param {number} rate 0: flat out
   * @param {{ name: string, folder: string, configuration: string }} build
   * @returns {Promise<Measurement>}
   */
  async function measure(rate, { folder, name, configuration }) {
    await clickhouse.command('TRUNCATE TABLE positions SYNC', { database })
    const env = {
      MILLRACE: folder,
      MQTT_QOS: String(options.qos),
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_DATABASE: database,
      OPTIONS: configuration,
      ...(options.spool && { SPOOL_DIR: mkdtempSync(join(directory, 'spool-')) }),
    }
    const total = options['warm-up'] + options.seconds + 1
    const { load, service, close } = options.firehose || !rate ? await fromFirehose() : await throughBroker()
    const done = load.next('done', [service])
    load.writeLine()
    await Promise.race([sleep(options['warm-up'] * 1000), done])
    const before = await service.next('metrics')
    const meter = new ThreadMeter(service.pid)
    const server = new Meter(clickhouse.pid)
    await Promise.race([sleep(options.seconds * 1000), done])
    const after = await service.next('metrics')
    const { seconds, threads } = meter.since()
    const clickhouseCpu = server.cpuPercent() ?? 0
    const memory = (usage(service.pid).peakResidentBytes ?? 0) - idleBytes
    const received = after.messages.received - before.messages.received
    const cpuNs = Object.values(threads).reduce((sum, use) => sum + use.cpuNs, 0)
    const report = await done
    await drain(service, report.sent)
    const { lost, doubled } = await countRows(clickhouse, database, report.sent)
    if (lost) failures.push(`${name}, ${count(rate)} msg/s: ${count(lost)} messages were lost`)
    if (doubled) failures.push(`${name}, ${count(rate)} msg/s: ${count(doubled)} messages were doubled`)
    const [endToEnd] = await clickhouse.query(
      `SELECT quantile(0.5)(ms) AS p50, quantile(0.99)(ms) AS p99
       FROM (SELECT toUnixTimestamp64Milli(row_at) - toUnixTimestamp64Milli(ts) AS ms FROM ${database}.positions)`,
    )
    await close()
    const each = (value) => Object.fromEntries(Object.entries(threads).map(([thread, use]) => [thread, value(use)]))
    const of = (1000 * received) / (after.uptimeMs - before.uptimeMs)
    return {
      cpuNs: cpuNs / seconds / of,
      cpu: (100 * cpuNs) / (seconds * 1e9),
      wakes: each(({ wakes }) => wakes / seconds),
      threadNs: each((use) => use.cpuNs / seconds / of),
      rate: of,
      endToEnd,
      acknowledged: report.acknowledgedMs,
      memory,
      clickhouse: clickhouseCpu,
    }

    async function throughBroker() {
      const tls = options.tls ? await tlsListener() : undefined
      const { broker, mqttVersion } = await ownBroker(scope, { lines: tls?.lines })
      const service = await start({ ...env, MQTT_URL: broker.url, MQTT_VERSION: mqttVersion, ...tls?.env })
      const load = await startLoad(scope, loadProgram, {
        url: broker.url,
        rate,
        drivers: options.drivers,
        qos: options.qos,
        seconds: total,
      })
      return { load, service, close: () => broker.remove() }
    }

    async function fromFirehose() {
      const load = scope.own(
        new Program('the load generator', loadProgram, [
          ...['--firehose', '127.0.0.1:0', '--wait', '--numbered', '--rate', String(rate), '--drivers', String(options.drivers)],
          ...['--qos', String(options.qos), '--window', '65535', '--seconds', String(total), '--connections', '1'],
        ]),
        'stop',
      )
      const { port } = await load.next('ready')
      const subscribed = load.next('subscribed')
      const service = await start({ ...env, MQTT_URL: `mqtt://127.0.0.1:${port}`, MQTT_VERSION: '5' })
      await subscribed
      return { load, service, close: () => load.stop() }
    }

    async function start(all) {
      const service = scope.own(new Program(`the service, ${name}`, runtime, [SERVICE], all), 'stop')
      service.on('warning', ({ code, message }) => console.log(`warning: ${name}: ${code}: ${message}`))
      await service.next('started')
      return service
    }
  }

  /** A second listener, so that only the service speaks TLS. */
  async function tlsListener() {
    const authority = new Authority()
    const { cert, key } = authority.issue({ hosts: ['127.0.0.1'] })
    const port = await freePort()
    const [certfile, keyfile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')]
    writeFileSync(certfile, cert)
    writeFileSync(keyfile, key)
    return {
      lines: [`listener ${port} 127.0.0.1`, `certfile ${certfile}`, `keyfile ${keyfile}`],
      env: { MQTT_URL: `mqtts://127.0.0.1:${port}`, MQTT_CA: authority.ca },
    }
  }

  async function idleMemory() {
    const idle = scope.own(new Program('the idle process', runtime, ['-e', IDLE]), 'stop')
    await idle.next('started')
    const { peakResidentBytes = 0 } = usage(idle.pid)
    await idle.stop()
    return peakResidentBytes
  }
})

/**
 * The round with the median of the CPU.
 *
 * @param {Measurement[]} rounds
 */
function summary(rounds) {
  const sorted = [...rounds].sort((a, b) => a.cpuNs - b.cpuNs)
  return { ...sorted[Math.floor((sorted.length - 1) / 2)], all: sorted.map(({ cpuNs }) => cpuNs) }
}

function readOptions() {
  const text = (value) => ({ type: /** @type {const} */ ('string'), ...(value !== undefined && { default: value }) })
  const flag = { type: /** @type {const} */ ('boolean'), default: false }
  const { values } = parseArgs({
    options: {
      against: text(),
      rate: text('1k,10k,60k'),
      qos: text('0'),
      spool: flag,
      tls: flag,
      firehose: flag,
      options: text('{}'),
      'against-options': text(),
      rounds: text('3'),
      seconds: text('10'),
      'warm-up': text('3'),
      drivers: text('5000'),
      bun: flag,
      profile: text('release'),
      'no-build': flag,
      help: flag,
    },
  })
  if (values.help) return undefined
  const number = (name, min, max) => {
    const given = Number(values[name])
    if (!Number.isInteger(given) || given < min || given > max) {
      throw new Error(`--${name} takes a whole number from ${min} to ${max}, not "${values[name]}"`)
    }
    return given
  }
  const rates = values.rate.split(',').map((rate) => {
    const [, digits, thousands] = /^(\d+)(k?)$/.exec(rate) ?? []
    if (rate !== 'max' && !digits) throw new Error(`--rate takes numbers such as 500 or 10k, and max, not "${rate}"`)
    return rate === 'max' ? 0 : Number(digits) * (thousands ? 1000 : 1)
  })
  const builds = [{ name: 'this build', folder: HERE, configuration: values.options }]
  const { against, 'against-options': other } = values
  if (against ?? other) {
    builds.unshift({ name: against ?? 'the other options', folder: resolve(against ?? HERE), configuration: other ?? values.options })
  }
  return {
    ...values,
    rates,
    builds,
    qos: number('qos', 0, 1),
    rounds: number('rounds', 1, 100),
    seconds: number('seconds', 1, 3600),
    'warm-up': number('warm-up', 1, 3600),
    drivers: number('drivers', 4, 10_000_000),
  }
}
