// For each request a worker for each part, made anew. Nothing limits how many there are.

import { Worker } from 'node:worker_threads'
import { partsOf } from '../lib/counting.mjs'
import { answerHeavy, gateway, listen } from '../lib/gateway.mjs'

const PART = new URL('part.mjs', import.meta.url)

const app = gateway()
answerHeavy(app, async (task) => {
  const counts = await Promise.all(partsOf(task).map(countInWorker))
  return counts.reduce((sum, count) => sum + count, 0)
})
listen(app)

/**
 * @param {{ seed: number, from: number, to: number }} part
 * @returns {Promise<number>}
 */
function countInWorker(part) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(PART, { workerData: part })
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`a worker ended with ${code}`)))
  })
}
