import { spawn } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { createInterface } from 'node:readline'

/** Enough of what a program wrote to standard error to show why it failed. */
const ERROR_TEXT = 4000

/**
 * A child process that reports with one JSON object a line, each naming its `event`: the load generator, a service.
 * Every report is emitted under that name, and the last of each kind is kept in `latest`.
 */
export class Program extends EventEmitter {
  /** @type {Record<string, any>} */
  latest = {}
  /** Resolves when the process is gone, with a sentence on how it ended. */
  ended
  isRunning = true

  #name
  #child
  #errorText = ''

  /**
   * @param {string} name what error messages call it
   * @param {string} command
   * @param {string[]} args
   * @param {Record<string, string>} [env] beside this process' own
   */
  constructor(name, command, args, env = {}) {
    super()
    this.#name = name
    this.#child = spawn(command, args, { env: { ...process.env, ...env }, stdio: 'pipe' })
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#hear(line))
    this.#child.stderr.on('data', (text) => (this.#errorText = (this.#errorText + text).slice(-ERROR_TEXT)))
    // One that is gone already reads no more.
    this.#child.stdin.on('error', () => {})
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(`${name} could not be started: ${error.message}`))
      this.#child.once('close', (code, signal) => resolve(this.#sentence(signal ?? `exit code ${code}`)))
    })
    // Its parent may end in a hurry; it must not be left behind.
    const kill = () => this.#child.kill('SIGKILL')
    process.once('exit', kill)
    this.ended.then(() => {
      this.isRunning = false
      process.off('exit', kill)
    })
  }

  get pid() {
    return this.#child.pid
  }

  /**
   * The next report of that name; an error when the program, or one of `others` that should be running, ends first.
   *
   * @param {string} event
   * @param {Program[]} [others]
   */
  async next(event, others = []) {
    const endings = [this, ...others].map((program) => program.failure())
    return Promise.race([new Promise((resolve) => this.once(event, resolve)), ...endings])
  }

  /** Rejects when the program ends. */
  async failure() {
    throw new Error(await this.ended)
  }

  /** @param {string} line */
  writeLine(line = '') {
    this.#child.stdin.write(`${line}\n`)
  }

  /**
   * Asks the program to end and waits until it is gone; past `graceMs` it is killed.
   *
   * @param {number} [graceMs]
   */
  async stop(graceMs = 5000) {
    if (!this.isRunning) return
    this.#child.kill('SIGTERM')
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), graceMs)
    await this.ended
    clearTimeout(killer)
  }

  /** Ends the program with SIGKILL, as a crash would, and waits until it is gone. */
  async kill() {
    if (this.isRunning) this.#child.kill('SIGKILL')
    await this.ended
  }

  /** @param {string} line */
  #hear(line) {
    let report
    try {
      report = JSON.parse(line)
    } catch {
      this.#errorText = `${this.#errorText}${line}\n`.slice(-ERROR_TEXT)
      return
    }
    this.latest[report.event] = report
    // A report called `error` must not be taken for an error of this emitter, which would end the program.
    if (report.event !== 'error') this.emit(report.event, report)
  }

  /** @param {string} how */
  #sentence(how) {
    const error = this.latest.error
    const why = error ? `${error.code}: ${error.message}` : reason(this.#errorText)
    return `${this.#name} ended with ${how}${why && `: ${why}`}`
  }
}

/**
 * The most informative of a program's last lines: the message of an uncaught error, else the last line.
 *
 * @param {string} text
 */
function reason(text) {
  const lines = text.split('\n').map((line) => line.trim()).filter(Boolean)
  return lines.find((line) => /^\w*(Error|error)\b.*:/.test(line)) ?? lines.at(-1) ?? ''
}
