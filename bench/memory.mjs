// npm run bench:memory: that memory.maxBytes is a ceiling.
//
// Each cell is a process of its own: a pipeline that is flooded at QoS 1 with messages of one size, in front of a ClickHouse that
// is up, slow, or away and then back and slow. Its highest resident memory by the kernel, above that of
// a process of the same runtime with nothing to do, must not be more than the ceiling and 24 MiB.
//
// It fails when one cell is above that, or when nothing arrived in it.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { buildAddon, buildClickHouseServer } from './lib/build.mjs'
import { IDLE } from './lib/fleet.mjs'
import { count, markdown } from './lib/format.mjs'
import { Program } from './lib/program.mjs'
import { runMain, Scope } from './lib/scope.mjs'
import { ownClickHouse } from './lib/servers.mjs'
import { Throttle } from './lib/throttle.mjs'
import { machine, Meter, usage } from './lib/usage.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const SERVICE = join(HERE, 'services/memory.mjs')
const FLOOD = join(HERE, 'services/flood.mjs')
const MIB = 2 ** 20
/**
 * Memory that a process may take beyond the ceiling: the addon itself, its threads, and what V8 needs
 * for it.
 */
const ALLOWANCE = 24 * MIB
/** Bytes a second that a slow ClickHouse takes. */
const SLOW = 2 * MIB
const SPOOL_BYTES = 512 * MIB
/** Seconds of a cell in which ClickHouse is away; it is back for the rest. */
const AWAY_SECONDS = 4

const PAYLOADS = { '100 B': 100, '10 KiB': 10 << 10, '100 KiB': 100 << 10, '1 MiB': MIB }
const STATES = ['away', 'slow', 'up']
/** The results of the messages: rows, dead letters in a table, or rows that a constraint refuses. */
const KINDS = { rows: STATES, letters: ['away', 'slow'], refused: ['slow', 'up'] }
/** The cells of `--quick`: those that were furthest above the ceiling once. */
const QUICK = /^64 MiB, (100 KiB|1 MiB) (random|text) rows, spool, (away|slow)$|^64 MiB, 100 B text rows, no spool, away$/

const HELP = `npm run bench:memory -- [options]

  --quick              a few cells
  --cells <pattern>    only those whose name the regular expression finds, such as "64 MiB, 1 MiB .* spool, slow"
  --list               prints the names of the cells
  --seconds <n>        of each cell                                    [7]
  --profile <name>     of the addon: release, quick or dev, or none to take it as it is  [release]
  --out <directory>    of the JSON                                     [bench/results]`

await runMain(async (scope) => {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      quick: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      cells: { type: 'string', default: '' },
      seconds: { type: 'string', default: '7' },
      profile: { type: 'string', default: 'release' },
      out: { type: 'string', default: join(HERE, 'results') },
    },
  })
  const seconds = Number(values.seconds)
  if (values.help) return console.log(HELP)
  if (!(seconds >= 1 && seconds <= 15)) throw new Error('--seconds takes a number from 1 to 15')
  const pattern = new RegExp(values.cells)
  const chosen = cells().filter(({ name }) => pattern.test(name) && (!values.quick || QUICK.test(name)))
  if (values.list) return chosen.forEach(({ name }) => console.log(name))
  if (chosen.length === 0) throw new Error('no cell has such a name: --list prints them')

  if (values.profile !== 'none') await buildAddon(scope, values.profile)
  await buildClickHouseServer(scope)
  const { clickhouse } = await ownClickHouse(scope)
  const database = `memory_${process.pid}`
  await clickhouse.command(`CREATE DATABASE ${database}`)
  scope.defer(() => clickhouse.command(`DROP DATABASE ${database} SYNC`))
  const directory = mkdtempSync(join(tmpdir(), 'millrace-memory-'))
  scope.defer(() => rmSync(directory, { recursive: true, force: true }))
  const idle = scope.own(new Program('the idle process', process.execPath, ['-e', IDLE]), 'stop')
  await idle.next('started')
  const bare = new Meter(idle.pid).peakResidentBytes
  const port = Number(new URL(clickhouse.url).port)

  console.log(machine())
  const results = []
  for (const cell of chosen) {
    const own = new Scope()
    try {
      const result = await run(own, cell, { clickhouse, database, port, directory, seconds, bare })
      results.push(result)
      console.log(`${result.isKept ? 'kept' : 'FAILED'}  ${cell.name}: ${mib(result.peak)} MiB`)
    } finally {
      await own.close()
    }
  }

  console.log(`\n${report(results)}`)
  const isWhole = !values.quick && values.cells === ''
  if (isWhole) console.log(`\n${relative('', write(values.out, results, { seconds, bare }))}`)
  const failed = results.filter(({ isKept }) => !isKept)
  if (failed.length > 0) throw new Error(`${failed.length} of ${results.length} cells are above the ceiling and ${mib(ALLOWANCE)} MiB`)
})

/** All cells, by name. */
function cells() {
  const all = []
  for (const ceiling of [64, 256]) {
    for (const [payload, bytes] of Object.entries(PAYLOADS)) {
      for (const isCompressible of [true, false]) {
        for (const [kind, states] of Object.entries(KINDS)) {
          for (const hasSpool of [false, true]) {
            for (const state of states) {
              // Rows are tried in all cells, other results in some.
              const isSome = kind === 'rows' ? ceiling === 64 || (!isCompressible && bytes !== MIB) : ceiling === 64 && !isCompressible
              if (!isSome || (kind !== 'rows' && bytes > 100 << 10)) continue
              const words = [payload, isCompressible ? 'text' : 'random', kind].join(' ')
              const name = `${ceiling} MiB, ${words}, ${hasSpool ? 'spool' : 'no spool'}, ${state}`
              all.push({ name, ceiling: ceiling * MIB, payload, bytes, isCompressible, kind, hasSpool, state })
            }
          }
        }
      }
    }
  }
  return all
}

/**
 * @param {Scope} scope
 * @param {ReturnType<typeof cells>[0]} cell
 * @param {{ clickhouse: any, database: string, port: number, directory: string, seconds: number, bare: number }} run
 */
async function run(scope, cell, { clickhouse, database, port, directory, seconds, bare }) {
  const { ceiling, bytes, isCompressible, kind, hasSpool, state } = cell
  const constraint = kind === 'refused' ? ', CONSTRAINT small CHECK id < 2' : ''
  const columns = `(id UInt64, data String CODEC(NONE)${constraint})`
  const options = 'ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 1000'
  await clickhouse.command('DROP TABLE IF EXISTS letters SYNC', { database })
  await clickhouse.command(`CREATE OR REPLACE TABLE flood ${columns} ${options}`, { database })
  const throttle = scope.own(await new Throttle(port).listen(), 'close')
  const args = [FLOOD, bytes, Number(isCompressible), Number(kind !== 'letters')].map(String)
  const flood = scope.own(new Program('the broker', process.execPath, args), 'stop')
  const { port: broker } = await flood.next('ready')
  const spool = join(directory, 'spool')
  scope.defer(() => rmSync(spool, { recursive: true, force: true }))
  const config = {
    mqtt: { url: `mqtt://127.0.0.1:${broker}`, clientId: 'memory', protocolVersion: 5, maxPacketBytes: 2 * MIB },
    clickhouse: { url: throttle.url, database },
    routes: [{ topic: 'memory/flood', table: 'flood' }],
    deadLetters: { table: 'letters' },
    memory: { maxBytes: ceiling },
    metricsIntervalMs: 100,
    ...(hasSpool && { spool: { dir: spool, maxBytes: SPOOL_BYTES } }),
  }
  const service = scope.own(new Program('the service', process.execPath, [SERVICE], { CONFIG: JSON.stringify(config) }), 'stop')
  let counted = 0
  service.on('metrics', ({ memoryBytes }) => (counted = Math.max(counted, memoryBytes)))
  const warnings = new Map()
  service.on('warning', ({ code }) => warnings.set(code, (warnings.get(code) ?? 0) + 1))
  await service.next('started', [flood])
  if (state === 'away') throttle.leave()
  if (state === 'slow') throttle.pass(SLOW)
  flood.writeLine()
  const away = state === 'away' ? Math.min(AWAY_SECONDS, seconds) : 0
  await Promise.race([sleep(away * 1000), service.failure()])
  if (state === 'away') throttle.pass(SLOW)
  await Promise.race([sleep((seconds - away) * 1000), service.failure()])
  const { messages, inserts } = service.latest.metrics
  const peak = usage(service.pid).peakResidentBytes - bare
  // Nothing that is left matters: the next cell has another process.
  process.kill(service.pid, 'SIGKILL')
  await service.ended
  const isKept = peak <= ceiling + ALLOWANCE && messages.received > 0
  return { ...cell, peak, counted, received: messages.received, inserts: inserts.succeeded, warnings: Object.fromEntries(warnings), isKept }
}

/** @param {any[]} results */
function report(results) {
  return markdown(
    ['cell', 'memory, MiB', 'above the ceiling', 'counted, MiB', 'messages', 'INSERTs', ''],
    results.map(({ name, peak, ceiling, counted, received, inserts, isKept }) => [
      name,
      mib(peak),
      mib(peak - ceiling),
      mib(counted),
      count(received),
      count(inserts),
      isKept ? 'kept' : 'FAILED',
    ]),
  )
}

/**
 * @param {string} out
 * @param {any[]} results
 * @param {{ seconds: number, bare: number }} about
 */
function write(out, results, about) {
  mkdirSync(out, { recursive: true })
  const date = new Date()
  const stamp = date.toISOString().slice(0, 16).replace('T', '-').replace(':', '')
  const file = join(out, `${stamp}-memory.json`)
  const result = { date: date.toISOString(), machine: machine(), runtime: process.version, ...about, allowance: ALLOWANCE, cells: results }
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`)
  return file
}

/** @param {number} bytes */
function mib(bytes) {
  return (bytes / MIB).toFixed(1)
}
