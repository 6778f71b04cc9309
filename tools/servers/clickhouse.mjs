import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { chdbLibrary, clickHouseProgram } from './chdb.mjs'
import { writeClickHouseConfig } from './clickhouse-config.mjs'
import { ManagedProcess } from './managed-process.mjs'
import { Server, startServer } from './server.mjs'

/** @typedef {Record<string, string | number | boolean>} Settings */
/** @typedef {import('./clickhouse-config.mjs').Xml} Xml */

/** Whether CLICKHOUSE_URL names the server: it cannot be stopped and started then, nor be configured. */
export const externalClickHouse = Boolean(process.env.CLICKHOUSE_URL)

/**
 * Starts a real ClickHouse server, and waits until it answers. It ends when this process ends, at the latest.
 *
 * @param {{
 *   dir?: string,
 *   port?: number,
 *   settings?: Settings,
 *   config?: Record<string, Xml>,
 *   users?: Record<string, string | Record<string, Xml>>,
 * }} [options]
 *   `dir` keeps the data, default: a temporary directory; `port` of the HTTP interface, default: a free one;
 *   `settings` of every query; `config` as in ClickHouse's `config.xml`, such as `{ keep_alive_timeout: 3 }`;
 *   `users` beside `default` by name, each a password or all that `users.xml` says of one
 * @returns {Promise<ClickHouse>}
 */
export async function startClickHouse({ dir, port, settings = {}, config = {}, users = {} } = {}) {
  if (process.env.CLICKHOUSE_URL) return new ClickHouse(new URL(process.env.CLICKHOUSE_URL))

  const command = clickHouseProgram()
  const library = chdbLibrary()
  return startServer(port, (chosen) => {
    let data = ''
    const server = new ManagedProcess('clickhouse', (directory) => {
      data = resolve(dir ?? join(directory, 'data'))
      mkdirSync(data, { recursive: true })
      const file = writeClickHouseConfig(directory, { settings, config, users })
      const options = [`--config-file=${file}`, `--path=${data}`, `--http_port=${chosen}`, '--listen_host=127.0.0.1']
      return { command, args: [library, ...options] }
    })
    return new ClickHouse(new URL(`http://127.0.0.1:${chosen}`), server, data)
  })
}

/**
 * A server that this program did not start.
 *
 * @param {string} url
 */
export function connectClickHouse(url) {
  return new ClickHouse(new URL(url))
}

export class ClickHouse extends Server {
  /** The data directory; undefined for an external server. */
  dir

  /**
   * @param {URL} url
   * @param {ManagedProcess} [process]
   * @param {string} [dir]
   */
  constructor(url, process, dir) {
    super(url, process)
    this.dir = dir
  }

  /**
   * The rows of a SELECT. 64-bit integers come as numbers: select `toString(column)` where they may not fit.
   *
   * @param {string} sql without FORMAT
   * @param {Settings} [settings]
   * @returns {Promise<any[]>}
   */
  async query(sql, settings = {}) {
    const text = await this.#post(sql, { ...settings, default_format: 'JSONEachRow' })
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  }

  /**
   * Any statement whose result is of no interest; after an INSERT its data may follow in the same text.
   *
   * @param {string} sql
   * @param {Settings} [settings]
   */
  async command(sql, settings = {}) {
    await this.#post(sql, settings)
  }

  async isReady() {
    // Another ClickHouse on this port would answer `/ping` as well; the directory is ours alone.
    const [row] = await this.query("SELECT value FROM system.server_settings WHERE name = 'path'")
    return resolve(row.value) === this.dir
  }

  /**
   * @param {string} sql
   * @param {Settings} settings
   */
  async #post(sql, settings) {
    // Waiting for the end lets an error in the middle of the result be an error, not a line of it.
    const params = new URLSearchParams({ wait_end_of_query: '1' })
    for (const [name, value] of Object.entries(settings)) params.set(name, String(value))
    const response = await fetch(`${this.url}/?${params}`, {
      method: 'POST',
      headers: {
        // A connection that is kept would fail the first query after a restart.
        connection: 'close',
        'x-clickhouse-user': this.username ?? 'default',
        'x-clickhouse-key': this.password ?? '',
      },
      body: sql,
      signal: AbortSignal.timeout(60_000),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(text.trim())
    return text
  }
}
