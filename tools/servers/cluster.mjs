import { startClickHouse } from './clickhouse.mjs'
import { freePort } from './free-port.mjs'

/**
 * Several ClickHouse servers with one database each that know each other as the shards of the cluster `all`, so that a
 * `Distributed(all, …)` table on each of them is one over all. There is no Keeper in them: tables are not replicated.
 *
 * @param {number} count
 * @returns {Promise<import('./clickhouse.mjs').ClickHouse[]>} in the order of the shards
 */
export async function startCluster(count) {
  /** @type {number[]} */
  const ports = []
  for (let i = 0; i < count; i++) ports.push(await freePort())
  const shard = ports.map((port) => ({ replica: { host: '127.0.0.1', port } }))
  /** @type {import('./clickhouse.mjs').ClickHouse[]} */
  const servers = []
  try {
    for (const port of ports) {
      const server = await startClickHouse({ config: { tcp_port: port, remote_servers: { all: { shard } } } })
      servers.push(server)
      await listen(server)
    }
  } catch (error) {
    for (const server of servers) await server.remove()
    throw error
  }
  return servers
}

/**
 * Starts a server of a cluster again: it does not listen for the others by itself.
 *
 * @param {import('./clickhouse.mjs').ClickHouse} server
 */
export async function restart(server) {
  await server.start()
  await listen(server)
}

/** @param {import('./clickhouse.mjs').ClickHouse} server */
function listen(server) {
  return server.command('SYSTEM START LISTEN TCP')
}
