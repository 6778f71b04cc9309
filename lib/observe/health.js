'use strict'

// describeHealth(): lists the problems of a pipeline, the worst first; a healthy one has a single entry that says so. `text` has
// no number that changes by itself, because screen readers read it aloud when it changes; `detail` is the error's own text.
// A problem with `blocks` makes the pipeline not ready: it takes no messages, or cannot keep them.

/** Nothing is inserted although messages wait: a problem after 30 s. */
const STALLED_MS = 30_000
const LATE_MS = 30_000
const NEARLY_FULL = 0.8
const FULL = 0.98

const LEVELS = ['bad', 'warn', 'info', 'good']

function describeHealth(facts) {
  const { state } = facts.metrics
  // Problems of the run before do not matter any more.
  if (state === 'idle' || state === 'stopped') return [failed(facts), notRunning(facts)].filter(Boolean)
  const problems = [
    failed(facts),
    ...clickHouse(facts),
    broker(facts),
    stalled(facts),
    disk(facts),
    deadLettersFailing(facts),
    slowTransform(facts),
    spool(facts),
    memory(facts),
    late(facts),
    deadLetters(facts),
    notRunning(facts),
  ].filter(Boolean)
  if (problems.length === 0) return [healthy(facts)]
  return problems.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level))
}

function healthy({ isFlowing }) {
  const text = isFlowing ? 'Messages flow into ClickHouse.' : 'Connected. No messages are coming.'
  return { level: 'good', text }
}

function failed({ failure }) {
  if (!failure) return undefined
  const text = 'millrace has failed and takes no more messages. Start it anew.'
  return { level: 'bad', text, detail: failure.message, since: failure.since, blocks: true }
}

const faultsOf = ({ metrics }, ...codes) => metrics.faults.filter(({ code }) => codes.includes(code))
const failingInserts = (facts) => faultsOf(facts, 'CLICKHOUSE_RETRYING', 'INSERT_UNCONFIRMED')

/** An outage ends by itself, and a spool takes messages meanwhile; a refusal needs somebody. */
const isKept = ({ metrics }, { errorCode }) => Boolean(metrics.spool) && errorCode === 'CLICKHOUSE_UNREACHABLE'

/** An outage fails the INSERTs of all tables with the same text, and is one problem. */
function clickHouse(facts) {
  const byText = new Map()
  for (const { table, since, message, reason = message, ...failure } of failingInserts(facts)) {
    const text = clickHouseText(failure)
    const problem = byText.get(text)
    if (problem) {
      problem.detail = reason
      problem.tables.push(table)
      problem.since = Math.min(problem.since, since)
    } else {
      byText.set(text, { level: 'bad', text, detail: reason, tables: [table], since, blocks: !isKept(facts, failure) })
    }
  }
  return Array.from(byText.values(), ({ tables, ...problem }) => ({
    ...problem,
    detail: `${tables.join(', ')}: ${problem.detail}`,
  }))
}

function clickHouseText({ errorCode, clickhouseName }) {
  if (errorCode === 'CLICKHOUSE_UNREACHABLE') return 'ClickHouse cannot be reached. Retrying.'
  if (clickhouseName) return `ClickHouse refuses: ${clickhouseName.toLowerCase().replaceAll('_', ' ')}. Retrying.`
  return 'INSERTs into ClickHouse fail. Retrying.'
}

/** A connection that is not up is a problem, whether or not its reason is known already. */
function broker(facts) {
  const { metrics, brokerLost } = facts
  const { connected, connections } = metrics.mqtt
  if (connected >= connections || !['running', 'paused'].includes(metrics.state)) return undefined
  const [fault] = faultsOf(facts, 'MQTT_RECONNECTING', 'MQTT_REFUSED', 'CREDENTIALS_FAILED', 'SESSION_TAKEN_OVER')
  const text =
    connections === 1 || connected === 0
      ? 'There is no connection to the broker. Reconnecting.'
      : `Only ${connected} of ${connections} connections to the broker are up. Reconnecting.`
  return { level: 'bad', text, detail: fault?.reason ?? '', since: fault?.since ?? brokerLost, blocks: true }
}

/** INSERTs that fail are a problem of their own, and the reason of the stall. */
function stalled(facts) {
  const { at, metrics } = facts
  const { lastInsertMs, oldestPendingMs } = metrics
  const idleMs = Math.min(oldestPendingMs, lastInsertMs ?? Infinity)
  if (idleMs < STALLED_MS || failingInserts(facts).length > 0) return undefined
  const text = 'Messages wait, and nothing gets into ClickHouse.'
  return { level: 'bad', text, since: at - idleMs, blocks: true }
}

function deadLettersFailing(facts) {
  const [fault] = faultsOf(facts, 'DEAD_LETTERS_RETRYING')
  if (!fault) return undefined
  const { message, since } = fault
  return { level: 'bad', text: 'Dead letters cannot be kept. Retrying.', detail: message, since }
}

function slowTransform(facts) {
  const [fault] = faultsOf(facts, 'TRANSFORM_SLOW')
  if (!fault) return undefined
  const { message, since } = fault
  return { level: 'warn', text: 'A transform takes long, and the broker waits for it.', detail: message, since }
}

function disk(facts) {
  const [fault] = faultsOf(facts, 'SPOOL_IO')
  if (!fault) return undefined
  const { message, since } = fault
  return { level: 'bad', text: 'The disk of the spool fails. Retrying.', detail: message, since, blocks: true }
}

function spool(facts) {
  const { spool } = facts.metrics
  const share = spool ? spool.bytes / spool.maxBytes : 0
  const [fault] = faultsOf(facts, 'SPOOL_FULL')
  const text = 'The spool is full: the broker has to keep what comes.'
  if (fault) return { level: 'bad', text, since: fault.since, blocks: true }
  if (share >= FULL) return { level: 'bad', text, blocks: true }
  if (share >= NEARLY_FULL) return { level: 'warn', text: 'The spool fills up.' }
  return undefined
}

function memory({ metrics }) {
  if (metrics.memoryBytes < FULL * metrics.memoryMaxBytes) return undefined
  return { level: 'warn', text: 'The buffers are full: the broker has to keep what comes.' }
}

/** Late without failed INSERTs, which are a problem of their own. */
function late(facts) {
  const { metrics } = facts
  const { lastInsertMs, oldestPendingMs } = metrics
  const isMoving = lastInsertMs !== null && lastInsertMs < STALLED_MS
  if (oldestPendingMs < LATE_MS || !isMoving || failingInserts(facts).length > 0) return undefined
  return { level: 'warn', text: 'ClickHouse is behind.' }
}

function deadLetters({ letterCodes }) {
  if (letterCodes.size === 0) return undefined
  const text = `Messages became dead letters within the last minute: ${[...letterCodes.keys()].join(', ')}.`
  return { level: 'warn', text, since: Math.min(...Array.from(letterCodes.values(), ({ since }) => since)) }
}

function notRunning(facts) {
  const { metrics, stateSince: since } = facts
  const report = (level, text) => ({ level, text, since, blocks: true })
  switch (metrics.state) {
    case 'running':
      return undefined
    case 'idle':
      return report('info', 'Not started.')
    case 'starting':
      return { ...report('info', 'Starting: tables and broker are checked.'), ...slowStart(facts) }
    case 'paused':
      return report('warn', 'Paused: the broker has to keep what comes.')
    case 'stopping':
      return report('info', 'Stopping: received messages are inserted.')
    default:
      if (metrics.messages.pending > 0) return report('warn', 'Stopped before everything was inserted.')
      return report('info', 'Stopped.')
  }
}

/** Why a start takes so long. */
function slowStart(facts) {
  const [fault] = faultsOf(facts, 'CLICKHOUSE_SILENT')
  return fault && { detail: fault.message }
}

module.exports = { describeHealth }
