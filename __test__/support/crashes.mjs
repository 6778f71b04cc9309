// A consuming process that is killed again and again, at random instants, while ClickHouse and the broker come and go.
// In the end each number that the publisher saw acknowledged is in the table, once.
//
// It begins with some thousand messages: redeliveries are recognised only after the use of packet ids by the broker is known
// (src/core/ack_history.rs).

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startBroker, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { Numbers } from './numbers.mjs'
import { SORTED } from './programs/sorts-numbers.mjs'
import { Random } from './random.mjs'

const SORTS = fileURLToPath(new URL('programs/sorts-numbers.mjs', import.meta.url))
const PROGRAM = fileURLToPath(new URL('programs/consumes.mjs', import.meta.url))
/** Under which each number is in the table once. Small segments, so that there are many. */
export const PROMISED = { spool: { segmentBytes: 1 << 20 } }
/** How many messages come before the first kill. */
const BEFORE = 2_000
/** The longest that a process may run, and a server may be down. */
const LIFE_MS = 2_000
const AWAY_MS = 2_000
/** How long everything may take to arrive when nothing fails any more. */
const DRAIN_MS = 60_000

const GROWING = 'number UInt64, name String'
const growing = (/** @type {number} */ number) => ({
  number,
  kind: number % 2 === 0 ? 'a' : 'b',
  [`field_${Math.floor(number / 500) % 8}`]: number,
})
const BY_TOPIC = { topic: 'numbers/{part}', table: 'part_{part}', tables: { allow: 'part_*' } }
const PAIRS = 'pair UInt64, first Nullable(UInt64), second Nullable(UInt64)'
/** A number and the one that comes 50 later are a pair. */
const pairOf = (/** @type {number} */ number) => ({
  pair: Math.floor(number / 100) * 50 + (number % 50),
  [number % 100 < 50 ? 'first' : 'second']: number,
})

/**
 * @typedef {object} Outcome
 * @property {number} seed
 * @property {number} kills of the consuming process
 * @property {number} running how many of these were after its start
 * @property {number} clickhouse how often ClickHouse was ended and started again, by SIGTERM or SIGKILL
 * @property {number} broker how often the broker was, by SIGTERM: killed, it loses what it had acknowledged
 * @property {number} published
 * @property {number} acknowledged
 * @property {number} rows
 * @property {string[]} added columns
 * @property {number} mistaken
 * @property {number[]} missing numbers that were acknowledged and are not there
 * @property {number[]} doubled numbers that are there more than once
 * @property {number} seconds
 */

/**
 * @param {{ kills: number, seed?: number, qos?: 1 | 2, perSecond?: number, tables?: string[], shards?: number, transform?: 'function' | 'module', gathers?: boolean, chooses?: boolean, adds?: boolean, grows?: boolean, config?: any, log?: (text: string) => void }} options
 *   `config` of the pipeline, beside servers and route; `perSecond` messages; `qos` of publisher and pipeline; `tables` that
 *   each have all numbers, by a route of its own: what is missing or doubled in one of them is; `shards` are the servers that the
 *   numbers are divided among; with a `transform` the first route
 *   drops, rejects and emits numbers, as programs/sorts-numbers.mjs says; `gathers`: two numbers each become one row, and `rows`
 *   counts these; `chooses`: numbers choose one of three tables by their topic; `adds`: the program adds the route after its start,
 *   and numbers that come sooner are dead letters; `grows`: the table gets columns for fields that come one after the other, and one
 *   is filled from a lookup: `added` has the columns, `mistaken` the rows that lack the value of the lookup
 * @returns {Promise<Outcome>}
 */
export async function crash({ kills, seed = Random.seed(), qos = 1, perSecond = 1_000, tables = ['numbers'], shards = 1, transform, gathers = false, chooses = false, adds = false, grows = false, config = {}, log = () => {} }) {
  const started = performance.now()
  const random = new Random(seed)
  const directory = mkdtempSync(join(tmpdir(), 'millrace-crash-'))
  const servers = []
  for (let i = 0; i < shards; i++) servers.push(await startClickHouse())
  const query = async (/** @type {string} */ sql) => (await Promise.all(servers.map((server) => server.query(sql)))).flat()
  const broker = await startBroker({ persistence: true, config: ['max_inflight_messages 0'] })
  let consumer
  let numbers
  try {
    for (const table of transform ? [...tables, 'emitted'] : chooses ? ['part_0', 'part_1', 'part_2'] : tables) {
      for (const server of servers) {
        await server.command(`CREATE TABLE ${table} (${gathers ? PAIRS : grows ? GROWING : 'number UInt64'}) ENGINE = MergeTree ORDER BY ${gathers ? 'pair' : 'number'}
          SETTINGS non_replicated_deduplication_window = 10000`)
      }
    }
    const pipeline = {
      mqtt: { url: broker.url, clientId: 'crashes', qos, reconnect: { minMs: 20, maxMs: 200 }, ...config.mqtt },
      clickhouse: {
        url: servers.map(({ url }) => url),
        ...(shards > 1 && { shards: { key: ['number'] } }),
        retry: { minMs: 20, maxMs: 200 },
      },
      routes: chooses ? [BY_TOPIC] : tables.map((table, i) => ({
        topic: 'numbers',
        table,
        ...(grows && { schema: 'add-columns', addColumns: { afterMessages: 3 }, columns: { name: { lookup: 'names', key: 'kind' } } }),
        ...(gathers ? { pivot: { key: 'pair', windowMs: 300 } } : { continue: i + 1 < tables.length }),
      })),
      batch: { maxRows: 500, maxDelayMs: 100 },
      ...((transform || adds) && { deadLetters: { table: 'letters' } }),
      ...(grows && { lookups: { names: { entries: { a: 'A', b: 'B' } } } }),
      ...(config.spool && { spool: { dir: join(directory, 'spool'), ...config.spool } }),
    }
    if (transform) Object.assign(pipeline.routes[0], { emits: ['emitted'], ...(transform === 'module' && { transform: SORTS }) })
    // From here on the broker keeps for the session what comes.
    const addedRoutes = adds ? pipeline.routes.splice(0, 1, /** @type {any} */ ({ topic: 'others', table: tables[0] })) : []
    const consume = () => new Consumer({ config: pipeline, added: addedRoutes, hasFunction: transform === 'function' })
    consumer = consume()
    await consumer.running()
    numbers = new Numbers({ url: broker.url, topic: chooses ? (number) => `numbers/${number % 3}` : 'numbers', qos, perSecond, ...(gathers && { payload: pairOf }), ...(grows && { payload: growing }) })
    await waitFor(() => numbers.acknowledged.size >= BEFORE, { timeoutMs: 30_000, message: `${BEFORE} messages` })

    const counts = { kills: 0, running: 0, clickhouse: 0, broker: 0 }
    let goes = true
    const killing = (async () => {
      while (counts.kills < kills) {
        await Promise.race([sleep(random.below(LIFE_MS)), consumer.ended])
        if (await consumer.kill()) {
          counts.kills++
          if (consumer.ran) counts.running++
          if (counts.kills % 10 === 0) log(`${counts.kills} kills, ${numbers.acknowledged.size} messages acknowledged`)
        }
        consumer = consume()
      }
    })()
    const chaos = (async () => {
      // Numbers of its own: the order in which the two draw depends on the machine.
      const drawn = new Random(seed + 1)
      while (goes) {
        await sleep(1_000 + drawn.below(4_000))
        const which = drawn.chance(0.5) ? 'clickhouse' : 'broker'
        const server = which === 'clickhouse' ? servers[drawn.below(servers.length)] : broker
        await (which === 'clickhouse' && drawn.chance(0.5) ? server.kill() : server.stop())
        await sleep(drawn.below(AWAY_MS))
        await server.start()
        counts[which]++
      }
    })()
    await killing
    goes = false
    await chaos
    await numbers.stop()

    const { acknowledged, published } = numbers
    /** The tables, which of the numbers each has, and how a row says its number. */
    const all = Object.fromEntries(tables.map((table) => [table, () => true]))
    const letters = "SELECT JSONExtractUInt(payload, 'number') AS number FROM letters"
    const places = Object.entries(transform ? { ...all, ...SORTED } : all).map(([table, has]) => ({
      table,
      has,
      from: gathers
        ? `(SELECT arrayJoin([first, second]) AS number FROM ${table}) WHERE number IS NOT NULL`
        : chooses
          ? "merge(currentDatabase(), '^part_')"
          : adds
            ? `(SELECT number FROM ${table} UNION ALL ${letters})`
            : table,
      number: table === 'letters' ? "JSONExtractUInt(payload, 'number')" : 'number',
    }))
    const arrived = async () => {
      const counts = places.map(async ({ from, number, has }) => {
        // No number is on two shards.
        const counted = await query(`SELECT uniqExact(${number}) AS n FROM ${from}`)
        return counted.reduce((sum, { n }) => sum + Number(n), 0) - [...acknowledged].filter(has).length
      })
      return Math.min(...(await Promise.all(counts)))
    }
    await waitFor(
      async () => {
        if (!consumer.alive) consumer = consume()
        return (await arrived()) >= 0
      },
      { timeoutMs: DRAIN_MS, intervalMs: 100, message: () => `the rest arriving; ${consumer.errors.slice(-5)}` },
    ).catch((error) => log(String(error)))
    await consumer.stop()

    const found = []
    for (const { table, from, number, has } of places) {
      const there = new Map()
      for (const { n } of await query(`SELECT ${number} AS n FROM ${from}`)) {
        there.set(Number(n), (there.get(Number(n)) ?? 0) + 1)
      }
      found.push({ table, has, there })
    }
    const rows = found.filter(({ table }) => table !== 'letters')
    const [grown] = grows ? await query(`SELECT countIf(name != if(number % 2 = 0, 'A', 'B')) AS mistaken FROM ${tables[0]}`) : []
    // A dead letter whose acknowledgement was lost comes again, and by then a route may take it: what is once are the rows.
    const twice = adds ? await query(`SELECT number FROM ${tables[0]} GROUP BY number HAVING count() > 1`) : undefined
    const added = grows ? await query(`SELECT name FROM system.columns WHERE table = '${tables[0]}' AND comment = 'added by millrace'`) : []
    const pairs = gathers ? Number((await query(`SELECT count() AS n FROM ${tables[0]}`))[0].n) : undefined
    return {
      seed,
      ...counts,
      published,
      acknowledged: acknowledged.size,
      added: added.map(({ name }) => name),
      mistaken: Number(grown?.mistaken ?? 0),
      rows: pairs ?? rows.flatMap(({ there }) => [...there.values()]).reduce((sum, count) => sum + count, 0),
      missing: [...acknowledged].filter((number) => found.some(({ has, there }) => has(number) && !there.has(number))),
      doubled: twice?.map(({ number }) => Number(number)) ?? found.flatMap(({ there }) => [...there].filter(([, count]) => count > 1).map(([number]) => number)),
      seconds: (performance.now() - started) / 1000,
    }
  } finally {
    await numbers?.stop()
    await consumer?.kill()
    // They end with this process at the latest; a machine that is busy must not take the outcome away.
    for (const server of [broker, ...servers]) await server.remove().catch((error) => log(String(error)))
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The process that is killed. One that cannot start because a server is away ends by itself. */
export class Consumer {
  alive = true
  /** Whether its pipeline has started. */
  ran = false
  errors = []
  /** Called with each line of its warnings. */
  heard = (/** @type {string} */ _) => {}

  #child

  constructor(config) {
    this.#child = spawn(process.execPath, [PROGRAM, JSON.stringify(config)], { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child.stdin.on('error', () => {})
    createInterface({ input: this.#child.stdout }).on('line', () => (this.ran = true))
    createInterface({ input: this.#child.stderr }).on('line', (line) => {
      this.errors.push(line)
      this.heard(line)
    })
    this.ended = new Promise((resolve) => {
      this.#child.once('close', () => {
        this.alive = false
        resolve(undefined)
      })
    })
  }

  async running() {
    await waitFor(() => this.ran, { timeoutMs: 30_000, message: () => `a consumer: ${this.errors.join('\n')}` })
  }

  /** @returns {Promise<boolean>} whether it was still there to be killed */
  async kill() {
    const killed = this.alive && this.#child.kill('SIGKILL')
    await this.ended
    return killed && this.#child.signalCode === 'SIGKILL'
  }

  async stop() {
    this.#child.stdin.write('stop\n')
    await this.ended
  }
}
