// The common part of all gateways: Express, /health, the task of a request, and the report of the port.

import express from 'express'

/** The most that a request may ask for, and what it asks for by default; the benchmark sets both. */
const SIZE = Number(process.env.SIZE ?? 20_000_000)
const PARTS = Number(process.env.PARTS ?? 8)

export function gateway() {
  const app = express()
  app.disable('x-powered-by')
  // The light endpoint beside the heavy one.
  app.get('/health', (request, response) => response.json({ ok: true }))
  return app
}

/**
 * `/heavy?seed=1`, and for less work `&size=1000`.
 *
 * @param {import('express').Request} request
 * @returns {import('./counting.mjs').Task | undefined} nothing where the request makes no sense
 */
export function taskOf({ query }) {
  const [seed, size] = [Number(query.seed ?? 0), Number(query.size ?? SIZE)]
  const isWhole = (value, max) => Number.isInteger(value) && value >= 0 && value <= max
  return isWhole(seed, 2 ** 32 - 1) && isWhole(size, SIZE) ? { seed, size, parts: PARTS } : undefined
}

/**
 * Answers `GET /heavy` with what `count` gives.
 *
 * @param {import('express').Express} app
 * @param {(task: import('./counting.mjs').Task, gone: AbortSignal) => Promise<number>} count `gone` is aborted when the client
 *   is no longer there
 */
export function answerHeavy(app, count) {
  app.get('/heavy', async (request, response) => {
    const task = taskOf(request)
    if (!task) return response.status(400).json({ error: 'seed and size must be whole numbers within their limits' })
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    try {
      response.json({ seed: task.seed, count: await count(task, gone.signal) })
    } catch (error) {
      if (gone.signal.aborted) return
      const { status = 500, retryAfter, message } = error
      if (retryAfter) response.set('Retry-After', String(retryAfter))
      response.status(status).json({ error: message })
    }
  })
}

/**
 * Listens, says where on standard output, and ends when standard input ends: the benchmark is gone then.
 *
 * @param {import('express').Express} app
 */
export function listen(app) {
  const server = app.listen(0, '127.0.0.1', () => {
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
    console.log(JSON.stringify({ event: 'started', port }))
  })
  process.stdin.on('end', () => process.exit()).resume()
}
