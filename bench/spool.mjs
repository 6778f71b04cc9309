// npm run bench:spool: what the spool costs and what it holds.
//
// 1. The same stream through mosquitto at QoS 1, without a spool and with one: CPU per message. Beside it what the syncs alone
//    take: a write of as many bytes and a sync every commitMs, by a process that does nothing else.
// 2. A flood at QoS 1 from a firehose: messages per second that are synced and acknowledged, while ClickHouse takes them.
// 3. A process that is killed with a full spool: how soon the next one begins to insert, and what memory it takes till then.
//
// The program fails when a message was lost or doubled, or when a limit is not kept.

import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { countRows, createTables, drain, IDLE, startLoad } from './lib/fleet.mjs'
import { count, markdown, mebibytes, milliseconds, percent } from './lib/format.mjs'
import { numberOptions } from './lib/options.mjs'
import { Program } from './lib/program.mjs'
import { runMain } from './lib/scope.mjs'
import { ownBroker, ownClickHouse } from './lib/servers.mjs'
import { machine, Meter } from './lib/usage.mjs'

const CPU_LIMIT = 1.25
/** Bytes of a position in the spool: docs/configuration.md. */
const BYTES_PER_MESSAGE = 180
const FLOOD_LIMIT = 200_000
const BEGIN_LIMIT_MS = 1000
const MEMORY_LIMIT_BYTES = 64 * 2 ** 20
const SERVICE = fileURLToPath(new URL('services/spooling.mjs', import.meta.url))

const HELP = `npm run bench:spool -- [options]

  --part <1|2|3>    only that one, 0: all                     [0]
  --rate <n>        1: messages per second                    [60000]
  --seconds <n>     1 and 2: measured                         [20]
  --warm-up <n>     1: seconds before that                    [5]
  --commit <ms>     spool.commitMs                            [5]
  --window <n>      2: unacknowledged messages in flight      [65535]
  --mebibytes <n>   3: what lies in the spool                 [1024]
  --spool <0|1>     1: only without or with, for a profile    [both]
  --build <0|1>     0 takes the addon as it is                [1]
  --dev <0|1>       1 builds for development, to see it work  [0]`

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    part: { default: 0, min: 0, max: 3 },
    rate: { default: 60_000, min: 1, max: 10_000_000 },
    seconds: { default: 20, min: 1, max: 86_400 },
    'warm-up': { default: 5, min: 1, max: 3600 },
    commit: { default: 5, min: 1, max: 1000 },
    window: { default: 65_535, min: 1, max: 65_535 },
    mebibytes: { default: 1024, min: 1, max: 60_000 },
    spool: { default: 2, min: 0, max: 2 },
    build: { default: 1, min: 0, max: 1 },
    dev: { default: 0, min: 0, max: 1 },
  })
  const { part, rate, seconds, 'warm-up': warmUp } = options
  if (options.build) await buildAddon(scope, options.dev ? 'dev' : 'release')
  await buildClickHouseServer(scope)
  const loadProgram = await buildLoad(scope, options.dev ? 'dev' : 'quick')
  const { clickhouse } = await ownClickHouse(scope)
  const database = await createTables(scope, clickhouse)
  const directory = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  scope.defer(() => rmSync(directory, { recursive: true, force: true }))
  const failures = []
  console.log(machine())

  if (part === 0 || part === 1) await cost()
  if (part === 0 || part === 2) await flood()
  if (part === 0 || part === 3) await recovery()
  if (failures.length > 0) throw new Error(failures.join('; '))

  async function cost() {
    const runs = []
    for (const hasSpool of [false, true].filter((has) => options.spool === 2 || options.spool === Number(has))) {
      runs.push(await stream(hasSpool))
    }
    console.log(`\n${markdown(
      [`${count(rate)} messages per second, QoS 1`, ...runs.map(({ hasSpool }) => (hasSpool ? 'with spool' : 'without'))],
      [
        ['CPU of the service, of one core', ...runs.map(({ cpu }) => percent(cpu))],
        ['CPU per message', ...runs.map(({ cpuPerMessage }) => `${count(cpuPerMessage)} ns`)],
        ['messages per second, received', ...runs.map(({ receivedRate }) => count(receivedRate))],
        ['peak memory', ...runs.map(({ memory }) => mebibytes(memory))],
      ],
    )}\n`)
    const [without, spooled] = runs
    if (!spooled) return
    const ratio = spooled.cpuPerMessage / without.cpuPerMessage
    const alone = syncsAlone()
    console.log(`with a spool a message takes ${ratio.toFixed(2)} times the CPU`)
    console.log(`the syncs alone take ${count(alone)} ns a message: ${(1 + alone / without.cpuPerMessage).toFixed(2)} times`)
    if (ratio > CPU_LIMIT) failures.push(`a spool took ${ratio.toFixed(2)} times the CPU, and ${CPU_LIMIT} is the limit`)
  }

  /** Nanoseconds of CPU for each message, if nothing were done but to write it and to sync every commitMs. */
  function syncsAlone() {
    const file = openSync(join(directory, 'alone'), 'w')
    const bytes = Buffer.alloc((BYTES_PER_MESSAGE * rate * options.commit) / 1000, 'millrace')
    const pause = new Int32Array(new SharedArrayBuffer(4))
    const syncs = Math.ceil(3000 / options.commit)
    const before = process.cpuUsage()
    for (let i = 0; i < syncs; i++) {
      Atomics.wait(pause, 0, 0, options.commit)
      writeSync(file, bytes)
      fdatasyncSync(file)
    }
    const { user, system } = process.cpuUsage(before)
    closeSync(file)
    return ((user + system) * 1e6) / (syncs * rate * options.commit)
  }

  /** @param {boolean} hasSpool */
  async function stream(hasSpool) {
    await clickhouse.command('TRUNCATE TABLE positions SYNC', { database })
    const { broker, mqttVersion } = await ownBroker(scope)
    const service = await startService(broker.url, { mqttVersion, ...(hasSpool && { spool: join(directory, 'stream') }) })
    await service.next('started')
    const total = warmUp + seconds + 1
    const load = await startLoad(scope, loadProgram, { url: broker.url, rate, qos: 1, seconds: total })
    const done = load.next('done', [service])
    load.writeLine()
    await Promise.race([sleep(warmUp * 1000), done])
    const before = await service.next('metrics')
    const meter = new Meter(service.pid)
    await Promise.race([sleep(seconds * 1000), done])
    const after = await service.next('metrics')
    const cpu = meter.cpuPercent() ?? 0
    const received = after.messages.received - before.messages.received
    const receivedRate = (1000 * received) / (after.uptimeMs - before.uptimeMs)
    const { sent } = await done
    await drain(service, sent)
    await check(hasSpool ? 'with a spool' : 'without a spool', sent)
    await broker.remove()
    return { hasSpool, cpu, cpuPerMessage: (cpu * 1e7) / receivedRate, receivedRate, memory: meter.peakResidentBytes }
  }

  async function flood() {
    await clickhouse.command('TRUNCATE TABLE positions SYNC', { database })
    const { load, service } = await startFlood('flood', { seconds })
    const meter = new Meter(service.pid)
    const done = load.next('done', [service])
    load.writeLine()
    // All of them are acknowledged, and so synced, when it says `done`.
    const { sent, rate: durable } = await done
    const cpu = meter.cpuPercent() ?? 0
    const { spool } = await service.next('metrics')
    await drain(service, sent)
    await check('the flood', sent)
    await load.stop()
    console.log(`\n${markdown(
      [`a flood at QoS 1, ${count(options.window)} in flight`, ''],
      [
        ['messages per second, synced and acknowledged', count(durable)],
        ['CPU of the service, of one core', percent(cpu)],
        ['CPU per message', `${count((cpu * 1e7) / durable)} ns`],
        ['left in the spool at the end of the flood', mebibytes(spool.bytes)],
      ],
    )}\n`)
    if (durable < FLOOD_LIMIT) failures.push(`${count(durable)} messages per second, and ${count(FLOOD_LIMIT)} is the limit`)
  }

  async function recovery() {
    await clickhouse.command('TRUNCATE TABLE positions SYNC', { database })
    const wanted = options.mebibytes * 2 ** 20
    const { load, service } = await startFlood('recovery', {})
    load.writeLine()
    await service.next('metrics')
    // Nothing is inserted from here on, and all that comes stays in the spool.
    clickhouse.signal('SIGSTOP')
    while ((await service.next('metrics')).spool.bytes < wanted);
    const { spool } = service.latest.metrics
    process.kill(service.pid, 'SIGKILL')
    await service.ended
    await load.stop()
    clickhouse.signal('SIGCONT')

    const { broker, mqttVersion } = await ownBroker(scope)
    const idle = scope.own(new Program('the idle process', process.execPath, ['-e', IDLE]), 'stop')
    await idle.next('started')
    const bare = new Meter(idle.pid).peakResidentBytes
    const next = await startService(broker.url, { mqttVersion, spool: join(directory, 'recovery') })
    const { afterMs } = await next.next('inserting')
    const memory = new Meter(next.pid).peakResidentBytes - bare
    const began = performance.now()
    const { messages } = await next.next('metrics')
    const stopped = next.next('stopped')
    await next.stop(300_000)
    await stopped
    const drainedIn = (performance.now() - began) / 1000
    const [{ rows, different }] = await clickhouse.query(
      `SELECT count() AS rows, groupBitmap(seq) AS different FROM ${database}.positions`,
    )
    if (rows !== different) failures.push(`recovery: ${count(rows - different)} messages were doubled`)
    console.log(`\n${markdown(
      [`a spool of ${mebibytes(spool.bytes)}`, ''],
      [
        ['messages in it', count(messages.received)],
        ['from start() to the first INSERT', `${milliseconds(afterMs)} ms`],
        ['memory above an idle process till then', mebibytes(memory)],
        ['until all was in ClickHouse', `${drainedIn.toFixed(1)} s`],
      ],
    )}\n`)
    if (afterMs > BEGIN_LIMIT_MS) failures.push(`recovery took ${milliseconds(afterMs)} ms to begin`)
    if (memory > MEMORY_LIMIT_BYTES) failures.push(`recovery took ${mebibytes(memory)} to begin`)
  }

  /**
   * @param {string} url
   * @param {{ mqttVersion?: string, spool?: string }} options
   */
  async function startService(url, { mqttVersion = '5', spool } = {}) {
    const env = {
      MQTT_URL: url,
      MQTT_VERSION: mqttVersion,
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_DATABASE: database,
      ...(spool && { SPOOL_DIR: spool, COMMIT_MS: String(options.commit) }),
    }
    const service = scope.own(new Program('the service', process.execPath, [SERVICE], env), 'stop')
    service.on('warning', ({ code, message }) => console.log(`warning: ${code}: ${message}`))
    return service
  }

  /**
   * A firehose and a service with a spool that listens to it.
   *
   * @param {string} name of the spool's directory
   * @param {Record<string, number>} further
   */
  async function startFlood(name, further) {
    const { window } = options
    const flooding = { firehose: '127.0.0.1:0', rate: 0, qos: 1, window, ...further }
    const load = await startLoad(scope, loadProgram, flooding)
    const subscribed = load.next('subscribed')
    const service = await startService(`mqtt://127.0.0.1:${load.latest.ready.port}`, { spool: join(directory, name) })
    await Promise.all([subscribed, service.next('started')])
    return { load, service }
  }

  /**
   * @param {string} what
   * @param {number} sent
   */
  async function check(what, sent) {
    const { lost, doubled } = await countRows(clickhouse, database, sent)
    if (lost) failures.push(`${what}: ${count(lost)} messages were lost`)
    if (doubled) failures.push(`${what}: ${count(doubled)} messages were doubled`)
  }
})
