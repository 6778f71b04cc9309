// The same count in this process: an addon in Rust (addon/) with a pool of threads, a promise for each request, and a bounded
// queue. Beyond it the answer is 503 with Retry-After, at once.

import { createRequire } from 'node:module'
import { answerHeavy, gateway, listen } from '../lib/gateway.mjs'

/** Built by the benchmark. */
const { Cancellation, Pool } = createRequire(import.meta.url)('./addon.node')

/** Requests that wait or are being counted. */
const CAPACITY = Number(process.env.CAPACITY ?? 128)
const RETRY_AFTER_SECONDS = 1

const pool = new Pool(CAPACITY)

const app = gateway()
answerHeavy(app, async ({ seed, size, parts }, gone) => {
  const cancellation = new Cancellation()
  gone.addEventListener('abort', () => cancellation.cancel())
  try {
    return await pool.count(seed, size, parts, cancellation)
  } catch (error) {
    if (error.code !== 'QueueFull') throw error
    throw Object.assign(error, { status: 503, retryAfter: RETRY_AFTER_SECONDS })
  }
})
listen(app)
