// npm run bench:architectures: heavy work beside Node.js and Bun in five architectures, measured one after the other.
//
// Each measurement starts the service with all that belongs to it fresh (lib/measure.mjs). The end are a JSON file with all that
// was measured, its tables in Markdown, and a chart. docs/architectures.md says what follows.

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { findBun } from '../../tools/servers/bun.mjs'
import { runMain } from '../lib/scope.mjs'
import { machine } from '../lib/usage.mjs'
import { chart } from './lib/chart.mjs'
import { measure } from './lib/measure.mjs'
import { report, summary, titleOf } from './lib/report.mjs'
import { RUNTIMES, SERVICES } from './lib/services.mjs'
import { setUp } from './lib/setup.mjs'

const RESULTS = fileURLToPath(new URL('../results/', import.meta.url))

const HELP = `npm run bench:architectures -- [options]

  --services <names>    with commas between them          [all]
                        ${Object.keys(SERVICES).join(' ')}
  --runtimes <names>    node, bun                         [node,bun]
  --size <n>            numbers that a request counts     [20000000]
  --parts <n>           into which that is split          [8]
  --connections <n>     of autocannon (-c)                [100]
  --seconds <n>         of autocannon (-d)                [10]
  --repeat <n>          measures each n times; the one    [1]
                        counts that others disturbed least
  --memory <MiB>        a service with more is ended      [6144]
  --quick               a look whether it works: 200,000
                        numbers, 8 connections, 1 second
  --out <directory>                                       [bench/results]`

const QUICK = { size: '200000', connections: '8', seconds: '1' }
const DEFAULTS = {
  services: Object.keys(SERVICES).join(),
  runtimes: Object.keys(RUNTIMES).join(),
  size: '20000000',
  parts: '8',
  connections: '100',
  seconds: '10',
  repeat: '1',
  memory: '6144',
  out: RESULTS,
}

await runMain(async (scope) => {
  const options = readOptions()
  if (!options) {
    console.log(HELP)
    return
  }
  await setUp(scope)
  const date = new Date()
  const { services, runtimes, out, memory, repeat, ...run } = options
  const result = emptyResult(date, { ...run, repeat, 'memory, MiB': memory })
  let files = []
  for (const runtime of runtimes) {
    for (const service of services) {
      const title = titleOf({ title: SERVICES[service].title, runtime })
      try {
        const attempts = []
        for (let attempt = 0; attempt < repeat; attempt += 1) {
          const step = await measure(scope, { service, runtime, ...run, maxMebibytes: memory })
          attempts.push(step)
          console.log(`${title}: ${summary(step)}`)
        }
        // A wrong answer counts wherever it was given.
        const wrong = attempts.reduce((all, step) => all + step.wrong, 0)
        const [best] = attempts.sort((a, b) => a.othersCpuPercent - b.othersCpuPercent)
        result.steps.push({ ...best, wrong })
      } catch (error) {
        result.failed[title] = error.message
        console.log(`${title}: failed: ${error.message}`)
      }
      files = write(resolve(out), date, result)
    }
  }
  console.log(`\n${report(result)}\n${files.map((file) => relative('', file)).join('\n')}`)
  const isWrong = result.steps.some(({ wrong }) => wrong > 0)
  return isWrong || Object.keys(result.failed).length > 0 ? 1 : 0
})

/**
 * @param {Date} date
 * @param {Record<string, number>} options
 * @returns {import('./lib/report.mjs').Result}
 */
function emptyResult(date, options) {
  const bun = findBun()
  return {
    date: date.toISOString().slice(0, 16).replace('T', ' '),
    machine: {
      machine: machine(),
      'Node.js': process.versions.node,
      Bun: bun ? execFileSync(bun, ['--version'], { encoding: 'utf8' }).trim() : 'not installed',
    },
    options,
    failed: {},
    steps: [],
  }
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      quick: { type: 'boolean' },
      .../** @type {Record<string, { type: 'string' }>} */ (
        Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, { type: 'string' }]))
      ),
    },
  })
  if (values.help) return undefined
  /** @type {Record<string, any>} */
  const given = { ...DEFAULTS, ...(values.quick && QUICK), ...values }
  const whole = (name, min, max) => {
    const value = Number(given[name])
    if (Number.isInteger(value) && value >= min && value <= max) return value
    throw new Error(`--${name} takes a whole number from ${min} to ${max}, not "${given[name]}"`)
  }
  const names = (name, known) => {
    const list = given[name].split(',')
    const unknown = list.filter((word) => !Object.hasOwn(known, word))
    if (unknown.length > 0) throw new Error(`--${name}: there is no ${unknown.join(', ')}`)
    return list
  }
  return {
    services: names('services', SERVICES),
    runtimes: /** @type {('node' | 'bun')[]} */ (names('runtimes', RUNTIMES)),
    // The load generator counts each seed once as well, in JavaScript.
    size: whole('size', 1, 1_000_000_000),
    parts: whole('parts', 1, 1000),
    connections: whole('connections', 1, 1000),
    seconds: whole('seconds', 1, 600),
    repeat: whole('repeat', 1, 100),
    memory: whole('memory', 256, 1_000_000),
    out: given.out,
  }
}

/**
 * @param {string} directory
 * @param {Date} date
 * @param {import('./lib/report.mjs').Result} result
 * @returns {string[]} the files
 */
function write(directory, date, result) {
  const name = `${date.toISOString().slice(0, 16).replace('T', '-').replace(':', '')}-architectures`
  const contents = {
    json: `${JSON.stringify(result, undefined, 2)}\n`,
    md: `${report(result)}\n![finished work, latency and memory](${name}.svg)\n`,
    svg: chart(result.steps, `${result.machine.machine}, ${result.date}`),
  }
  mkdirSync(directory, { recursive: true })
  return Object.entries(contents).map(([extension, content]) => {
    const file = join(directory, `${name}.${extension}`)
    writeFileSync(file, content)
    return file
  })
}
