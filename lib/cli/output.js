'use strict'

// Output of the commands that run for a while. On a terminal it writes lines of text, and below them a status line that it
// rewrites; elsewhere it writes JSON, one object per line, with pino's fields `level`, `time` and `msg`.

/** Text on one line without control characters: publishers decide topics and reasons. */
function sanitize(text) {
  return text.replace(/\s*[\r\n]+\s*/g, ' ').replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd')
}

const CLEAR_LINE = '\r\u001b[2K'

class Output {
  #stream
  #isTerminal
  #fields
  #status = ''

  /**
   * @param {{ json?: boolean, stream?: NodeJS.WriteStream, fields?: object }} [options] `json`: JSON on a terminal as well;
   *   `fields` of each line
   */
  constructor({ json = false, stream = process.stdout, fields = {} } = {}) {
    this.#stream = stream
    this.#fields = fields
    this.#isTerminal = Boolean(stream.isTTY) && !json
  }

  get isTerminal() {
    return this.#isTerminal
  }

  info(msg, fields) {
    this.say('info', msg, fields)
  }

  warn(msg, fields) {
    this.say('warn', msg, fields)
  }

  error(msg, fields) {
    this.say('error', msg, fields)
  }

  /** Rewrites the status line; does nothing where the output is not a terminal. */
  status(line) {
    if (!this.#isTerminal) return
    this.#status = line.slice(0, Math.max(0, (this.#stream.columns || 80) - 1))
    this.#stream.write(`${CLEAR_LINE}${this.#status}`)
  }

  /** Leaves the status line: further output begins on a new line. */
  end() {
    if (this.#status) this.#stream.write('\n')
    this.#status = ''
  }

  /** @param {string} level `info`, `warn` or `error` */
  say(level, msg, fields = {}) {
    const now = new Date()
    if (!this.#isTerminal) {
      this.#stream.write(`${JSON.stringify({ level, time: now.toISOString(), msg, ...this.#fields, ...fields })}\n`)
      return
    }
    const from = fields.process === undefined ? '' : `[${fields.process}] `
    const mark = level === 'info' ? '' : `${level === 'warn' ? 'warning' : level}: `
    const clear = this.#status && CLEAR_LINE
    this.#stream.write(`${clear}${now.toTimeString().slice(0, 8)} ${from}${mark}${sanitize(msg)}\n${this.#status}`)
  }
}

const NUMBER = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })
const count = (/** @type {number} */ number) => NUMBER.format(number)

/** The state and the rates of a pipeline in one line. */
function statusLine({ state, messages, rates, latencyMs, mqtt, spool }) {
  const isShort = (state === 'running' || state === 'paused') && mqtt.connected < mqtt.connections
  const parts = [
    isShort ? `${state}, ${mqtt.connected} of ${mqtt.connections} connected` : state,
    `${count(rates.messagesPerSecond)} msg/s`,
    `${count(rates.rowsPerSecond)} rows/s`,
    `${count(messages.inserted)} inserted`,
    `${count(messages.pending)} pending`,
    `${count(messages.deadLettered)} dead letters`,
    `p99 ${count(latencyMs.endToEnd.p99)} ms`,
  ]
  if (spool) parts.push(`spool ${count(spool.bytes / 1024)} KiB`)
  return parts.join('  ')
}

module.exports = { Output, count, sanitize, statusLine }
