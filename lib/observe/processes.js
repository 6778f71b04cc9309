'use strict'

// The HTTP pages of several processes of one configuration: the sums, and below `/processes/<number>/` the pages of each. Each
// process has a server of its own on the loopback, which is asked once a second.

const { EXPOSITION, dashboardPage, pagesHandler, readiness } = require('./http.js')
const { family, merged } = require('./exposition.js')
const { FIELDS } = require('./monitor.js')

const INTERVAL_MS = 1000
/** A process that is busy answers late; one that does not answer is shown as away. */
const TIMEOUT_MS = 5000
/** 15 minutes. */
const SAMPLES = 900
const EVENTS = 50
/** Fields of a sample of which the sum is not what all processes have. */
const LARGEST = new Set(['at', 'endToEndP50', 'endToEndP99', 'insertP50', 'insertP99', 'oldestPendingMs'])
const LEVELS = ['bad', 'warn', 'info', 'good']

/**
 * @param {{ number: number, url?: string, state: string, restarts: number }[]} processes as they are now
 * @param {string} [name] the pipeline's
 * @param {{ hosts?: string[] }} [options]
 */
function processesHandler(processes, name = 'millrace', { hosts } = {}) {
  const sums = new Sums(processes, name)
  const handle = pagesHandler(
    {
      '/': dashboardPage,
      '/status.json': (query) => ({
        type: 'application/json',
        body: JSON.stringify(sums.status(Number(query.get('from')) || 0)),
      }),
      '/metrics': async () => {
        const texts = await Promise.all(processes.map((member) => ask(member, 'metrics')))
        const answered = texts.filter((answer) => answer?.status === 200).map((answer) => answer?.body ?? '')
        return { type: EXPOSITION, body: merged([...answered, ownMetrics(processes, name)]) }
      },
      '/healthz': () => ({ body: 'alive\n' }),
      '/readyz': async () => {
        const answers = await Promise.all(processes.map((member) => ask(member, 'readyz')))
        const reasons = processes.flatMap(({ number, state }, i) => reasonsOf(number, state, answers[i]))
        return readiness(reasons.length === 0, reasons)
      },
    },
    hosts,
    (path, query) => pageOf(processes, path, query),
  )
  return Object.assign(handle, { close: () => sums.close() })
}

/** A page of one process: `/processes/2/status.json`. */
function pageOf(processes, path, query) {
  const [, number, page] = /^\/processes\/(\d+)\/([a-z.]*)$/.exec(path) ?? []
  const member = processes.find((its) => String(its.number) === number)
  if (!member) return undefined
  if (page === '') return dashboardPage
  return async () => {
    const answer = await ask(member, query ? `${page}?${query}` : page)
    return answer ?? { status: 503, body: `process ${number} is ${member.state} and does not answer\n` }
  }
}

/**
 * @param {{ url?: string }} member
 * @returns {Promise<{ status: number, type: string, body: string } | undefined>} undefined: it does not answer
 */
async function ask({ url }, page) {
  if (url === undefined) return undefined
  try {
    const response = await fetch(new URL(page, url), { signal: AbortSignal.timeout(TIMEOUT_MS) })
    const type = response.headers.get('content-type') ?? 'text/plain; charset=utf-8'
    return { status: response.status, type, body: await response.text() }
  } catch {
    return undefined
  }
}

function reasonsOf(number, state, answer) {
  if (answer?.status === 200) return []
  const lines = answer === undefined ? [`it is ${state} and does not answer`] : answer.body.trim().split('\n').slice(1)
  return lines.map((line) => `process ${number}: ${line}`)
}

function ownMetrics(processes, name) {
  const samples = (value) =>
    processes.map((member) => ({ labels: { process: String(member.number), pipeline: name }, value: value(member) }))
  const up = family('millrace_process_up', 'gauge', 'Whether a process of the configuration runs.', samples(({ url }) => Number(url !== undefined)))
  const restarts = family(
    'millrace_process_restarts_total',
    'counter',
    'How often a process was started again.',
    samples(({ restarts }) => restarts),
  )
  return up + restarts
}

/** The status of all processes as one, for the same page. */
class Sums {
  #processes
  #name
  /** The last answer of each process, by its number. */
  #answers = new Map()
  #samples = []
  #next = 0
  #timer
  #startedAt = Date.now()

  constructor(processes, name) {
    this.#processes = processes
    this.#name = name
    this.#timer = setInterval(() => void this.#sample(), INTERVAL_MS)
    this.#timer.unref()
  }

  close() {
    clearInterval(this.#timer)
  }

  async #sample() {
    await Promise.all(
      this.#processes.map(async (member) => {
        // Its older samples are not needed: the sums keep their own.
        const from = (this.#answers.get(member.number)?.samples.next ?? 1) - 1
        const answer = await ask(member, `status.json?from=${from}`)
        if (answer?.status === 200) this.#answers.set(member.number, JSON.parse(answer.body))
        else this.#answers.delete(member.number)
      }),
    )
    const rows = [...this.#answers.values()].map(({ samples }) => samples.rows.at(-1)).filter(Boolean)
    this.#samples.push(FIELDS.map((field, i) => (field === 'at' ? Date.now() : joined(field, rows.map((row) => row[i])))))
    this.#next += 1
    if (this.#samples.length > SAMPLES) this.#samples.shift()
  }

  status(from) {
    const answers = [...this.#answers.entries()]
    const all = answers.map(([, answer]) => answer)
    const first = this.#next - this.#samples.length
    const rows = this.#samples.length > 0 ? this.#samples : [FIELDS.map((field) => (field === 'at' ? Date.now() : 0))]
    const numbered = (/** @type {string} */ list) =>
      answers.flatMap(([number, answer]) => answer[list].map((item) => ({ ...item, message: `process ${number}: ${item.message}` })))
    const newestFirst = (items) => items.sort((a, b) => b.at - a.at).slice(0, EVENTS)
    return {
      name: this.#name,
      now: Date.now(),
      metrics: {
        ...sumOf(all.map(({ metrics }) => metrics)),
        state: `${this.#processes.filter(({ state }) => state === 'running').length} of ${this.#processes.length} running`,
        uptimeMs: Date.now() - this.#startedAt,
      },
      situation: this.#situation(answers),
      tables: sumOf(all.map(({ tables }) => tables)),
      connections: Object.fromEntries(
        answers.flatMap(([number, { connections }]) =>
          Object.entries(connections).map(([connection, up]) => [`${number}/${connection}`, up]),
        ),
      ),
      letters: newestFirst(numbered('letters')),
      events: newestFirst(numbered('events')),
      processes: this.#processes.map(({ number, state }) => ({ number, state })),
      samples: { fields: FIELDS, rows: rows.slice(Math.max(0, from - first)), next: this.#next },
    }
  }

  /** The problems of all, each with the number of its process; one entry where all are well. */
  #situation(answers) {
    const problems = answers.flatMap(([number, { situation }]) =>
      situation.filter(({ level }) => level !== 'good').map((problem) => ({ ...problem, text: `Process ${number}: ${problem.text}` })),
    )
    for (const { number, state } of this.#processes) {
      if (!this.#answers.has(number)) problems.push({ level: 'bad', text: `Process ${number} is ${state} and does not answer.` })
    }
    if (problems.length === 0) return [{ level: 'good', text: answers[0]?.[1].situation[0].text ?? 'Looking.' }]
    return problems.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level))
  }
}

function joined(field, values) {
  const known = values.filter((value) => value !== null)
  if (known.length === 0) return null
  return LARGEST.has(field) ? Math.max(...known) : known.reduce((sum, value) => sum + value, 0)
}

/** Objects of numbers as one: sums, and the largest of latencies and ages. */
function sumOf(objects) {
  const sum = {}
  for (const name of new Set(objects.flatMap((object) => Object.keys(object)))) {
    const values = objects.map((object) => object[name]).filter((value) => value !== undefined && value !== null)
    const [value] = values
    if (typeof value === 'number') sum[name] = isLargest(name) ? Math.max(...values) : values.reduce((total, its) => total + its, 0)
    else if (Array.isArray(value)) sum[name] = values.flat()
    else if (typeof value === 'object') sum[name] = sumOf(values)
    else sum[name] = value ?? null
  }
  return sum
}

const isLargest = (name) => /^(p\d+|max|oldest.*Ms|last.*Ms|uptimeMs)$/.test(name)

module.exports = { processesHandler }
