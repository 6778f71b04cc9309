// Modules as transforms, in worker threads, on a fake of the engine: what can be imported, what cannot, and threads that end.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { MillraceError } from '../../index.js'
import { WorkerThreads } from '../../lib/transform/worker-threads.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { startProgram } from '../support/program.mjs'
import { unique } from '../support/servers.mjs'

const PROGRAM = fileURLToPath(new URL('../support/programs/transform-worker.cjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'millrace-modules-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const timeout = 60_000

/** A module in a file of its own. */
function module(text, ending = 'mjs') {
  const file = join(folder, `${unique('module')}.${ending}`)
  writeFileSync(file, text)
  return file
}

/** The threads of a module, ended with the test, and what their calls and warnings brought. */
function threads(t, source, { data = {} } = {}) {
  const channel = new BroadcastChannel(unique('channel'))
  const answers = []
  const warnings = []
  channel.onmessage = ({ data }) => answers.push(data)
  const task = { pipeline: 77, path: 'routes[4].transform', where: { route: 4, table: 'positions', topicFilter: 'a/+' } }
  const its = new WorkerThreads(task, { data: { ...data, channel: channel.name }, ...source }, (warning) => warnings.push(warning), PROGRAM)
  t.after(async () => {
    await its.stop()
    channel.close()
  })
  const answered = (count) => waitFor(() => answers.length >= count, { message: () => `${count} answers: ${JSON.stringify(answers)}` })
  return { its, answers, warnings, answered }
}

/** Asserts that the threads of a module do not start. */
async function refused(t, source, path, expected) {
  const { its } = threads(t, source)
  const error = await its.start().then(
    () => assert.fail('it started'),
    (error) => error,
  )
  assert.ok(error instanceof MillraceError, String(error?.stack))
  assert.equal(error.code, 'TRANSFORM_INVALID', error.message)
  assert.equal(error.path, path, error.message)
  assert.match(error.message, expected)
  return error
}

const KMH = '(batch) => { const { values } = batch.columns.a; for (let i = 0; i < batch.length; i++) values[i] *= 3.6 }'

test('a module has batches in a thread: ESM and CommonJS, default and by name', { timeout }, async (t) => {
  const modules = [
    [{ module: module(`export default ${KMH}`) }],
    [{ module: module(`export const kmh = ${KMH}`), export: 'kmh' }],
    [{ module: module(`module.exports = ${KMH}`, 'cjs') }],
    [{ module: module(`exports.kmh = ${KMH}`, 'cjs'), export: 'kmh' }],
    [{ module: module(`exports[['k', 'mh'].join('')] = ${KMH}`, 'cjs'), export: 'kmh' }],
    [{ module: module(`Object.defineProperty(exports, '__esModule', { value: true }); exports.default = ${KMH}`, 'cjs') }],
    [{ module: pathToFileURL(module(`export default ${KMH}`)).href }],
    [{ module: module(`await null; export default ${KMH}`) }],
  ]
  for (const [source] of modules) {
    const { its, answers, answered } = threads(t, source)
    await its.start()
    await answered(1)
    const [{ threadId, ...answer }] = answers
    assert.deepEqual(answer, { pipeline: 77, route: 4, written: { a: [3.6, 7.2] }, failed: undefined }, source.module)
    await its.stop()
  }
})

test('TypeScript, where the runtime takes it', { timeout }, async (t) => {
  const file = module(`type Row = number\nexport default (batch: any): void => { batch.columns.a.values[0] = 5 as Row }`, 'mts')
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (process.versions.bun || major > 22 || (major === 22 && minor >= 18)) {
    const { its, answers, answered } = threads(t, { module: file })
    await its.start()
    await answered(1)
    assert.deepEqual(answers[0].written, { a: [5, 2] })
  } else {
    await refused(t, { module: file }, 'routes[4].transform.module', /TypeScript.*22\.18/)
  }
})

test('each thread has the module for itself, and data is its workerData', { timeout }, async (t) => {
  const source = {
    module: module(`import { workerData } from 'node:worker_threads'
      export default (batch) => { batch.columns.a.values[0] = workerData.limit }`),
    threads: 3,
  }
  const { its, answers, answered } = threads(t, source, { data: { limit: 99 } })
  await its.start()
  await answered(3)
  assert.equal(new Set(answers.map(({ threadId }) => threadId)).size, 3)
  for (const { written } of answers) assert.deepEqual(written, { a: [99, 2] })
})

test('modules that cannot be imported, and exports that are not a function', { timeout }, async (t) => {
  const path = 'routes[4].transform'
  const [ofModule, ofExport] = [`${path}.module`, `${path}.export`]
  await refused(t, { module: join(folder, 'missing.mjs') }, ofModule, /missing\.mjs/)
  const error = await refused(t, { module: module('throw new Error("on import")') }, ofModule, /on import/)
  assert.match(String(/** @type {any} */ (error.cause).stack), /module_/, 'its stack leads to the module')
  await refused(t, { module: module('throw "no error"') }, ofModule, /no error/)
  await refused(t, { module: module('export default (') }, ofModule, /./)
  await refused(t, { module: module('import "./none.mjs"') }, ofModule, /none\.mjs/)
  await refused(t, { module: module('export const other = 1') }, ofExport, /no export "default"; it has other/)
  await refused(t, { module: module('export default 5'), export: 'kmh' }, ofExport, /no export "kmh"; it has default/)
  await refused(t, { module: module('export default 5') }, ofExport, /a number/)
  await refused(t, { module: module('export default null') }, ofExport, /null/)
  await refused(t, { module: module('export default function* () {}') }, ofExport, /generator/)
  await refused(t, { module: module('export default class {}') }, ofExport, /class/)
  await refused(t, { module: module('process.exit(3)') }, path, /exited with 3/)
})

test('one thread of several that does not start ends the others', { timeout }, async (t) => {
  const flag = join(folder, unique('flag'))
  const source = {
    module: module(`import { writeFileSync } from 'node:fs'
      let isFirst = true
      try { writeFileSync(${JSON.stringify(flag)}, '', { flag: 'wx' }) } catch { isFirst = false }
      if (!isFirst) throw new Error('the second')
      export default () => {}`),
    threads: 2,
  }
  await refused(t, source, 'routes[4].transform.module', /the second/)
})

test('a thread that ends is started again, and a warning says so', { timeout }, async (t) => {
  for (const [end, reason] of Object.entries({
    'process.exit(3)': /exited with 3/,
    'throw new Error("in the background")': /in the background/,
    'Promise.reject(new Error("unheard"))': /unheard/,
  })) {
    const flag = join(folder, unique('flag'))
    const source = {
      module: module(`import { writeFileSync } from 'node:fs'
        let isFirst = true
        try { writeFileSync(${JSON.stringify(flag)}, '', { flag: 'wx' }) } catch { isFirst = false }
        export default (batch) => {
          if (isFirst) { setTimeout(() => { ${end} }, 20); return new Promise(() => {}) }
          batch.columns.a.values[0] = 5
        }`),
    }
    const { its, answers, warnings, answered } = threads(t, source)
    await its.start()
    await answered(1)
    assert.deepEqual(answers[0].written, { a: [5, 2] })
    assert.equal(warnings.length, 1, JSON.stringify(warnings))
    const [{ message, reason: text, ...warning }] = warnings
    assert.deepEqual(warning, { code: 'TRANSFORM_WORKER_ENDED', route: 4, retryInMs: 100 })
    assert.match(text, reason)
    assert.match(message, /routes\[4\]\.transform/)
    await its.stop()
  }
})

test('stop ends a thread that does not return, and an abort reaches one that waits', { timeout }, async (t) => {
  const endless = threads(t, { module: module('export default () => { for (;;); }') })
  await endless.its.start()
  await endless.its.stop()
  assert.deepEqual(endless.warnings, [])

  const waiting = threads(t, {
    module: module(`export default ({ signal, columns }) => new Promise((resolve) => {
      const onAbort = () => {
        columns.a.values[0] = signal.reason.code === 'STOP_TIMEOUT' ? 5 : 6
        resolve()
      }
      if (signal.aborted) onAbort()
      else signal.addEventListener('abort', onAbort)
    })`),
  })
  await waiting.its.start()
  // Before the call is made nothing listens to the signal.
  const abort = setInterval(() => waiting.its.abort({ code: 'STOP_TIMEOUT', message: 'too late' }), 20)
  await waiting.answered(1).finally(() => clearInterval(abort))
  assert.deepEqual(waiting.answers[0].written, { a: [5, 2] })
})

test('threads do not keep the process alive', { timeout }, async (t) => {
  const program = startProgram(t, 'transform-threads.mjs', { module: module(`export default ${KMH}`), program: PROGRAM })
  await program.line('started')
  assert.equal((await program.end()).code, 0)
})
