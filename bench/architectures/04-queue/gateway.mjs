// The gateway puts a job into a queue of BullMQ, in Redis, and answers 202 with its id. Workers in Rust (worker/) take the jobs.
//
//   GET /heavy             202 { id }, and where to ask
//   GET /jobs/:id          { id, state, seed, count? }
//   GET /jobs/:id/events   an event (text/event-stream) with the same when the job is done
//   GET /jobs              how many there are in which state

import { Queue, QueueEvents } from 'bullmq'
import { gateway, listen, taskOf } from '../lib/gateway.mjs'

const { QUEUE = 'counts', REDIS_PORT } = process.env
const connection = { host: '127.0.0.1', port: Number(REDIS_PORT) }
/** A missed event is made up for by asking: BullMQ drops events beyond some 10,000. */
const ASK_AGAIN_MS = 1_000

// Without an offline queue a request fails at once while Redis is away.
const queue = new Queue(QUEUE, { connection: { ...connection, enableOfflineQueue: false } })
queue.on('error', () => {})
await queue.waitUntilReady()

/** @type {QueueEvents | undefined} made for the first who listens: it reads every event of the queue */
let events

const app = gateway()

app.get('/heavy', async (request, response) => {
  const task = taskOf(request)
  if (!task) return response.status(400).json({ error: 'seed and size must be whole numbers within their limits' })
  try {
    const { id } = await queue.add('count', task)
    response.status(202).location(`/jobs/${id}`).json({ id })
  } catch (error) {
    response.status(503).set('Retry-After', '1').json({ error: error.message })
  }
})

app.get('/jobs', async (request, response) => {
  response.json(await queue.getJobCounts('waiting', 'active', 'completed', 'failed'))
})

app.get('/jobs/:id', async (request, response) => {
  const job = await look(request.params.id)
  response.status(job ? 200 : 404).json(job ?? { error: 'there is no such job' })
})

app.get('/jobs/:id/events', async (request, response) => {
  const { id } = request.params
  events ??= new QueueEvents(QUEUE, { connection }).setMaxListeners(0)
  const ask = async () => {
    const job = await look(id)
    if (response.writableEnded || (job && !['completed', 'failed'].includes(job.state))) return
    leave()
    response.end(`event: ${job?.state ?? 'unknown'}\ndata: ${JSON.stringify(job ?? { id })}\n\n`)
  }
  const hear = ({ jobId }) => jobId === id && ask()
  const timer = setInterval(ask, ASK_AGAIN_MS)
  const leave = () => {
    clearInterval(timer)
    events?.off('completed', hear).off('failed', hear)
  }
  response.once('close', leave)
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' }).flushHeaders()
  // It listens before it asks: nothing can happen in between unseen.
  events.on('completed', hear).on('failed', hear)
  await ask()
})

listen(app)

/** @param {string} id */
async function look(id) {
  const job = await queue.getJob(id)
  if (!job) return undefined
  const state = await job.getState()
  // The state may be newer than the job.
  const done = state === 'completed' && job.returnvalue === null ? await queue.getJob(id) : job
  return { id, state, seed: job.data.seed, count: done?.returnvalue ?? undefined, error: job.failedReason }
}
