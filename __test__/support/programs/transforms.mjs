// A pipeline with a function as transform, in the program or in a worker thread of it that is then terminated.

import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { Pipeline } from '../../../index.js'

/** @type {Record<string, (batch: any) => any>} */
const TRANSFORMS = {
  doubles: ({ columns: { doubled, seq }, length }) => {
    for (let row = 0; row < length; row++) doubled.values[row] = 2 * seq.values[row]
  },
  'never settles': () => {
    tell('called')
    return new Promise(() => {})
  },
}

const tell = (text) => (isMainThread ? console.log(text) : parentPort?.postMessage(text))
const given = isMainThread ? JSON.parse(process.argv[2]) : workerData
const { config, transform, listens = false, messages = 0, inWorker = false } = given

if (isMainThread && inWorker) {
  const worker = new Worker(new URL(import.meta.url), { workerData: given })
  worker.on('message', async (text) => {
    console.log(text)
    if (text !== 'called') return
    await worker.terminate()
    console.log('terminated')
  })
} else {
  config.routes[0].transform = TRANSFORMS[transform]
  const pipeline = new Pipeline(config)
  if (listens) pipeline.on('warning', ({ code, message }) => console.error(`${code}: ${message}`))
  await pipeline.start()
  tell('running')
  while (pipeline.metrics().messages.received < messages) await sleep(5)
  tell('reached its end')
}
