'use strict'

// Monitor: keeps the last 15 minutes of a pipeline for the dashboard, and its present problems for the probes. It listens to
// the pipeline's events and reads its metrics once a second, and at once for the probes. The problems are the faults
// of the metrics: nothing is concluded from events. Everything it keeps is bounded. health.js words the problems.

const { errorMonitor } = require('node:events')
const { quantile, readFamilies } = require('./families.js')
const { describeHealth } = require('./health.js')

const INTERVAL_MS = 1000
/** 15 minutes. */
const SAMPLES = 900
/** Rates are over 5 s: rows arrive in batches, so the rate of a single second would jump. */
const RATE_SAMPLES = 5
const LATENCY_SAMPLES = 10
const EVENTS = 50
const MAX_DEAD_LETTERS = 50
const TEXT_LENGTH = 400
const MINUTE_MS = 60_000

/** The fields of a sample, in order. */
const FIELDS = [
  'at',
  'messagesPerSecond',
  'rowsPerSecond',
  'endToEndP50',
  'endToEndP99',
  'insertP50',
  'insertP99',
  'memoryBytes',
  'spoolBytes',
  'pending',
  'oldestPendingMs',
]

class Monitor {
  #pipeline
  #now
  #timer
  #samples = []
  /** The number that the next sample gets. */
  #next = 0
  /** The last snapshots, from which rates and recent latencies are computed from. */
  #snapshots = []
  #events = []
  /** The last 50 different dead letters, the newest last. */
  #letters = new Map()
  /** The codes of dead letters within the last minute: when first, and when last. */
  #letterCodes = new Map()
  /** Since when a connection to the broker is not up. */
  #brokerLost
  #failure
  /** When the last message was received. */
  #lastMessage = -Infinity
  #stateSince
  /** A start has succeeded. */
  #isStarted = false
  #listeners

  /** @param now a clock, in milliseconds since 1970 */
  constructor(pipeline, now = Date.now) {
    this.#pipeline = pipeline
    this.#now = now
    this.#stateSince = now()
    this.#listeners = [
      ['state', (state, previous) => this.#onState(state, previous)],
      ['warning', (warning) => this.#onWarning(warning)],
      ['deadLetters', (letters) => this.#onDeadLetters(letters)],
      // Listening to 'error' itself would hide unhandled errors.
      [errorMonitor, (error) => this.#onError(error)],
    ]
    for (const [event, listener] of this.#listeners) pipeline.on(event, listener)
    this.sample()
    this.#watch(pipeline.state)
  }

  close() {
    clearInterval(this.#timer)
    for (const [event, listener] of this.#listeners) this.#pipeline.off(event, listener)
  }

  /** Takes a sample. The timer calls it while the pipeline runs. */
  sample() {
    const at = this.#now()
    const metrics = this.#pipeline.metrics()
    const families = readFamilies(this.#pipeline)
    const { messages, rows, mqtt } = metrics

    if (messages.received > (this.#snapshots.at(-1)?.received ?? 0)) this.#lastMessage = at
    if (mqtt.connected === mqtt.connections) this.#brokerLost = undefined
    else this.#brokerLost ??= at
    for (const [code, { last }] of this.#letterCodes) if (at - last > MINUTE_MS) this.#letterCodes.delete(code)

    const snapshot = { at, metrics, families, received: messages.received, inserted: rows.inserted }
    this.#snapshots.push(snapshot)
    if (this.#snapshots.length > LATENCY_SAMPLES + 1) this.#snapshots.shift()
    this.#samples.push(this.#sampleOf(snapshot))
    this.#next += 1
    if (this.#samples.length > SAMPLES) this.#samples.shift()
  }

  /** Whether the pipeline takes messages and can keep them, and if not, why. */
  readiness() {
    const reasons = this.#reasons()
    return { ready: reasons.length === 0, reasons }
  }

  /** Whether a start of the pipeline has succeeded since there is this monitor, and if not, why. */
  startup() {
    return { isStarted: this.#isStarted, reasons: this.#isStarted ? [] : this.#reasons() }
  }

  #reasons() {
    return this.#situation({ at: this.#now(), metrics: this.#pipeline.metrics() })
      .filter(({ blocks }) => blocks)
      .map(({ text, detail }) => (detail ? `${text} ${detail}` : text))
  }

  /** Why the pipeline failed for good; undefined if it did not. */
  get failure() {
    return this.#failure?.message
  }

  /** The content of the dashboard, with the samples from number `from` on. */
  status(from = 0) {
    const { metrics, families } = this.#snapshots.at(-1)
    const first = this.#next - this.#samples.length
    return {
      name: families.name,
      now: this.#now(),
      metrics,
      situation: this.#situation(this.#snapshots.at(-1)),
      tables: this.#tables(),
      connections: families.byLabel('mqtt_connected', 'connection'),
      letters: [...this.#letters.values()].reverse(),
      events: this.#events,
      samples: { fields: FIELDS, rows: this.#samples.slice(Math.max(0, from - first)), next: this.#next },
    }
  }

  #situation({ at, metrics }) {
    return describeHealth({
      at,
      metrics,
      stateSince: this.#stateSince,
      failure: this.#failure,
      brokerLost: this.#brokerLost ?? at,
      letterCodes: this.#letterCodes,
      isFlowing: at - this.#lastMessage < MINUTE_MS,
    })
  }

  #sampleOf({ at, metrics, families }) {
    const latency = (name) => {
      const before = this.#snapshots[0].families.buckets(name)
      return [0.5, 0.99].map((q) => quantile(families.buckets(name), before, q))
    }
    return [
      at,
      this.#rate((snapshot) => snapshot.received),
      this.#rate((snapshot) => snapshot.inserted),
      ...latency('end_to_end_duration_seconds'),
      ...latency('insert_duration_seconds'),
      metrics.memoryBytes,
      metrics.spool?.bytes ?? null,
      metrics.messages.pending,
      metrics.oldestPendingMs,
    ]
  }

  /** By table, its metrics and its rows per second. */
  #tables() {
    const entries = Object.entries(this.#snapshots.at(-1).metrics.tables).map(([name, table]) => {
      const rowsPerSecond = this.#rate(({ metrics }) => metrics.tables[name].rows)
      return [name, { ...table, rowsPerSecond }]
    })
    return Object.fromEntries(entries)
  }

  /** The rate of a counter over the last 5 s, per second. */
  #rate(counter) {
    const last = this.#snapshots.at(-1)
    const first = this.#snapshots.at(-1 - RATE_SAMPLES) ?? this.#snapshots[0]
    if (last.at <= first.at) return 0
    return round(((counter(last) - counter(first)) / (last.at - first.at)) * 1000)
  }

  /** Metrics do not change before start() and after stop(). */
  #watch(state) {
    this.#isStarted ||= ['running', 'paused', 'stopping'].includes(state)
    const isAtRest = state === 'idle' || state === 'stopped'
    if (isAtRest) {
      clearInterval(this.#timer)
      this.#timer = undefined
    } else if (!this.#timer) {
      this.#timer = setInterval(() => this.sample(), INTERVAL_MS)
      this.#timer.unref()
    }
  }

  #onState(state, previous) {
    this.#stateSince = this.#now()
    this.#recordEvent('state', state, `${previous} → ${state}`)
    this.#watch(state)
    this.sample()
  }

  #onWarning({ code, message }) {
    this.#recordEvent('warning', code, message)
  }

  #onDeadLetters(letters) {
    const at = this.#now()
    for (const { receivedAt, topic, code, message } of letters) {
      this.#letterCodes.set(code, { since: this.#letterCodes.get(code)?.since ?? at, last: at })
      const letter = { at: receivedAt.getTime(), topic: shortened(topic), code, message: shortened(message) }
      const key = `${code} ${letter.topic} ${letter.message}`
      const count = (this.#letters.get(key)?.count ?? 0) + 1
      // A Map keeps the order of insertion: the newest goes to the end.
      this.#letters.delete(key)
      this.#letters.set(key, { ...letter, count })
      if (this.#letters.size > MAX_DEAD_LETTERS) this.#letters.delete(this.#letters.keys().next().value)
    }
  }

  #onError({ code, message }) {
    this.#failure = { since: this.#now(), message }
    this.#recordEvent('error', code, message)
  }

  /** An event with the code of the last one replaces it and counts: a retry has one event per attempt. */
  #recordEvent(kind, code, message) {
    const last = this.#events[0]
    const count = last?.code === code && kind !== 'state' ? last.count + 1 : 1
    if (count > 1) this.#events.shift()
    this.#events.unshift({ at: this.#now(), kind, code, message: shortened(message), count })
    if (this.#events.length > EVENTS) this.#events.pop()
  }
}

function shortened(text) {
  return text.length > TEXT_LENGTH ? `${text.slice(0, TEXT_LENGTH)} …` : text
}

function round(value) {
  return Math.round(value * 10) / 10
}

module.exports = { FIELDS, Monitor }
