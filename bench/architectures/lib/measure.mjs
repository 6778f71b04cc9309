// Measures one service on fresh processes: the load on /heavy, and beside it /health, CPU and memory.

import { Agent, get } from 'node:http'
import { loadavg } from 'node:os'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { waitFor } from '../../../tools/servers/wait-for.mjs'
import { Program } from '../../lib/program.mjs'
import { Scope } from '../../lib/scope.mjs'
import { machineCpuSeconds, Meter } from '../../lib/usage.mjs'
import { countPart } from './counting.mjs'
import { SERVICES, startService } from './services.mjs'

const LOAD = fileURLToPath(new URL('load.mjs', import.meta.url))
/** Different seeds of the requests. */
const SEEDS = 16
/** Between two looks at the memory of all processes. */
const SAMPLE_MS = 100
/** Between two requests to /health, of which each is sent whether or not the one before has come back. */
const HEALTH_MS = 100
/** As long as autocannon waits. */
const TIMEOUT_MS = 10_000
/** Finished jobs whose results are checked. */
const CHECKED_JOBS = 2_000

/**
 * @typedef {object} Run
 * @property {string} service
 * @property {'node' | 'bun'} runtime
 * @property {number} size
 * @property {number} parts
 * @property {number} connections
 * @property {number} seconds
 * @property {number} maxMebibytes the service is ended when its processes have more together
 */

/**
 * @param {import('../../lib/scope.mjs').Scope} parent
 * @param {Run} run
 */
export async function measure(parent, run) {
  const scope = parent.own(new Scope(), 'close')
  try {
    return await measureIn(scope, run)
  } finally {
    await scope.close()
  }
}

/**
 * @param {Scope} scope
 * @param {Run} run
 */
async function measureIn(scope, { service, runtime, size, parts, connections, seconds, maxMebibytes }) {
  const { accepts = false } = SERVICES[service]
  const [loadBefore] = loadavg()
  const expected = expectedCounts(size)
  const env = { SIZE: String(size), PARTS: String(parts) }
  const { url, processes } = await startService(scope, service, { runtime, env })
  await checkAnswer(service, url, 1, expected.get(1))

  const watch = new Watch(processes, maxMebibytes * 2 ** 20, () => processes.gateway.kill())
  const health = new Health(url)
  const options = { url, connections, duration: seconds, expected: [...expected], accepts }
  const load = scope.own(new Program('the load generator', process.execPath, [LOAD, JSON.stringify(options)]), 'kill')
  const loadMeter = new Meter(load.pid)
  // Its CPU and memory are gone with it.
  const loadUse = sampled(loadMeter)
  await load.next('began')
  const began = performance.now()
  const done = await load.next('done')
  const { stopped, ...used } = watch.end()
  const finished = accepts
    ? await finishedJobs(url, done, began, expected)
    : { count: done.right, seconds: done.seconds, wrong: done.wrong, left: 0 }
  return {
    service,
    runtime,
    title: SERVICES[service].title,
    loadBefore,
    requests: total(done.statuses),
    statuses: done.statuses,
    errors: done.errors - done.timeouts,
    timeouts: done.timeouts,
    seconds: done.seconds,
    latencyMs: total(done.statuses) > 0 ? done.latencyMs : undefined,
    finished: finished.count,
    finishedPerSecond: finished.count / finished.seconds,
    cpuMsPerRequest: cpuMsPerRequest(used, total(done.statuses), finished.count),
    wrong: finished.wrong,
    left: finished.left,
    health: await health.end(),
    processes: { ...used.processes, load: loadUse() },
    othersCpuPercent: Math.max(0, used.machineCpuPercent - sum(Object.values(used.processes)) - loadUse().cpuPercent),
    stopped,
  }
}

/** @param {number} size */
export function expectedCounts(size) {
  return new Map(Array.from({ length: SEEDS }, (_, at) => at + 1).map((seed) => [seed, countPart(seed, 0, size)]))
}

/**
 * Asks once, and waits for the count.
 *
 * @param {string} service
 * @param {string} url
 * @param {number} seed
 * @param {number | undefined} expected
 */
export async function checkAnswer(service, url, seed, expected) {
  const response = await fetch(`${url}/heavy?seed=${seed}`)
  const answer = /** @type {any} */ (await response.json())
  const isRight = response.status === (SERVICES[service].accepts ? 202 : 200)
  if (!isRight) throw new Error(`${service} answered ${response.status}: ${JSON.stringify(answer)}`)
  const { count } = SERVICES[service].accepts ? await jobDone(url, answer.id) : answer
  if (count !== expected) throw new Error(`${service} counted ${count} in place of ${expected}`)
}

/**
 * @param {string} url
 * @param {string} id
 */
function jobDone(url, id) {
  const isDone = async () => {
    const job = await json(`${url}/jobs/${id}`)
    return ['completed', 'failed'].includes(job.state) && job
  }
  return waitFor(isDone, { timeoutMs: 60_000, message: `job ${id} being done` })
}

/**
 * Which of the accepted jobs are done at the end of the load, and whether their results are right: those of the oldest ones, for
 * jobs are taken in their order.
 *
 * @param {string} url
 * @param {{ accepted: [string, number][] }} done
 * @param {number} began when the load did
 * @param {Map<number, number>} expected
 */
async function finishedJobs(url, { accepted }, began, expected) {
  const { completed, waiting, active, failed } = await json(`${url}/jobs`)
  const seconds = (performance.now() - began) / 1000
  let wrong = failed
  for (const [id, seed] of accepted.slice(0, Math.min(completed, CHECKED_JOBS))) {
    const job = await json(`${url}/jobs/${id}`)
    // With several slots a job may be finished a little earlier than its elders.
    if (job.state === 'completed' && job.count !== expected.get(seed)) wrong += 1
  }
  // The job of the first answer was before the load.
  return { count: Math.max(0, completed - 1), seconds, wrong, left: waiting + active }
}

/** @param {string} url */
async function json(url) {
  return /** @type {any} */ (await (await fetch(url)).json())
}

/** @param {Record<number, number>} statuses */
function total(statuses) {
  return Object.values(statuses).reduce((all, count) => all + count, 0)
}

/**
 * The CPU of a request in all processes of the service. Where it is accepted first and done later, the one divides by what was
 * accepted and the other by what was finished.
 *
 * @param {{ seconds: number, processes: Record<string, { cpuPercent: number }> }} used
 * @param {number} answered
 * @param {number} finished
 */
function cpuMsPerRequest({ seconds, processes }, answered, finished) {
  const { worker, ...others } = processes
  const milliseconds = (some) => 10 * seconds * sum(some)
  const cost = worker
    ? milliseconds(Object.values(others)) / answered + milliseconds([worker]) / finished
    : milliseconds(Object.values(others)) / finished
  return Number.isFinite(cost) ? cost : undefined
}

/** @param {{ cpuPercent: number }[]} processes */
function sum(processes) {
  return processes.reduce((all, { cpuPercent }) => all + cpuPercent, 0)
}

/**
 * Looks at a process again and again, so that something is known of it when it has ended.
 *
 * @param {Meter} meter
 * @returns {() => { cpuPercent: number, peakResidentBytes: number }}
 */
function sampled(meter) {
  let cpuPercent = 0
  const look = () => (cpuPercent = meter.cpuPercent() ?? cpuPercent)
  const timer = setInterval(look, SAMPLE_MS)
  return () => {
    clearInterval(timer)
    look()
    return { cpuPercent, peakResidentBytes: meter.peakResidentBytes }
  }
}

/** CPU and memory of the processes of a service, which it ends when they have too much of the memory. */
class Watch {
  #uses
  #from = { cpu: machineCpuSeconds(), at: performance.now() }
  #timer
  #stopped = ''

  /**
   * @param {Record<string, { pid: number | undefined }>} processes
   * @param {number} maxBytes
   * @param {() => void} stop
   */
  constructor(processes, maxBytes, stop) {
    const meters = Object.entries(processes).map(([name, { pid }]) => /** @type {const} */ ([name, new Meter(pid)]))
    this.#uses = meters.map(([name, meter]) => /** @type {const} */ ([name, sampled(meter)]))
    this.#timer = setInterval(() => {
      const bytes = meters.reduce((all, [, meter]) => all + meter.residentBytes, 0)
      if (bytes < maxBytes || this.#stopped) return
      const seconds = ((performance.now() - this.#from.at) / 1000).toFixed(1)
      this.#stopped = `ended after ${seconds} s, when it had ${Math.round(bytes / 2 ** 20)} MiB of memory`
      stop()
    }, SAMPLE_MS)
  }

  end() {
    clearInterval(this.#timer)
    const seconds = (performance.now() - this.#from.at) / 1000
    const machineCpuPercent = (100 * (machineCpuSeconds() - this.#from.cpu)) / seconds
    const processes = Object.fromEntries(this.#uses.map(([name, use]) => [name, use()]))
    return { seconds, processes, machineCpuPercent, stopped: this.#stopped }
  }
}

/** The latency of /health, asked at a steady pace. */
class Health {
  #agent = new Agent({ keepAlive: true })
  #url
  /** @type {number[]} in milliseconds */
  #latencies = []
  #failed = 0
  /** @type {Set<Promise<void>>} */
  #pending = new Set()
  #timer

  /** @param {string} url */
  constructor(url) {
    this.#url = `${url}/health`
    this.#timer = setInterval(() => {
      const asked = this.#ask().finally(() => this.#pending.delete(asked))
      this.#pending.add(asked)
    }, HEALTH_MS)
  }

  async #ask() {
    const began = performance.now()
    try {
      await new Promise((resolve, reject) => {
        const request = get(this.#url, { agent: this.#agent, timeout: TIMEOUT_MS }, (response) => {
          response.once('end', resolve).once('error', reject).resume()
        })
        request.once('error', reject).once('timeout', () => request.destroy(new Error('no answer')))
      })
      this.#latencies.push(performance.now() - began)
    } catch {
      this.#failed += 1
      this.#latencies.push(TIMEOUT_MS)
    }
  }

  /** The requests during the load, whenever their answers came; a missing answer counts as the time limit. */
  async end() {
    clearInterval(this.#timer)
    await Promise.all(this.#pending)
    this.#agent.destroy()
    const sorted = this.#latencies.sort((a, b) => a - b)
    const at = (quantile) => sorted[Math.min(sorted.length - 1, Math.floor(quantile * sorted.length))]
    return { asked: sorted.length, failed: this.#failed, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) }
  }
}
