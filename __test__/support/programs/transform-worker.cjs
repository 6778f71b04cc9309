'use strict'

// The program of a transform's worker thread, on a fake of the engine: it makes one call, and posts the
// result to a channel.

const { threadId, workerData } = require('node:worker_threads')
const native = require('../../../lib/native.js')

native.NativeTransformWorker = /** @type {any} */ (class {
  #isClosed = false

  constructor(pipeline, route, onCall) {
    import('../fake-transform-call.mjs').then(async ({ FakeCall, column }) => {
      const channel = new BroadcastChannel(workerData.channel)
      channel.unref?.()
      const call = new FakeCall([column('a', 'Float64', [1, 2])])
      onCall(call)
      while (!call.isOver && !this.#isClosed) await new Promise((resolve) => setTimeout(resolve, 5))
      channel.postMessage({ threadId, pipeline, route, written: call.written, failed: call.failed })
    })
  }

  close() {
    this.#isClosed = true
  }
})

require('../../../lib/transform/worker.js')
