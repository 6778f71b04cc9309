// A broker and a ClickHouse for a test file. `npm test` starts one of each and names them in the environment: files run
// beside each other on the same two servers, each with a database of its own, and with topics and client ids that no other
// test uses. A file whose tests stop a server, or that runs alone, starts its own.

import { randomBytes } from 'node:crypto'
import { after, before } from 'node:test'
import { Pipeline } from '../../index.js'
import {
  OPEN_BROKER,
  connectBroker,
  connectClickHouse,
  externalClickHouse,
  startBroker,
  startClickHouse,
  waitFor,
} from '../../tools/servers/index.mjs'
import { Publisher } from './publisher.mjs'

export { OPEN_BROKER }

const STARTING_MS = 60_000
/** Set by scripts/test.mjs. */
const { MILLRACE_TEST_CLICKHOUSE_URL: SHARED_CLICKHOUSE, MILLRACE_TEST_MQTT_URL: SHARED_BROKER } = process.env
/**
 * Bun loads this file anew for each test file, in the same process: its pid alone would not distinguish
 * the files.
 */
const FILE = randomBytes(4).toString('hex')
let serial = 0

/** A name that nothing else has: a table, a client id, the first level of a topic. */
export function unique(word) {
  return `${word}_${FILE}_${++serial}`
}

/**
 * Has both servers ready before the tests of this file, and ends afterwards what it started.
 *
 * @param {{ ownClickHouse?: boolean }} [options] `ownClickHouse`: the tests stop it
 */
export function useServers(options) {
  const servers = new Servers(options)
  before(() => servers.start(), { timeout: STARTING_MS })
  after(() => servers.stop(), { timeout: STARTING_MS })
  return servers
}

class Servers {
  clickhouse
  broker
  database = unique('test')
  #sharesClickHouse

  constructor({ ownClickHouse = false } = {}) {
    this.#sharesClickHouse = Boolean(SHARED_CLICKHOUSE) && !ownClickHouse
  }

  async start() {
    this.clickhouse = this.#sharesClickHouse ? connectClickHouse(SHARED_CLICKHOUSE) : await startClickHouse()
    await this.clickhouse.command(`CREATE DATABASE ${this.database}`)
    this.broker = SHARED_BROKER ? connectBroker(SHARED_BROKER) : await startBroker({ config: OPEN_BROKER })
  }

  async stop() {
    await this.broker?.remove()
    const isKept = externalClickHouse || this.#sharesClickHouse
    if (isKept) await this.clickhouse?.command(`DROP DATABASE ${this.database}`)
    await this.clickhouse?.remove()
  }

  /**
   * Creates a table of this file's database and returns its name. `settings` are those of the CREATE, `storage` those
   * of the MergeTree.
   */
  async table(columns, { engine = 'MergeTree', order = 'tuple()', settings = {}, storage = {} } = {}) {
    const table = unique('table')
    const all = Object.entries({ non_replicated_deduplication_window: 10_000, ...storage })
    await this.command(
      `CREATE TABLE ${table} (${columns}) ENGINE = ${engine} ORDER BY ${order}
      SETTINGS ${all.map(([name, value]) => `${name} = ${value}`).join(', ')}`,
      settings,
    )
    return table
  }

  /** Rows of a SELECT; 64-bit integers are strings. Tables without a database are this file's. */
  rows(sql, settings = {}) {
    return this.clickhouse.query(sql, {
      database: this.database,
      output_format_json_quote_64bit_integers: 1,
      ...settings,
    })
  }

  async count(table) {
    return Number((await this.rows(`SELECT count() AS rows FROM ${table}`))[0].rows)
  }

  /** How many rows a table has, and how many different values of `column` are in them. */
  async counted(table, column = 'seq') {
    const [{ rows, different }] = await this.rows(
      `SELECT count() AS rows, uniqExact(${column}) AS different FROM ${table}`,
    )
    return { rows: Number(rows), different: Number(different) }
  }

  command(sql, settings = {}) {
    return this.clickhouse.command(sql, { database: this.database, ...settings })
  }

  /**
   * A configuration for these servers, with short limits so that tests don't wait.
   *
   * @param {any} config options to change or to add
   * @returns {any}
   */
  config({ mqtt, clickhouse, batch, ...rest }) {
    return {
      name: unique('pipeline'),
      mqtt: { url: this.broker.url, ...mqtt },
      clickhouse: { ...this.#access(), database: this.database, ...clickhouse },
      batch: { maxDelayMs: 50, ...batch },
      metricsIntervalMs: 50,
      ...rest,
    }
  }

  #access() {
    const { url, username, password } = this.clickhouse
    return { url, username, ...(password && { password }) }
  }

  /** A pipeline on these servers, stopped when the test ends. */
  pipeline(t, config) {
    const pipeline = new Pipeline(this.config(config))
    t.after(() => endPipeline(pipeline))
    return pipeline
  }

  /** The same, started. */
  async started(t, config) {
    const pipeline = this.pipeline(t, config)
    await pipeline.start()
    return pipeline
  }

  /**
   * mqtt.js clients, closed when the test ends.
   *
   * @param {any} options those of `Publisher.open`
   */
  async publisher(t, options = {}) {
    const publisher = await Publisher.open({ url: this.broker.url, ...options })
    t.after(() => publisher.close())
    return publisher
  }
}

/** Ends a pipeline whatever its state; for tests that assert on `stop()` themselves this is a second call. */
export async function endPipeline(pipeline) {
  try {
    await pipeline.stop({ timeoutMs: 2_000 })
  } catch (error) {
    if (error.code !== 'STOP_TIMEOUT' && error.code !== 'INVALID_STATE') throw error
  }
}

/**
 * Waits until the pipeline has received `count` messages and all of them are settled. Where that takes too long, the
 * `warnings` it gave may say why.
 */
export async function settled(pipeline, count, { timeoutMs = 30_000, warnings = [] } = {}) {
  await received(pipeline, count, { timeoutMs })
  let isFlushed = false
  const flushed = pipeline.flush().finally(() => (isFlushed = true))
  const message = () => `a flush; ${JSON.stringify(pipeline.metrics().messages)} ${JSON.stringify(warnings.slice(-3))}`
  await Promise.race([flushed, waitFor(() => isFlushed, { timeoutMs, message })])
}

export async function received(pipeline, count, { timeoutMs = 30_000 } = {}) {
  await waitFor(() => pipeline.metrics().messages.received >= count, {
    timeoutMs,
    message: () => `${count} messages received: ${JSON.stringify(pipeline.metrics().messages)}`,
  })
}

/** Waits until a listener that collects 'deadLetters' into `letters` has all that were counted. */
export async function heard(pipeline, letters) {
  await waitFor(() => letters.length >= pipeline.metrics().messages.deadLettered, {
    message: () => `${letters.length} dead letters heard of ${pipeline.metrics().messages.deadLettered}`,
  })
}

/** Everything that one event of a pipeline brought so far, and from now on. */
export function collect(pipeline, event) {
  const collected = []
  pipeline.on(event, (item) => collected.push(...(Array.isArray(item) ? item : [item])))
  return collected
}
