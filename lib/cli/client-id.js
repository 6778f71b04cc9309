'use strict'

// A client id is in use on this machine while a process listens on a socket that is named after it. A broker ends the older of two
// connections with one client id, so that two processes would take it from each other for ever. Processes of other machines, and
// of other containers, are not seen: there the warning SESSION_TAKEN_OVER reports it.

const { createHash } = require('node:crypto')
const { rmSync } = require('node:fs')
const { connect, createServer } = require('node:net')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { MillraceError } = require('../error.js')

/**
 * Holds these client ids at a broker until the returned function is called, or the process is killed. Until then the process stays
 * alive.
 *
 * @param {string | string[]} broker `mqtt.url`
 * @param {string[]} ids
 * @returns {Promise<() => void>}
 * @throws {MillraceError} `CLIENT_ID_IN_USE`
 */
async function holdClientIds(broker, ids) {
  const servers = []
  const release = () => servers.forEach((server) => server.close())
  for (const id of ids) {
    const path = socketOf(broker, id)
    if (await answers(path)) {
      release()
      const message = `mqtt.clientId: another process of this machine is connected as ${JSON.stringify(id)}`
      throw new MillraceError({ code: 'CLIENT_ID_IN_USE', message, path: 'mqtt.clientId' })
    }
    // A process that was killed leaves its socket.
    if (process.platform !== 'win32') rmSync(path, { force: true })
    const server = await listening(path)
    if (server) servers.push(server)
  }
  return release
}

function socketOf(broker, id) {
  const name = createHash('sha256').update(JSON.stringify([broker, id])).digest('hex').slice(0, 24)
  return process.platform === 'win32' ? `\\\\.\\pipe\\millrace-${name}` : join(tmpdir(), `millrace-${name}.sock`)
}

/** @returns {Promise<boolean>} whether a process listens there */
function answers(path) {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // The other process closes the connection, which Bun may report as an error before the connection.
    socket.once('error', (/** @type {NodeJS.ErrnoException} */ { code }) => resolve(code === 'ECONNRESET'))
  })
}

/** A server on a socket; undefined where none can be made: the check is a help, and its absence no fault. */
function listening(path) {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', () => resolve(undefined))
    server.listen(path, () => resolve(server))
  })
}

module.exports = { holdClientIds }
