// Terminates a worker thread in which a pipeline runs, and ends.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

const config = JSON.parse(process.argv[2])
const worker = new Worker(new URL('in-a-worker.mjs', import.meta.url), { workerData: config })
const [message] = await once(worker, 'message')
console.log(message)
await worker.terminate()
console.log('terminated')
