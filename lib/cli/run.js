'use strict'

// `millrace run`: runs the pipeline of a configuration file until a signal, or until it fails.

const { setTimeout } = require('node:timers/promises')
const api = require('../../index.js')
const { ConfigFile } = require('./config-file.js')
const { CommandError, FAILED, NOT_DRAINED, OK, USAGE, onSignal } = require('./exit.js')
const { Output, statusLine } = require('./output.js')

const STATUS_MS = 1_000
/** Between two attempts to start, with --wait: doubled each time, up to the longest. */
const WAIT_MS = { min: 500, max: 30_000 }
/** Faults of a start that end by themselves. */
const PASSING = ['CLICKHOUSE_UNREACHABLE', 'MQTT_UNREACHABLE']
/** Dead letters printed per event; all of them are stored where `deadLetters` says. */
const SHOWN_LETTERS = 3

/**
 * @param {string} file
 * @param {{ http?: { host: string, port: number }, drainTimeout: number, logInterval: number, wait?: boolean, json?: boolean }} options
 * @returns {Promise<number>} the exit code
 */
async function run(file, options) {
  const source = new ConfigFile(file)
  let pipeline
  try {
    pipeline = new api.Pipeline(source.config)
  } catch (error) {
    throw source.located(error)
  }
  const output = new Output({ json: options.json })
  const exitCode = new ExitCode()
  printEvents(pipeline, output, exitCode)

  const abort = new AbortController()
  const forget = onSignal((signal) => {
    output.info(`${signal}: draining; a second one ends at once`, { signal })
    exitCode.decide(OK)
    abort.abort()
  })
  const report = setInterval(
    () => (output.isTerminal ? showStatus(pipeline, output) : printMetrics(pipeline, output)),
    output.isTerminal ? STATUS_MS : options.logInterval,
  )
  let http
  try {
    // Before the start, which may take a while: the probes answer "alive" and "not ready" meanwhile.
    http = options.http && (await serve(pipeline, options.http))
    if (http) output.info(`listening on ${http.url}`, { url: http.url })
    await start(pipeline, source, abort.signal, output, exitCode, options.wait)
    const code = await exitCode.decided
    return (await stop(pipeline, options.drainTimeout, output)) || code
  } finally {
    clearInterval(report)
    output.end()
    await http?.close()
    forget()
  }
}

/** The exit code of the command: the first call of `decide` settles it. */
class ExitCode {
  /** @type {(code: number) => void} */
  decide = () => {}
  /** @type {Promise<number>} */
  decided = new Promise((resolve) => (this.decide = resolve))
}

function printEvents(pipeline, output, exitCode) {
  pipeline.on('state', (state, previous) => output.info(state, { state, previous }))
  pipeline.on('warning', ({ code, message }) => output.warn(message, { code }))
  pipeline.on('deadLetters', (letters) => {
    const shown = letters.slice(0, SHOWN_LETTERS).map(({ route, topic, code, message }) => ({ route, topic, code, message }))
    const [{ code, message, topic }] = letters
    output.warn(`dead letters: ${letters.length}, the first from ${topic}: ${code}: ${message}`, {
      count: letters.length,
      letters: shown,
    })
  })
  pipeline.on('error', (error) => {
    output.error(error.message, { code: error.code, path: error.path })
    exitCode.decide(FAILED)
  })
}

function showStatus(pipeline, output) {
  output.status(statusLine(pipeline.metrics()))
}

function printMetrics(pipeline, output) {
  output.info('metrics', { metrics: pipeline.metrics() })
}

async function serve(pipeline, address) {
  try {
    return await api.serveHttp(pipeline, address)
  } catch (error) {
    throw new CommandError(`--http: ${error.message}`)
  }
}

async function start(pipeline, source, signal, output, exitCode, waits = false, waitMs = WAIT_MS.min) {
  try {
    await pipeline.start({ signal })
  } catch (error) {
    if (signal.aborted) return
    if (waits && PASSING.includes(error.code)) {
      output.warn(`${error.message}; starting again in ${waitMs} ms`, { code: error.code, retryInMs: waitMs })
      await setTimeout(waitMs, undefined, { signal }).catch(() => {})
      if (signal.aborted) return
      return start(pipeline, source, signal, output, exitCode, waits, Math.min(2 * waitMs, WAIT_MS.max))
    }
    // An error about a table also has a place in the file.
    const place = error.path && source.placeOf(error.path)
    output.error(place ? `${place}: ${error.message}` : error.message, { code: error.code, path: error.path })
    exitCode.decide(error.code === 'CONFIG_INVALID' ? USAGE : FAILED)
  }
}

async function stop(pipeline, timeoutMs, output) {
  try {
    const { messages } = await pipeline.stop({ timeoutMs })
    if (messages.pending > 0) {
      output.info(`${messages.pending} messages are in the spool, for the next start`, { pending: messages.pending })
    }
  } catch (error) {
    output.error(error.message, { code: error.code })
    return error.code === 'STOP_TIMEOUT' ? NOT_DRAINED : FAILED
  } finally {
    if (output.isTerminal) showStatus(pipeline, output)
    else printMetrics(pipeline, output)
  }
  return OK
}

module.exports = { run }
