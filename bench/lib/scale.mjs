// Several processes of one configuration on a broker and two ClickHouse servers: what bench/scale.mjs measures, and a test in short.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { waitFor } from '../../tools/servers/index.mjs'
import { Meter } from './usage.mjs'

const MILLRACE = fileURLToPath(new URL('../../bin/millrace.js', import.meta.url))
const LOCAL = 'positions'
const OVER = 'all_positions'

/**
 * How rows get to two servers. Equal servers that do not replicate each other do not know each other's tokens: an INSERT whose
 * answer was lost, and which is made again on the other one, is there twice.
 */
export const WAYS = {
  distributed: { about: 'into a Distributed table of either', table: OVER, clickhouse: {}, isOnce: true },
  shards: { about: 'each URL a shard, clickhouse.shards', table: LOCAL, clickhouse: { shards: { key: ['driver_id'] } }, isOnce: true },
  equal: { about: 'equal servers that take turns', table: LOCAL, clickhouse: {}, isOnce: false },
}

/**
 * The tables of a run on each server of a cluster, without rows.
 *
 * @param {import('../../tools/servers/clickhouse.mjs').ClickHouse[]} servers
 */
export async function makeTables(servers) {
  for (const server of servers) {
    await server.command(`DROP TABLE IF EXISTS ${OVER} SYNC`)
    await server.command(`DROP TABLE IF EXISTS ${LOCAL} SYNC`)
    await server.command(`CREATE TABLE ${LOCAL} (driver_id String, lat Float64, lng Float64, ts DateTime64(3), seq UInt64)
      ENGINE MergeTree ORDER BY (driver_id, ts) SETTINGS non_replicated_deduplication_window = 10000`)
    await server.command(`CREATE TABLE ${OVER} AS ${LOCAL} ENGINE Distributed(all, default, ${LOCAL}, cityHash64(driver_id))`)
  }
}

/**
 * The rows of all servers, and how many numbers are there: a difference of the two is what is doubled.
 *
 * @returns {Promise<{ rows: number, distinct: number, byServer: number[] }>}
 */
export async function countAll(servers) {
  // In one query: rows may be coming. By HTTP: the bundled ClickHouse aborts now and then when it reads by TCP from a server
  // that was restarted.
  const read = encodeURIComponent(`SELECT seq FROM ${LOCAL} FORMAT RowBinary`)
  const others = servers.slice(1).map(({ url }) => `UNION ALL SELECT seq FROM url('${url}/?query=${read}', RowBinary, 'seq UInt64')`)
  const sql = `SELECT count() AS rows, uniqExact(seq) AS distinct FROM (SELECT seq FROM ${LOCAL} ${others.join(' ')})`
  const [{ rows, distinct }] = await servers[0].query(sql)
  const counted = await Promise.all(servers.map((server) => server.query(`SELECT count() AS rows FROM ${LOCAL}`)))
  return { rows: Number(rows), distinct: Number(distinct), byServer: counted.map(([own]) => Number(own.rows)) }
}

/** The configuration of a run, as a file in a directory of its own. */
export class ScaleConfig {
  directory = mkdtempSync(join(tmpdir(), 'millrace-scale-'))
  file = join(this.directory, 'millrace.json')

  /**
   * @param {{ broker: string, servers: { url: string }[], way: keyof typeof WAYS, batch?: object, spool?: object, mqtt?: object }} options
   */
  constructor({ broker, servers, way, batch = {}, spool = {}, mqtt = {} }) {
    const { table, clickhouse } = WAYS[way]
    const config = {
      name: 'scale',
      mqtt: { url: broker, clientId: 'scale', sharedGroup: 'scale', ...mqtt },
      clickhouse: { url: servers.map(({ url }) => url), connectTimeoutMs: 1000, retry: { minMs: 50, maxMs: 500 }, ...clickhouse },
      routes: [{ topic: 'drivers/{driver_id}/position', table }],
      batch,
      spool: { dir: join(this.directory, 'spool'), ...spool },
    }
    writeFileSync(this.file, JSON.stringify(config, null, 2))
  }

  remove() {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** `millrace run --processes <n>`, or one of them alone with `--process <n>`, and what its processes say. */
export class Fleet {
  /** By number: pid, state, the last metrics, how often it was started, and the highest of what it held. */
  processes = new Map()
  warnings = []
  /** The address of its pages, where it was asked for. */
  url
  lines = []
  ended
  #child
  #isEnded = false

  /** @param {string[]} args behind `run <file>` */
  constructor(file, args) {
    this.#child = spawn(process.execPath, [MILLRACE, 'run', file, '--log-interval', '500ms', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const alone = /^--process$/.test(args[0] ?? '') ? Number(args[1]) : undefined
    if (alone !== undefined) this.#of(alone).pid = this.#child.pid
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#onLine(JSON.parse(line)))
    createInterface({ input: this.#child.stderr }).on('line', (line) => this.lines.push(line))
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code) => {
        this.#isEnded = true
        resolve(code)
      })
    })
  }

  #of(number) {
    const known = this.processes.get(number)
    if (known) return known
    const made = { pid: undefined, state: 'starting', metrics: undefined, runs: 0, peak: { memoryBytes: 0, spoolBytes: 0, pending: 0 } }
    this.processes.set(number, made)
    return made
  }

  #onLine({ level, msg, process: number, pid, state, previous, metrics, code, url }) {
    if (url !== undefined && number === undefined) this.url = url
    if (level === 'warn' || level === 'error') this.warnings.push(`${code}: ${msg}`)
    if (number === undefined) return
    const its = this.#of(number)
    if (pid !== undefined) Object.assign(its, { pid, state: 'starting' })
    if (previous !== undefined) its.state = state
    if (previous !== undefined && state === 'running') its.runs += 1
    if (metrics) {
      its.metrics = metrics
      its.peak.memoryBytes = Math.max(its.peak.memoryBytes, metrics.memoryBytes)
      its.peak.spoolBytes = Math.max(its.peak.spoolBytes, metrics.spool?.bytes ?? 0)
      its.peak.pending = Math.max(its.peak.pending, metrics.messages.pending)
    }
  }

  /** Waits until this number of processes runs, each for the `runs`-th time at least. */
  async running(count, runs = 1) {
    const ready = () => [...this.processes.values()].filter((its) => its.state === 'running' && its.runs >= runs).length >= count
    await waitFor(() => ready() || this.#isEnded, { timeoutMs: 60_000, message: () => `${count} processes: ${this.warnings.slice(-5)} ${this.lines}` })
    if (!ready()) throw new Error(`ended before ${count} processes ran: ${this.warnings.slice(-5)} ${this.lines}`)
  }

  pids() {
    return [...this.processes.values()].map(({ pid }) => pid)
  }

  /** @param {NodeJS.Signals} signal */
  signal(number, signal) {
    process.kill(this.processes.get(number).pid, signal)
  }

  /** Drains all; gives the exit code. */
  async stop() {
    if (!this.#isEnded) this.#child.kill('SIGTERM')
    return this.ended
  }

  /** Ends all at once: they end with the one that watches them. */
  kill() {
    this.#child.kill('SIGKILL')
  }
}

/**
 * Waits until this number of different numbers is in the tables, or until the time is over.
 *
 * @returns {Promise<{ rows: number, distinct: number, byServer: number[] }>}
 */
export async function arrival(servers, count, { timeoutMs = 60_000 } = {}) {
  let counted = await countAll(servers)
  await waitFor(
    async () => {
      counted = await countAll(servers)
      return counted.distinct >= count
    },
    { timeoutMs, intervalMs: 200, message: () => `${count} numbers: ${JSON.stringify(counted)}` },
  ).catch(() => {})
  return counted
}

/** CPU of processes, in percent of one core, from now until the returned function is called. */
export function cpuOf(pids) {
  const meters = pids.map((pid) => new Meter(pid))
  return () => meters.reduce((sum, meter) => sum + (meter.cpuPercent() ?? 0), 0)
}
