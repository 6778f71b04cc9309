// npm run bench:architectures: its services count right, in Node.js and in Bun, and do with faults what docs/architectures.md says.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { countPart, partsOf } from '../../bench/architectures/lib/counting.mjs'
import { checkAnswer, expectedCounts, measure } from '../../bench/architectures/lib/measure.mjs'
import { SERVICES, startService, startWorker } from '../../bench/architectures/lib/services.mjs'
import { setUp } from '../../bench/architectures/lib/setup.mjs'
import { Scope } from '../../bench/lib/scope.mjs'
import { usage } from '../../bench/lib/usage.mjs'
import { waitFor } from '../../tools/servers/index.mjs'
import { full, onlyFull } from '../support/full.mjs'

const BENCHMARK = fileURLToPath(new URL('../../bench/architectures/index.mjs', import.meta.url))
/** The tests start Bun themselves. */
const skip = process.versions.bun ? 'it is about the services, which run in both runtimes' : onlyFull
const options = { skip, timeout: 300_000 }
/** Counting so far takes days: a test that waits for that fails. */
const ENDLESS = 1e13

before(() => (full && !process.versions.bun ? setUp(new Scope()) : undefined), { timeout: 900_000 })

/** @param {import('node:test').TestContext} t */
function ownScope(t) {
  const scope = new Scope()
  t.after(() => scope.close())
  return scope
}

/**
 * @param {string} url
 * @param {AbortSignal} [signal]
 */
async function ask(url, signal) {
  const response = await fetch(url, { signal })
  return { status: response.status, headers: response.headers, body: /** @type {any} */ (await response.json()) }
}

/**
 * Sends a request, and gives back how its client goes away.
 *
 * @param {string} url
 */
function askAndLeave(url) {
  const asked = request(url)
  asked.on('error', () => {})
  asked.end()
  return () => asked.destroy()
}

/**
 * Waits until a process has counted for a while: one with nothing to do uses next to no CPU.
 *
 * @param {number | undefined} pid
 */
async function isCounting(pid) {
  const { cpuSeconds } = usage(Number(pid))
  await waitFor(() => usage(Number(pid)).cpuSeconds > cpuSeconds + 1, { timeoutMs: 60_000, message: 'counting' })
}

test('a count is the same in JavaScript and in Rust, and its parts add up', { skip }, () => {
  // counting/src/lib.rs has the same figures.
  for (const [seed, size, expected] of [[0, 0, 0], [1, 1_000_000, 125_082], [4_294_967_295, 20_000_000, 2_498_767]]) {
    for (const parts of [1, 3, 8]) {
      const counts = partsOf({ seed, size, parts }).map(({ seed, from, to }) => countPart(seed, from, to))
      assert.equal(counts.reduce((sum, count) => sum + count, 0), expected)
    }
  }
})

test('the types of the services fit', options, async () => {
  const root = fileURLToPath(new URL('../../', import.meta.url))
  const args = [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', join(root, 'bench', 'architectures')]
  await promisify(execFile)(process.execPath, args)
})

test('a quick run of all services has every answer right', options, async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'millrace-architectures-'))
  t.after(() => rmSync(out, { recursive: true }))
  await promisify(execFile)(process.execPath, [BENCHMARK, '--quick', '--out', out])
  const files = readdirSync(out).sort()
  assert.deepEqual(files.map((name) => name.split('.').at(-1)), ['json', 'md', 'svg'])
  const [json, markdown, svg] = files.map((name) => readFileSync(join(out, name), 'utf8'))
  const { steps, failed } = JSON.parse(json)
  assert.deepEqual(failed, {})
  const expected = ['node', 'bun'].flatMap((runtime) => Object.keys(SERVICES).map((service) => `${service} ${runtime}`))
  assert.deepEqual(steps.map(({ service, runtime }) => `${service} ${runtime}`), expected)
  for (const { service, title, wrong, stopped, finished, cpuMsPerRequest, processes } of steps) {
    assert.deepEqual({ title, wrong, stopped }, { title, wrong: 0, stopped: '' })
    // Workers made anew may not finish one request in the second.
    if (service !== '01-unpooled-workers') assert.ok(finished > 0 && cpuMsPerRequest > 0, title)
    const behind = { '03-microservice': ['service'], '04-queue': ['redis', 'worker'] }[service] ?? []
    assert.deepEqual(Object.keys(processes).sort(), ['gateway', 'load', ...behind].sort())
    for (const { cpuPercent, peakResidentBytes } of Object.values(processes)) {
      assert.ok(cpuPercent >= 0 && peakResidentBytes > 2 ** 20)
    }
    for (const text of [markdown, svg]) assert.ok(text.includes(title), title)
  }
})

test('a service that takes too much memory is ended', options, async (t) => {
  const run = { service: '05-addon', runtime: /** @type {const} */ ('node'), size: 1000, parts: 8, connections: 2, seconds: 1 }
  const { stopped, errors } = await measure(ownScope(t), { ...run, maxMebibytes: 1 })
  assert.match(stopped, /^ended after [\d.]+ s, when it had \d+ MiB of memory$/)
  assert.ok(errors > 0)
})

test('a request that makes no sense is refused', options, async (t) => {
  for (const service of ['04-queue', '05-addon']) {
    const { url } = await startService(ownScope(t), service, { env: { SIZE: '1000' } })
    for (const query of ['seed=-1', 'seed=4294967296', 'seed=x', 'seed=1.5', 'size=1001', 'size=-1']) {
      assert.equal((await ask(`${url}/heavy?${query}`)).status, 400, query)
    }
    assert.deepEqual((await ask(`${url}/health`)).body, { ok: true })
  }
})

for (const runtime of /** @type {const} */ (['node', 'bun'])) {
  test(`no job is lost when workers are killed, ${runtime}`, options, async (t) => {
    const scope = ownScope(t)
    const size = 20_000_000
    const env = { SIZE: String(size), LOCK_MS: '1000' }
    const { url, processes, env: behind } = await startService(scope, '04-queue', { runtime, env })
    const seeds = [...expectedCounts(size)]
    const jobs = []
    for (let at = 0; at < 60; at += 1) {
      const [seed, count] = seeds[at % seeds.length]
      const { status, headers, body } = await ask(`${url}/heavy?seed=${seed}`)
      assert.equal(status, 202)
      assert.equal(headers.get('location'), `/jobs/${body.id}`)
      jobs.push({ id: body.id, count })
    }
    assert.equal(new Set(jobs.map(({ id }) => id)).size, jobs.length)

    let { worker } = processes
    for (let kills = 0; kills < 3; kills += 1) {
      const { completed } = (await ask(`${url}/jobs`)).body
      const isInTheMiddle = async () => {
        const now = (await ask(`${url}/jobs`)).body
        return now.completed > completed && now.active > 0
      }
      await waitFor(isInTheMiddle, { timeoutMs: 60_000, message: 'a worker in the middle' })
      await worker.kill()
      const { active, waiting } = (await ask(`${url}/jobs`)).body
      assert.ok(active > 0, 'it had jobs when it was killed')
      assert.ok(waiting > 0)
      worker = await startWorker(scope, { ...behind, LOCK_MS: '1000' })
    }
    const isDone = async () => (await ask(`${url}/jobs`)).body.completed === jobs.length
    await waitFor(isDone, { timeoutMs: 120_000, message: 'all jobs being done' })
    for (const { id, count } of jobs) {
      const { state, count: counted } = (await ask(`${url}/jobs/${id}`)).body
      assert.deepEqual({ id, state, count: counted }, { id, state: 'completed', count })
    }
  })

  test(`an event reports that a job is done, ${runtime}`, options, async (t) => {
    const { url } = await startService(ownScope(t), '04-queue', { runtime, env: { SIZE: '100000' } })
    const { id } = (await ask(`${url}/heavy?seed=5`)).body
    const expected = { id, state: 'completed', seed: 5, count: countPart(5, 0, 100_000) }
    // The second finds a job that was done before.
    for (let times = 0; times < 2; times += 1) {
      const response = await fetch(`${url}/jobs/${id}/events`)
      assert.equal(response.headers.get('content-type'), 'text/event-stream')
      const [, event, data] = /^event: (\w+)\ndata: (.+)\n\n$/.exec(await response.text()) ?? []
      assert.equal(event, 'completed')
      assert.deepEqual(JSON.parse(data), expected)
    }
    assert.equal((await ask(`${url}/jobs/none`)).status, 404)
  })

  test(`a killed microservice is a 502, also for who was waiting, ${runtime}`, options, async (t) => {
    const { url, processes } = await startService(ownScope(t), '03-microservice', { runtime, env: { SIZE: String(ENDLESS) } })
    const { service } = processes
    const waiting = ask(`${url}/heavy?seed=1`)
    await isCounting(service.pid)
    await service.kill()
    for (const { status, body } of [await waiting, await ask(`${url}/heavy?seed=2`)]) {
      assert.equal(status, 502)
      assert.match(body.error, /^the service is not reached: /)
    }
    assert.equal((await ask(`${url}/health`)).status, 200)
  })

  for (const service of ['02-thread-pool', '03-microservice', '05-addon']) {
    test(`a client that goes away frees its place, ${service}, ${runtime}`, options, async (t) => {
      const { url, processes } = await startService(ownScope(t), service, { runtime, env: { SIZE: String(ENDLESS), CAPACITY: '3' } })
      // The first takes all threads; the others wait.
      const leave = [1, 2, 3].map((seed) => askAndLeave(`${url}/heavy?seed=${seed}`))
      await isCounting((processes.service ?? processes.gateway).pid)
      leave.forEach((go) => go())
      const isFree = async () => {
        const { status, body } = await ask(`${url}/heavy?seed=4&size=1000`, AbortSignal.timeout(30_000))
        return status === 200 && body
      }
      const answer = await waitFor(isFree, { timeoutMs: 60_000, message: 'a free place' })
      assert.deepEqual(answer, { seed: 4, count: countPart(4, 0, 1000) })
    })
  }

  test(`the queue of the addon is bounded, ${runtime}`, options, async (t) => {
    const env = { SIZE: String(ENDLESS), CAPACITY: '2' }
    const { url } = await startService(ownScope(t), '05-addon', { runtime, env })
    const leave = [1, 2].map((seed) => askAndLeave(`${url}/heavy?seed=${seed}`))
    const small = `${url}/heavy?seed=3&size=1000`
    // Until both are there, a small request has room.
    const isFull = async () => {
      const { status, headers } = await ask(small, AbortSignal.timeout(1_000))
      return status === 503 && headers.get('retry-after')
    }
    assert.equal(await waitFor(isFull, { timeoutMs: 60_000, message: 'a full queue' }), '1')
    leave.forEach((go) => go())
    await waitFor(async () => (await ask(small)).status === 200, { message: 'room' })
  })

  test(`a gateway whose Redis is gone refuses at once, ${runtime}`, options, async (t) => {
    const { url, processes } = await startService(ownScope(t), '04-queue', { runtime, env: { SIZE: '1000' } })
    await checkAnswer('04-queue', url, 1, countPart(1, 0, 1000))
    await processes.redis.kill()
    const { status, headers } = await ask(`${url}/heavy?seed=1`)
    assert.equal(status, 503)
    assert.equal(headers.get('retry-after'), '1')
    await processes.redis.start()
    // Its file has what it was given; the worker connects again.
    const works = () => checkAnswer('04-queue', url, 2, countPart(2, 0, 1000)).then(() => true)
    await waitFor(works, { timeoutMs: 60_000, message: 'an answer' })
  })
}
