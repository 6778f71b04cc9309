'use strict'

// `millrace replay`: runs replayDeadLetters() and prints its progress.

const api = require('../../index.js')
const { ConfigFile } = require('./config-file.js')
const { FAILED, OK, SIGNALS, UsageError, onSignal } = require('./exit.js')
const { Output, count } = require('./output.js')

/**
 * @param {string} file
 * @param {{ dir?: string, file?: string, table?: string, where?: string, json?: boolean }} options
 * @returns {Promise<number>} the exit code
 */
async function replay(file, options) {
  const source = new ConfigFile(file)
  const output = new Output({ json: options.json })
  const abort = new AbortController()
  let signalled
  const forget = onSignal((signal) => {
    signalled = signal
    abort.abort()
  })
  try {
    const report = await api.replayDeadLetters(source.config, letters(source.config, options), {
      signal: abort.signal,
      onProgress: (soFar) => output.status(sentence(soFar)),
      onWarning: ({ code, message }) => output.warn(message, { code }),
      onDeadLetters: (again) => {
        const [{ code, message, topic }] = again
        output.warn(`dead letters again: ${again.length}, the first from ${topic}: ${code}: ${message}`, {
          count: again.length,
        })
      },
    })
    output.status('')
    output.end()
    output.info(sentence(report), { report })
    return report.deadLettered + report.malformed > 0 ? FAILED : OK
  } catch (error) {
    output.end()
    if (!signalled) throw error.path?.startsWith('source') ? error : source.located(error)
    output.warn(`${signalled}: ended; the same command again goes on without doubling rows`, { signal: signalled })
    return SIGNALS[signalled]
  } finally {
    forget()
  }
}

/**
 * Where the dead letters are: where the options say, or else where the configuration keeps them.
 *
 * @param {any} config
 * @param {{ dir?: string, file?: string, table?: string, where?: string }} options
 */
function letters({ deadLetters }, { dir, file, table, where }) {
  if ([dir, file, table].filter((place) => place !== undefined).length > 1) {
    throw new UsageError('--dir, --file and --table: only one of them')
  }
  const isTable = table !== undefined || (dir === undefined && file === undefined && deadLetters?.table !== undefined)
  if (where !== undefined && !isTable) throw new UsageError('--where: needs a table')
  if (dir !== undefined) return { dir }
  if (file !== undefined) return { file }
  if (table !== undefined) return { table, where }
  if (deadLetters?.dir) return { dir: deadLetters.dir }
  if (deadLetters?.table) return { table: deadLetters.table, where }
  throw new UsageError('the configuration has no deadLetters: say --dir, --file or --table')
}

function sentence({ read, inserted, deadLettered, dropped, malformed, rows }) {
  const parts = [`${count(read)} letters read`, `${count(inserted)} inserted as ${count(rows)} rows`]
  parts.push(`${count(deadLettered)} dead letters again`)
  if (dropped > 0) parts.push(`${count(dropped)} dropped`)
  if (malformed > 0) parts.push(`${count(malformed)} malformed`)
  return parts.join(', ')
}

module.exports = { replay }
