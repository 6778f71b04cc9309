import { createServer } from 'node:net'

// Below the ports that Linux, macOS and Windows give to outgoing connections. A server that is stopped and started
// again on a port of that range may find it taken by some client's end of a connection; and a client which keeps
// trying to connect to it while it is down can, on the loopback, connect to itself.
const FIRST = 20_000
const LAST = 32_000

/**
 * A port of 127.0.0.1 on which nothing listens now. Another program may be quicker: try again with another one then.
 *
 * @returns {Promise<number>}
 */
export async function freePort() {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST))
    if (await isFree(port)) return port
  }
  throw new Error(`no free port between ${FIRST} and ${LAST}`)
}

/**
 * @param {number} port of 127.0.0.1
 * @returns {Promise<boolean>}
 */
export function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
