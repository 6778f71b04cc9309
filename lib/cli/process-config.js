'use strict'

// The configuration of one of several processes that `millrace run --processes` starts from one file: what only one process may
// have, the directories and the client id, gets the number of the process.

const { join } = require('node:path')
const { MillraceError } = require('../error.js')

/** The largest number that `--processes` and `--process` take. */
const MAX_PROCESSES = 64

/**
 * The configuration of process `number`, from 1. `<spool.dir>/<number>`, `<deadLetters.dir>/<number>` and
 * `<mqtt.clientId>-<number>`; all else is the same.
 *
 * @param {any} config
 * @param {number} number
 */
function configOfProcess(config, number) {
  const { mqtt, spool, deadLetters } = config
  // Other kinds of values are for the engine to refuse.
  const numbered = (section) => typeof section?.dir === 'string' && { ...section, dir: join(section.dir, String(number)) }
  return {
    ...config,
    ...(typeof mqtt?.clientId === 'string' && { mqtt: { ...mqtt, clientId: `${mqtt.clientId}-${number}` } }),
    ...(numbered(spool) && { spool: numbered(spool) }),
    ...(numbered(deadLetters) && { deadLetters: numbered(deadLetters) }),
  }
}

/**
 * Refuses several processes that would each receive all messages.
 *
 * @throws {MillraceError} `CONFIG_INVALID`, `mqtt.sharedGroup`
 */
function checkShared(config, processes) {
  if (processes < 2 || config.mqtt?.sharedGroup !== undefined) return
  const path = 'mqtt.sharedGroup'
  const message = `${path}: is required with ${processes} processes: without it each of them receives every message`
  throw new MillraceError({ code: 'CONFIG_INVALID', message, path })
}

/** The client ids under which a configuration connects: none where the broker gives them. */
function clientIds({ mqtt: { clientId, connections = 1 } }) {
  if (clientId === undefined) return []
  if (connections === 1) return [clientId]
  return Array.from({ length: connections }, (_, i) => `${clientId}-${i + 1}`)
}

module.exports = { MAX_PROCESSES, checkShared, clientIds, configOfProcess }
