'use strict'

// How a pipeline is doing, in words: what is wrong with it, the worst first, or that nothing is. A text has no number
// that changes by itself, because it is read aloud when it changes. `detail` is the reason as it was given. `blocks` is
// what makes a pipeline not ready.

/** Messages wait and nothing is inserted: for so long, and something is wrong. */
const STALLED_MS = 30_000
const LATE_MS = 30_000
const NEARLY_FULL = 0.8
const FULL = 0.98

const LEVELS = ['bad', 'warn', 'info', 'good']

/** What a warning of the sink says: `<table>: <error>; trying again in <n> ms`. */
function clickHouseFailure(message) {
  const [, table, reason] = /^(.*?): (.*)$/s.exec(message) ?? ['', '', message]
  return { table, message: reason.replace(/; trying again in \d+ ms$/, '') }
}

function describeHealth(facts) {
  const { state } = facts.metrics
  // What was wrong with it before is of no interest any more.
  if (state === 'idle' || state === 'stopped') return [failed(facts), notRunning(facts)].filter(Boolean)
  const problems = [
    failed(facts),
    ...clickHouse(facts),
    broker(facts),
    stalled(facts),
    disk(facts),
    deadLettersFailing(facts),
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

/** An outage fails the INSERTs of all tables alike, and is one problem. */
function clickHouse({ failing }) {
  const byText = new Map()
  for (const { table, message, since } of failing) {
    const text = clickHouseText(message)
    const problem = byText.get(text)
    if (problem) {
      problem.detail = message
      problem.tables.push(table)
      problem.since = Math.min(problem.since, since)
    } else {
      byText.set(text, { level: 'bad', text, detail: message, tables: [table], since, blocks: true })
    }
  }
  return Array.from(byText.values(), ({ tables, ...problem }) => ({
    ...problem,
    detail: `${tables.join(', ')}: ${problem.detail}`,
  }))
}

function clickHouseText(message) {
  if (/^ClickHouse at \S+ cannot be reached/.test(message)) return 'ClickHouse cannot be reached. Retrying.'
  // Its exceptions end with their name, (TOO_MANY_PARTS), and perhaps the version.
  const name = /^.*\(([A-Z][A-Z0-9_]+)\)/s.exec(message)?.[1]
  if (name) return `ClickHouse refuses: ${name.toLowerCase().replaceAll('_', ' ')}. Retrying.`
  return 'INSERTs into ClickHouse fail. Retrying.'
}

function broker({ metrics, brokerLost }) {
  if (!brokerLost) return undefined
  const { connected, connections } = metrics.mqtt
  const text =
    connections === 1 || connected === 0
      ? 'There is no connection to the broker. Reconnecting.'
      : `Only ${connected} of ${connections} connections to the broker are up. Reconnecting.`
  const detail = brokerLost.message.replace(/; connecting again in \d+ ms$/, '')
  return { level: 'bad', text, detail, since: brokerLost.since, blocks: true }
}

/** Where an INSERT is known to fail, that is the reason, and said already. */
function stalled({ at, metrics, failing }) {
  const { lastInsertMs, oldestPendingMs } = metrics
  const idleMs = Math.min(oldestPendingMs, lastInsertMs ?? Infinity)
  if (idleMs < STALLED_MS || failing.length > 0) return undefined
  const text = 'Messages wait, and nothing gets into ClickHouse.'
  return { level: 'bad', text, since: at - idleMs, blocks: true }
}

function deadLettersFailing({ incidents }) {
  const incident = incidents.get('DEAD_LETTERS_RETRYING')
  if (!incident) return undefined
  const { message, since } = incident
  return { level: 'bad', text: 'Dead letters cannot be kept. Retrying.', detail: message, since }
}

function disk({ incidents }) {
  const incident = incidents.get('SPOOL_IO')
  if (!incident) return undefined
  const { message, since } = incident
  return { level: 'bad', text: 'The disk of the spool fails. Retrying.', detail: message, since, blocks: true }
}

function spool({ metrics: { spool } }) {
  const share = spool ? spool.bytes / spool.maxBytes : 0
  if (share >= FULL) return { level: 'bad', text: 'The spool is full: the broker has to keep what comes.' }
  if (share >= NEARLY_FULL) return { level: 'warn', text: 'The spool fills up.' }
  return undefined
}

function memory({ metrics }) {
  if (metrics.memoryBytes < FULL * metrics.memoryMaxBytes) return undefined
  return { level: 'warn', text: 'The buffers are full: the broker has to keep what comes.' }
}

/** Behind, and not for a reason that is said already. */
function late({ metrics, failing }) {
  const { lastInsertMs, oldestPendingMs } = metrics
  const isMoving = lastInsertMs !== null && lastInsertMs < STALLED_MS
  if (oldestPendingMs < LATE_MS || !isMoving || failing.length > 0) return undefined
  return { level: 'warn', text: 'ClickHouse is behind.' }
}

function deadLetters({ letterCodes }) {
  if (letterCodes.size === 0) return undefined
  const text = `Messages became dead letters within the last minute: ${[...letterCodes.keys()].join(', ')}.`
  return { level: 'warn', text, since: Math.min(...Array.from(letterCodes.values(), ({ since }) => since)) }
}

function notRunning({ metrics, stateSince: since }) {
  const told = (level, text) => ({ level, text, since, blocks: true })
  switch (metrics.state) {
    case 'running':
      return undefined
    case 'idle':
      return told('info', 'Not started.')
    case 'starting':
      return told('info', 'Starting: tables are looked at, and the broker is asked.')
    case 'paused':
      return told('warn', 'Paused: the broker has to keep what comes.')
    case 'stopping':
      return told('info', 'Stopping: what is in hand is inserted.')
    default:
      if (metrics.messages.pending > 0) return told('warn', 'Stopped before everything was inserted.')
      return told('info', 'Stopped.')
  }
}

module.exports = { clickHouseFailure, describeHealth }
