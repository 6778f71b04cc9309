'use strict'

// Transforms: the transforms of a pipeline. Functions run on the thread of the program, modules in worker threads.

const { setTimeout } = require('node:timers/promises')
const { MillraceError } = require('../error.js')
const { Runner } = require('./runner.js')
const { checked } = require('./functions.js')
const { whereOf } = require('./where.js')
const { WorkerThreads } = require('./worker-threads.js')

/** From the abort of their signals to the end of the threads. */
const ABORT_MS = 100

class Transforms {
  #native
  #warn
  #routes
  /** @type {(InstanceType<typeof Runner> | InstanceType<typeof WorkerThreads>)[]} */
  #running = []

  /**
   * @param {any[]} routes of the configuration
   * @param {any} native the pipeline of the engine
   * @param {(warning: any) => void} warn
   */
  constructor(routes, native, warn) {
    this.#native = native
    this.#warn = warn
    this.#routes = routes.flatMap(({ transform }, route) => (transform === undefined ? [] : [{ transform, where: whereOf(routes, route) }]))
  }

  /**
   * Hands the engine what it is to call: before it starts.
   *
   * @returns {Promise<void> | undefined} settled when all threads have their function; undefined where there are none
   * @throws {MillraceError} `TRANSFORM_INVALID`
   */
  start() {
    if (this.#running.length > 0) {
      throw new MillraceError({ code: 'INVALID_STATE', message: 'start() is not possible while another start() is under way' })
    }
    this.#running = this.#routes.map(({ transform, where }) => this.#make(transform, where))
    return this.#threads.length > 0 ? this.#startThreads() : undefined
  }

  /**
   * Makes a transform of a route that is added, and resolves when its threads have their function.
   *
   * @param {any} transform
   * @param {{ table: string, route: number, topicFilter: string }} where
   * @throws {MillraceError} `TRANSFORM_INVALID`
   */
  async add(transform, where) {
    const one = this.#make(transform, where, 'route.transform')
    if (one instanceof WorkerThreads) {
      this.#native.addModule(where.route)
      await one.start()
    }
    this.#running.push(one)
    return one
  }

  /** Ends one that was added. */
  async remove(one) {
    this.#running = this.#running.filter((other) => other !== one)
    if (one instanceof WorkerThreads) await one.stop()
  }

  async #startThreads() {
    try {
      await Promise.all(this.#threads.map((its) => its.start()))
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /**
   * Aborts the signals of all batches, and leaves threads a moment to react. @param {Error & { code:
   * string }} reason
   */
  async abort(reason) {
    for (const one of this.#running) one.abort(reason)
    if (this.#threads.length > 0) await setTimeout(ABORT_MS)
  }

  /** Ends the threads. */
  async stop() {
    const threads = this.#threads
    this.#running = []
    await Promise.all(threads.map((its) => its.stop()))
  }

  get #threads() {
    return this.#running.filter((one) => one instanceof WorkerThreads)
  }

  #make(transform, where, path = `routes[${where.route}].transform`) {
    if (typeof transform === 'function') {
      const runner = new Runner(where, checked(transform, path))
      this.#native.onTransform(where.route, runner.run)
      return runner
    }
    const source = typeof transform === 'string' ? { module: transform } : transform
    const task = { pipeline: this.#native.id, where, path }
    return new WorkerThreads(task, { ...source, module: String(source.module) }, this.#warn)
  }
}

module.exports = { Transforms }
