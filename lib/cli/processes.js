'use strict'

// `millrace run --processes n`: starts n processes of one configuration and watches them. A process that dies is started again, with
// back-off; a first signal drains all, a second one ends all at once. Each process is `millrace run --process <number>` with pipes
// for its input and output: it writes JSON lines, which are printed here, and drains when its input ends, so that no process outlives
// this one.

const { spawn } = require('node:child_process')
const { join } = require('node:path')
const { createInterface } = require('node:readline')
const api = require('../../index.js')
const { inspectSpool } = require('../spool.js')
const { ConfigFile } = require('./config-file.js')
const { CommandError, FAILED, NOT_DRAINED, OK, onSignal } = require('./exit.js')
const { Output, statusLine } = require('./output.js')
const { MAX_PROCESSES, checkShared, configOfProcess } = require('./process-config.js')
const { serveProcesses } = require('./processes-http.js')

const PROGRAM = require.resolve('../../bin/millrace.js')
/** Between the end of a process and its next start: doubled each time, up to the longest. */
const WAIT_MS = { min: 500, max: 30_000 }
/** A process that lived so long had no fault of its start: the waits begin anew. */
const LASTING_MS = 10_000
const STATUS_MS = 1_000

/**
 * @param {string} file
 * @param {{
 *   processes: number, http?: { host: string, port: number }, drainTimeout: number, logInterval: number, wait?: boolean,
 *   json?: boolean, leave?: boolean,
 * }} options
 * @returns {Promise<number>} the exit code
 */
async function runProcesses(file, options) {
  const config = checkedConfig(file, options.processes)
  const output = new Output({ json: options.json })
  await warnOfOtherSpools(config, options.processes, output)
  const fleet = new Processes(file, options, output)
  const forget = onSignal((signal) => {
    output.info(`${signal}: draining all processes; a second one ends them at once`, { signal })
    fleet.stop()
  })
  // A second signal exits; whatever ends this process ends the others.
  const kill = () => fleet.kill()
  process.on('exit', kill)
  const report = setInterval(() => fleet.showStatus(), STATUS_MS)
  let http
  try {
    http = options.http && (await serve(fleet, config.name, options.http))
    if (http) output.info(`listening on ${http.url}`, { url: http.url })
    return await fleet.run()
  } finally {
    clearInterval(report)
    output.end()
    await http?.close()
    process.off('exit', kill)
    forget()
  }
}

/** The configuration of the file, checked as that of each process. */
function checkedConfig(file, processes) {
  const source = new ConfigFile(file)
  try {
    // The numbers can make a text too long, and nothing else wrong.
    new api.Pipeline(configOfProcess(source.config, processes))
    checkShared(source.config, processes)
  } catch (error) {
    throw source.located(error)
  }
  return source.config
}

/** Messages in a spool that no process of this run opens would wait there for ever. */
async function warnOfOtherSpools({ spool }, processes, output) {
  if (spool === undefined) return
  const numbered = (/** @type {number} */ number) => join(spool.dir, String(number))
  const others = [spool.dir]
  for (let number = processes + 1; number <= MAX_PROCESSES; number++) others.push(numbered(number))
  for (const dir of others) {
    const { messages = 0 } = await inspectSpool(dir).catch(() => ({}))
    if (messages === 0) continue
    const message = `${dir}: ${messages} messages lie there, and no process of this run inserts them`
    output.warn(message, { code: 'SPOOL_NOT_EMPTY', dir, messages })
  }
}

async function serve(fleet, name, address) {
  try {
    return await serveProcesses(fleet, name, address)
  } catch (error) {
    throw new CommandError(`--http: ${error.message}`)
  }
}

/** All processes. */
class Processes {
  /** @type {Process[]} */
  all
  #output
  #isStopping = false
  /** The exit code that the first fault decided. */
  #code = OK
  /** @type {(code: number) => void} */
  #resolve = () => {}
  #ended = new Promise((resolve) => (this.#resolve = resolve))

  constructor(file, options, output) {
    this.#output = output
    this.all = Array.from(
      { length: options.processes },
      (_, i) => new Process(i + 1, file, options, output, (member, end) => this.#onEnd(member, end)),
    )
  }

  /** Runs until a signal or a fault ends all; gives the exit code. */
  async run() {
    for (const member of this.all) member.start()
    return this.#ended
  }

  /** Drains all. */
  stop() {
    this.#isStopping = true
    for (const member of this.all) member.drain()
    this.#finish()
  }

  /** Ends all at once. */
  kill() {
    for (const member of this.all) member.kill()
  }

  /** The sums of all processes, on a terminal. */
  showStatus() {
    if (this.#output.isTerminal) this.#output.status(statusLine(summed(this.all)))
  }

  #onEnd(member, { code, signal }) {
    if (this.#isStopping) {
      this.#code ||= code ?? FAILED
      return this.#finish()
    }
    const fields = { process: member.number, exitCode: code, signal }
    const reason = signal ?? `exit code ${code}`
    if (!member.hasRun && code !== null && code !== OK) {
      // As a single process does: what cannot start ends, and --wait is for servers that are away.
      this.#output.error(`process ${member.number} could not start (${reason}): ending all`, { code: 'PROCESS_ENDED', ...fields })
      this.#code = code
      return this.stop()
    }
    const restartInMs = member.restart(code === OK)
    const text = `process ${member.number} ended (${reason}); starting it again in ${restartInMs} ms`
    if (code === OK) this.#output.info(text, { ...fields, restartInMs })
    else this.#output.warn(text, { code: 'PROCESS_ENDED', ...fields, restartInMs })
  }

  #finish() {
    if (!this.#isStopping || this.all.some((member) => member.isAlive)) return
    this.#resolve(this.#code === OK || this.#code === NOT_DRAINED ? this.#code : this.#code || FAILED)
  }
}

/** One process, in its lives one after the other. */
class Process {
  number
  /** It was running once. */
  hasRun = false
  restarts = 0
  /** The address of its HTTP server; undefined while it has none. */
  url
  /** Its metrics as it wrote them last. */
  metrics
  state = 'starting'
  #file
  #options
  #output
  #onEnd
  #child
  #startedAt = 0
  #waitMs = WAIT_MS.min
  #timer

  constructor(number, file, options, output, onEnd) {
    this.number = number
    this.#file = file
    this.#options = options
    this.#output = output
    this.#onEnd = onEnd
  }

  get isAlive() {
    return this.#child !== undefined
  }

  get pid() {
    return this.#child?.pid
  }

  start() {
    this.#startedAt = Date.now()
    const child = spawn(process.execPath, [...process.execArgv, PROGRAM, ...this.#arguments()], {
      stdio: ['pipe', 'pipe', 'pipe'],
      windowsHide: true,
    })
    this.#child = child
    this.#output.info(`process ${this.number} started`, { process: this.number, pid: child.pid })
    createInterface({ input: child.stdout }).on('line', (line) => this.#onLine(line))
    createInterface({ input: child.stderr }).on('line', (line) => this.#output.error(line, { process: this.number }))
    // A child that has ended needs no input.
    child.stdin.on('error', () => {})
    let failure
    child.on('error', (error) => (failure = error))
    child.on('close', (code, signal) => {
      if (failure) this.#output.error(failure.message, { process: this.number })
      this.#child = undefined
      this.url = undefined
      this.state = 'stopped'
      this.#onEnd(this, { code, signal })
    })
  }

  /** Starts it again; at once where it was drained. Gives how long that waits. */
  restart(isDrained) {
    const isLasting = Date.now() - this.#startedAt >= LASTING_MS
    if (isLasting || isDrained) this.#waitMs = WAIT_MS.min
    const waitMs = isDrained ? 0 : this.#waitMs
    if (!isDrained) this.#waitMs = Math.min(2 * this.#waitMs, WAIT_MS.max)
    this.restarts += 1
    this.state = 'starting'
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.start()
    }, waitMs)
    return waitMs
  }

  drain() {
    clearTimeout(this.#timer)
    this.#child?.stdin.end('stop\n')
  }

  kill() {
    clearTimeout(this.#timer)
    this.#child?.kill('SIGKILL')
  }

  #arguments() {
    const { http, drainTimeout, logInterval, leave, wait } = this.#options
    return [
      ...['run', this.#file, '--watched', '--process', String(this.number)],
      ...['--drain-timeout', `${drainTimeout}ms`],
      ...['--log-interval', `${this.#output.isTerminal ? STATUS_MS : logInterval}ms`],
      ...(http ? ['--http', '127.0.0.1:0'] : []),
      ...(leave ? ['--leave'] : []),
      // Once it has run, it waits for servers that are away, as a running pipeline does.
      ...(wait || this.hasRun ? ['--wait'] : []),
    ]
  }

  #onLine(line) {
    let said
    try {
      said = JSON.parse(line)
    } catch {
      return this.#output.info(line, { process: this.number })
    }
    const { level, msg, ...fields } = said
    if (fields.url !== undefined && this.url === undefined) {
      this.url = fields.url
      return
    }
    if (fields.metrics !== undefined) {
      this.metrics = fields.metrics
      if (this.#output.isTerminal) return
    }
    if (fields.previous !== undefined) {
      this.state = fields.state
      if (fields.state === 'running') this.hasRun = true
    }
    this.#output.say(level, msg, fields)
  }
}

/** The metrics of all processes as `statusLine` shows them. */
function summed(processes) {
  const all = processes.map(({ metrics }) => metrics).filter(Boolean)
  const sum = (/** @type {(metrics: any) => number} */ of) => all.reduce((total, metrics) => total + of(metrics), 0)
  const running = processes.filter(({ state }) => state === 'running').length
  return {
    state: `${running} of ${processes.length} running`,
    messages: {
      inserted: sum(({ messages }) => messages.inserted),
      pending: sum(({ messages }) => messages.pending),
      deadLettered: sum(({ messages }) => messages.deadLettered),
    },
    rates: {
      messagesPerSecond: sum(({ rates }) => rates.messagesPerSecond),
      rowsPerSecond: sum(({ rates }) => rates.rowsPerSecond),
    },
    latencyMs: { endToEnd: { p99: Math.max(0, ...all.map(({ latencyMs }) => latencyMs.endToEnd.p99)) } },
    mqtt: { connected: sum(({ mqtt }) => mqtt.connected), connections: sum(({ mqtt }) => mqtt.connections) },
    spool: all.some(({ spool }) => spool) ? { bytes: sum(({ spool }) => spool?.bytes ?? 0) } : null,
  }
}

module.exports = { runProcesses }
