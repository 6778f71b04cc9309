'use strict'

// `millrace run`: runs the pipeline of a configuration file until a signal, or until it fails.

const { createInterface } = require('node:readline')
const { setTimeout } = require('node:timers/promises')
const api = require('../../index.js')
const { holdClientIds } = require('./client-id.js')
const { ConfigFile } = require('./config-file.js')
const { CommandError, FAILED, NOT_DRAINED, OK, USAGE, onSignal } = require('./exit.js')
const { Output, statusLine } = require('./output.js')
const { clientIds, configOfProcess } = require('./process-config.js')

const STATUS_MS = 1_000
/** Between two attempts to start, with --wait: doubled each time, up to the longest. */
const WAIT_MS = { min: 500, max: 30_000 }
/** Faults of a start that end by themselves. */
const PASSING = ['CLICKHOUSE_UNREACHABLE', 'MQTT_UNREACHABLE']
/** Dead letters printed per event; all of them are stored where `deadLetters` says. */
const SHOWN_LETTERS = 3

/**
 * @param {string} file
 * @param {{
 *   http?: { host: string, port: number }, drainTimeout: number, logInterval: number, wait?: boolean, json?: boolean,
 *   process?: number, watched?: boolean, leave?: boolean,
 * }} options `process`: it is that one of several. `watched`: `millrace run --processes` has started it
 * @returns {Promise<number>} the exit code
 */
async function run(file, options) {
  const source = new ConfigFile(file)
  const { process: number } = options
  const config = number === undefined ? source.config : configOfProcess(source.config, number)
  let pipeline
  try {
    pipeline = new api.Pipeline(config)
  } catch (error) {
    throw source.located(error)
  }
  const output = new Output({ json: options.json, fields: number === undefined ? {} : { process: number } })
  const exitCode = new ExitCode()
  printEvents(pipeline, output, exitCode)

  const abort = new AbortController()
  let leaves = false
  const drain = (/** @type {string | undefined} */ signal) => {
    // Where all processes are drained together, the broker keeps what comes for the next start.
    leaves = Boolean(options.leave && signal)
    exitCode.decide(OK)
    abort.abort()
  }
  const forget = onStop(options.watched, (signal) => {
    if (signal) output.info(`${signal}: draining; a second one ends at once`, { signal })
    drain(signal)
  })
  const report = setInterval(
    () => (output.isTerminal ? showStatus(pipeline, output) : printMetrics(pipeline, output)),
    output.isTerminal ? STATUS_MS : options.logInterval,
  )
  let http
  let release
  try {
    // Before the start, which may take a while: the probes answer "alive" and "not ready" meanwhile.
    http = options.http && (await serve(pipeline, options.http, number))
    if (http) output.info(`listening on ${http.url}`, { url: http.url })
    release = await holdClientIds(config.mqtt.url, clientIds(config)).catch((error) => {
      reportFailure(error, source, output, exitCode)
    })
    if (release) await start(pipeline, source, abort.signal, output, exitCode, options.wait)
    const code = await exitCode.decided
    return (await stop(pipeline, options.drainTimeout, leaves, output)) || code
  } finally {
    clearInterval(report)
    output.end()
    await http?.close()
    release?.()
    forget()
  }
}

/**
 * Calls `stop` once when the process is to drain. A watched process is asked to by its input, which also ends when the watching
 * process dies; a terminal's SIGINT, which all processes get, is the business of that one.
 *
 * @param {boolean | undefined} isWatched
 * @param {(signal?: string) => void} stop
 * @returns {() => void} stops listening
 */
function onStop(isWatched, stop) {
  if (!isWatched) return onSignal(stop)
  const ignore = () => {}
  process.on('SIGINT', ignore)
  const onTerminate = () => stop('SIGTERM')
  process.once('SIGTERM', onTerminate)
  const input = createInterface({ input: process.stdin })
  input.once('line', () => stop())
  input.once('close', () => stop())
  return () => {
    process.off('SIGINT', ignore)
    process.off('SIGTERM', onTerminate)
    input.close()
    process.stdin.unref?.()
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

async function serve(pipeline, address, number) {
  try {
    return await api.serveHttp(pipeline, { ...address, ...(number !== undefined && { labels: { process: String(number) } }) })
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
    reportFailure(error, source, output, exitCode)
  }
}

function reportFailure(error, source, output, exitCode) {
  // An error about a table also has a place in the file.
  const place = error.path && source.placeOf(error.path)
  output.error(place ? `${place}: ${error.message}` : error.message, { code: error.code, path: error.path })
  exitCode.decide(error.code === 'CONFIG_INVALID' ? USAGE : FAILED)
}

async function stop(pipeline, timeoutMs, leave, output) {
  try {
    const { messages } = await pipeline.stop({ timeoutMs, leave })
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
