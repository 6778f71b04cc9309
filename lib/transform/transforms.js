'use strict'

// Transforms: the transforms of a pipeline. Functions run on the thread of the program, modules in worker threads.

const { Runner } = require('./runner.js')
const { checked } = require('./functions.js')
const { WorkerThreads } = require('./worker-threads.js')

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
    this.#routes = routes.flatMap(({ transform, table, topic }, route) =>
      transform === undefined ? [] : [{ transform, where: { route, table, topicFilter: filterOf(topic) } }],
    )
  }

  /**
   * Hands the engine what it is to call: before it starts.
   *
   * @throws {MillraceError} `TRANSFORM_INVALID`
   */
  async start() {
    this.#running = this.#routes.map(({ transform, where }) => this.#make(transform, where))
    try {
      await Promise.all(this.#running.map((one) => one instanceof WorkerThreads && one.start()))
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** Aborts the signals of all batches. @param {{ code: string, message: string }} reason */
  abort(reason) {
    for (const one of this.#running) one.abort(reason)
  }

  /** Ends the threads. */
  async stop() {
    const running = this.#running
    this.#running = []
    await Promise.all(running.map((one) => one instanceof WorkerThreads && one.stop()))
  }

  #make(transform, where) {
    const path = `routes[${where.route}].transform`
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

/** `drivers/{id}/{rest#}` → `drivers/+/#`. */
function filterOf(topic) {
  return topic.replace(/\{[^{}]*\}/g, (name) => (name.endsWith('#}') ? '#' : '+'))
}

module.exports = { Transforms }
