// A worker thread with a running pipeline, which it never stops.

import { parentPort, workerData } from 'node:worker_threads'
import { Pipeline } from '../../../index.js'

const pipeline = new Pipeline(workerData)
pipeline.on('metrics', () => {})
await pipeline.start()
parentPort.postMessage('running')
