'use strict'

// The HTTP server of several processes: one port for all. Its own pages have the sums; below `/processes/<number>/` are the pages of
// each process, which listens on a free port of the loopback.

const { listen } = require('../observe/http.js')
const { processesHandler } = require('../observe/processes.js')

/**
 * @param {{ all: { number: number, url?: string, state: string, restarts: number }[] }} fleet
 * @param {string | undefined} name the pipeline's
 * @param {{ host: string, port: number }} address
 */
function serveProcesses(fleet, name, address) {
  return listen(({ hosts }) => processesHandler(fleet.all, name, { hosts }), address)
}

module.exports = { serveProcesses }
