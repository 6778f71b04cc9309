'use strict'

// WorkerThreads: the threads of a transform that is a module. They are the pipeline's own: started before it, ended with it, and
// started again if one ends by itself. The batch of such a thread fails: the engine notices that its
// call is gone.

const { join } = require('node:path')
const { Worker } = require('node:worker_threads')
const { MillraceError } = require('../error.js')

const FILE = join(__dirname, 'worker.js')
const KEY = 'millrace'
/** The wait before a thread is started again; it doubles from there. */
const MIN_RESTART_MS = 100
const MAX_RESTART_MS = 30_000

class WorkerThreads {
  #task
  #count
  #data
  #warn
  #file
  /** @type {Set<Worker>} */
  #workers = new Set()
  /** @type {Set<NodeJS.Timeout>} */
  #restarts = new Set()
  #isStopping = false

  /**
   * @param {{ pipeline: number, where: { route: number, table: string, topicFilter: string }, path: string }} task
   * @param {{ module: string, export?: string, threads?: number, data?: unknown }} source
   * @param {(warning: { code: string, message: string, route: number, reason: string, retryInMs: number }) => void} warn
   * @param {string} [file] the program of the threads
   */
  constructor(task, { module, export: name = 'default', threads = 1, data = null }, warn, file = FILE) {
    this.#task = { ...task, source: { module, export: name } }
    this.#count = threads
    this.#data = data
    this.#warn = warn
    this.#file = file
  }

  /**
   * Resolves when all threads have the function. If one has not, all are ended.
   *
   * @throws {MillraceError} `TRANSFORM_INVALID`
   */
  async start() {
    this.#isStopping = false
    const starting = Array.from({ length: this.#count }, () => this.#startOne(MIN_RESTART_MS))
    const results = await Promise.allSettled(starting)
    const failed = results.find(({ status }) => status === 'rejected')
    if (failed === undefined) return
    await this.stop()
    throw /** @type {PromiseRejectedResult} */ (failed).reason
  }

  /** Aborts the signals of the batches that are under way. @param {{ code: string, message: string }} reason */
  abort({ code, message }) {
    this.#tell({ abort: { code, message, name: 'MillraceError' } })
  }

  /** Ends all threads, whatever they do. */
  async stop() {
    this.#isStopping = true
    for (const timer of this.#restarts) clearTimeout(timer)
    this.#restarts.clear()
    this.#tell({ close: true })
    const workers = [...this.#workers]
    this.#workers.clear()
    await Promise.all(workers.map((worker) => worker.terminate()))
  }

  #tell(message) {
    for (const worker of this.#workers) worker.postMessage({ [KEY]: message })
  }

  /** @param {number} waitMs before another one, should this one end */
  #startOne(waitMs) {
    const worker = new Worker(this.#file, { workerData: this.#data })
    this.#workers.add(worker)
    const startedAt = performance.now()
    let isReady = false
    /** @type {any} */
    let reason
    return new Promise((resolve, reject) => {
      worker.on('message', (message) => {
        const answer = message?.[KEY]
        if (answer?.ready) {
          isReady = true
          // The state of the pipeline keeps the process alive, not its threads.
          worker.unref()
          resolve(undefined)
        }
        if (answer?.failed) {
          reject(revived(answer.failed))
          worker.terminate()
        }
      })
      worker.on('error', (error) => (reason ??= error))
      worker.on('exit', (code) => {
        const isOwn = this.#workers.delete(worker)
        const text = reason ? `it threw ${reason?.message ?? reason}` : `it exited with ${code}`
        const { path } = this.#task
        const message = `${path}: the worker thread ended: ${text}`
        if (this.#isStopping) reject(new MillraceError({ code: 'INVALID_STATE', message: 'the pipeline was stopped while it started' }))
        else reject(new MillraceError({ code: 'TRANSFORM_INVALID', message, path }, { cause: reason }))
        if (!isReady || !isOwn || this.#isStopping) return
        this.#restart(text, performance.now() - startedAt > MAX_RESTART_MS ? MIN_RESTART_MS : waitMs)
      })
      worker.postMessage({ [KEY]: { run: this.#task } })
    })
  }

  #restart(reason, waitMs) {
    const { route } = this.#task.where
    const message = `routes[${route}].transform: a worker thread ended, and is started again in ${waitMs} ms: ${reason}`
    this.#warn({ code: 'TRANSFORM_WORKER_ENDED', message, route, reason, retryInMs: waitMs })
    const next = Math.min(2 * waitMs, MAX_RESTART_MS)
    const timer = setTimeout(() => {
      this.#restarts.delete(timer)
      this.#startOne(next).catch((error) => {
        if (!this.#isStopping) this.#restart(error.message, next)
      })
    }, waitMs)
    timer.unref()
    this.#restarts.add(timer)
  }
}

/** An error of a worker thread. */
function revived({ code, message, path, stack }) {
  const cause = new Error(message)
  cause.stack = stack
  return new MillraceError({ code, message, path }, { cause })
}

module.exports = { WorkerThreads }
