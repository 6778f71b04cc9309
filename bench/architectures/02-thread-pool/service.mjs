// A pool of threads takes the parts of all requests in their order.
//
// When a client goes away, its parts leave the queue, and a thread that is counting for it is ended and replaced: JavaScript in
// a loop cannot be asked to stop.

import { Piscina } from 'piscina'
import { partsOf } from '../lib/counting.mjs'
import { answerHeavy, gateway, listen } from '../lib/gateway.mjs'

const THREADS = Number(process.env.THREADS ?? 8)

const pool = new Piscina({
  filename: new URL('part.mjs', import.meta.url).href,
  minThreads: THREADS,
  maxThreads: THREADS,
})

const app = gateway()
answerHeavy(app, async (task, signal) => {
  const counts = await Promise.all(partsOf(task).map((part) => pool.run(part, { signal })))
  return counts.reduce((sum, count) => sum + count, 0)
})
listen(app)
