// The fleet of demo and benchmarks: its tables, the service that fills them, and the simulated drivers.

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Program } from './program.mjs'

const EXAMPLE = new URL('../../examples/fleet/', import.meta.url)

/** A process of a runtime that does nothing: what memory is compared with. */
export const IDLE = "console.log('{\"event\":\"started\"}'); setInterval(() => {}, 1000)"

/**
 * Makes the fleet's tables in a database of their own, which is dropped with the scope: other programs
 * may use the server. `positions` has a further column for the numbers that the load generator gives
 * its messages.
 *
 * @param {import('./scope.mjs').Scope} scope
 * @param {import('../../tools/servers/clickhouse.mjs').ClickHouse} clickhouse
 * @param {string[]} [files] of the example
 * @returns {Promise<string>} the name of the database
 */
export async function createTables(scope, clickhouse, files = ['tables.sql']) {
  const database = `fleet_${process.pid}`
  await clickhouse.command(`CREATE DATABASE ${database}`)
  scope.defer(() => clickhouse.command(`DROP DATABASE ${database} SYNC`))
  const texts = await Promise.all(files.map((file) => readFile(new URL(file, EXAMPLE), 'utf8')))
  const sql = texts.join('\n')
  const statements = sql.replaceAll(/^\s*--.*$/gm, '').split(';').filter((statement) => statement.trim())
  for (const statement of statements) await clickhouse.command(statement, { database })
  await clickhouse.command('ALTER TABLE positions ADD COLUMN seq UInt64', { database })
  return database
}

/**
 * Counts which of the messages 0 to `sent - 1` have a row. A difference of two counts would not do: at
 * QoS 1 one message that came twice would hide another that is lost.
 *
 * @param {import('../../tools/servers/clickhouse.mjs').ClickHouse} clickhouse
 * @param {string} database
 * @param {number} sent
 */
export async function countRows(clickhouse, database, sent) {
  const [{ rows, distinct }] = await clickhouse.query(
    // Exact as uniqExact is, and of numbers side by side it needs next to no memory.
    `SELECT count() AS rows, groupBitmap(seq) AS distinct FROM ${database}.positions`,
  )
  return { rows, lost: sent - distinct, doubled: rows - distinct }
}

/**
 * Starts `examples/fleet/service.mjs`, or another program, and, to compare its memory with, the same runtime with nothing to do.
 *
 * @param {import('./scope.mjs').Scope} scope
 * @param {Record<string, string>} env of the service
 * @param {string} [runtime] Node.js or Bun
 * @param {string} [script]
 */
export async function startService(scope, env, runtime = process.execPath, script = fileURLToPath(new URL('service.mjs', EXAMPLE))) {
  const service = scope.own(new Program('the service', runtime, [script], env), 'stop')
  const idle = scope.own(new Program('the idle process', runtime, ['-e', IDLE]), 'stop')
  await Promise.all([service.next('started'), idle.next('started')])
  return { service, idle }
}

/**
 * Starts the load generator and waits until it is connected, or listens; `writeLine()` lets it send. Its messages are
 * numbered.
 *
 * @param {import('./scope.mjs').Scope} scope
 * @param {string} command
 * @param {Record<string, string | number>} options
 */
export async function startLoad(scope, command, options) {
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  const load = scope.own(new Program('the load generator', command, ['--wait', '--numbered', ...args]), 'stop')
  await load.next('ready')
  return load
}

/**
 * Waits until the service has received `messages`, or receives no more, and stops it: then everything it has received
 * is in ClickHouse.
 *
 * @param {Program} service
 * @param {number} messages
 * @returns {Promise<any>} its last metrics
 */
export async function drain(service, messages) {
  let before = -1
  for (;;) {
    const { received } = (await service.next('metrics')).messages
    if (received >= messages || received === before) break
    before = received
  }
  const stopped = service.next('stopped')
  await service.stop(60_000)
  return stopped
}
