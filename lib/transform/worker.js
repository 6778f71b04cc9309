'use strict'

// A worker thread of a transform that is a module. The host (worker-threads.js) sends what to run; `workerData` is the user's own.

const { parentPort } = require('node:worker_threads')
const { NativeTransformWorker } = require('../native.js')
const { imported } = require('./functions.js')
const { Runner } = require('./runner.js')

/** Messages of the host and to it have this key; modules may have messages of their own. */
const KEY = 'millrace'

if (parentPort === null) throw new Error('this file is run by the pipeline, in a worker thread')
const port = parentPort

/** @type {InstanceType<typeof Runner> | undefined} */
let runner
/** @type {{ close(): void } | undefined} */
let native

port.on('message', (message) => {
  const task = message?.[KEY]
  if (task?.run) run(task.run)
  if (task?.abort) runner?.abort(Object.assign(new Error(task.abort.message), task.abort))
  if (task?.close) native?.close()
})

/** @param {{ pipeline: number, where: any, source: { module: string, export: string }, path: string }} task */
async function run({ pipeline, where, source, path }) {
  try {
    runner = new Runner(where, await imported(source, path))
    native = new NativeTransformWorker(pipeline, where.route, runner.run)
    port.postMessage({ [KEY]: { ready: true } })
  } catch (error) {
    const { code = 'INTERNAL', message, path: option, cause } = /** @type {any} */ (error)
    const { stack } = /** @type {any} */ (cause ?? error)
    port.postMessage({ [KEY]: { failed: { code, message, path: option, stack: String(stack) } } })
  }
}
