// npm run bench: services that bring MQTT messages into ClickHouse, measured beside each other.
//
// For each service in turn the load is raised in steps, first through a real broker and then from a firehose. Each step
// starts broker, ClickHouse and service fresh (lib/measure.mjs). The end are a JSON file with all that was measured, its
// tables in Markdown, and a chart.

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { findBun, findMosquitto } from '../tools/servers/index.mjs'
import { buildAddon, buildClickHouseServer, buildLoad, buildRustService } from './lib/build.mjs'
import { chart } from './lib/chart.mjs'
import { count } from './lib/format.mjs'
import { measure } from './lib/measure.mjs'
import { report, summary } from './lib/report.mjs'
import { runMain } from './lib/scope.mjs'
import { FLUSH_BUCKETS, SERVICES } from './lib/services.mjs'
import { machine } from './lib/usage.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))

const HELP = `npm run bench -- [options]

  --services <names>    with commas between them                 [all that can run here]
                        ${Object.keys(SERVICES).join(' ')}
  --rates <rates>       messages per second through the broker,  [1k,10k,60k,100k,150k,200k,300k]
                        until somebody does not keep up; or none
  --firehose <rates>    those of the firehose; max is as fast    [200k,max]
                        as they are taken; or none
  --seconds <n>         measured                                 [20]
  --warm-up <n>         seconds before that                      [5]
  --event-loop <n>      seconds in which the event loop of a     [5]
                        service in JavaScript is watched, while
                        messages flow and then at rest
  --drivers <n>                                                  [5000]
  --connections <n>     of the load generator                    [4]
  --qos <0|1>           a service with a spool always has 1      [0]
  --batch <rows>        of an INSERT                             [5000]
  --profile <name>      how Rust is built: release, quick, dev   [release]
  --quick               a look whether it works: 1k,10k and max
                        for 3 seconds, built with quick
  --out <directory>                                              [bench/results]`

const QUICK = { rates: '1k,10k', firehose: 'max', seconds: '3', 'warm-up': '1', 'event-loop': '2', profile: 'quick' }
const DEFAULTS = {
  rates: '1k,10k,60k,100k,150k,200k,300k',
  firehose: '200k,max',
  seconds: '20',
  'warm-up': '5',
  'event-loop': '5',
  drivers: '5000',
  connections: '4',
  qos: '0',
  batch: '5000',
  profile: 'release',
  out: join(HERE, 'results'),
}

await runMain(async (scope) => {
  const options = readOptions()
  if (!options) {
    console.log(HELP)
    return
  }
  const { chosen, skipped } = await chooseServices(scope, options)
  await buildClickHouseServer(scope)
  const programs = {
    load: await buildLoad(scope, options.profile === 'dev' ? 'dev' : 'quick'),
    rust: needs(chosen, 'rust') ? await buildRustService(scope, options.profile) : undefined,
  }
  const date = new Date()
  const result = emptyResult(date, options, chosen, skipped)
  let files = []
  for (const name of chosen) {
    for await (const step of steps(scope, name, options, programs, result.failed)) {
      result.machine.ClickHouse = step.clickhouse
      result.steps.push(step)
      files = write(resolve(options.out), date, result)
    }
  }

  console.log(`\n${report(result)}\n${files.map((file) => relative('', file)).join('\n')}`)
  // Below the limits of all, every message has to arrive, and once.
  const wrong = result.steps.filter(({ limit, rate, lost, doubled }) => rate > 0 && !limit && (lost || doubled))
  for (const { title, rate } of wrong) console.error(`${title} lost or doubled messages at ${count(rate)} msg/s`)
  return wrong.length > 0 || Object.keys(result.failed).length > 0 ? 1 : 0
})

/**
 * The services that can run here; the addon is built for them.
 *
 * @param {import('./lib/scope.mjs').Scope} scope
 * @param {Options} options
 */
async function chooseServices(scope, options) {
  /** @type {Record<string, string>} */
  const skipped = {}
  const without = (names, reason) =>
    names.filter((name) => {
      const why = reason(SERVICES[name])
      if (why) {
        skipped[SERVICES[name].title] = why
        console.log(`without ${SERVICES[name].title}: ${why}`)
      }
      return !why
    })
  const chosen = without(options.services ?? Object.keys(SERVICES), ({ missing }) => missing?.())
  if (needs(chosen, 'addon')) await buildAddon(scope, options.profile)
  if (chosen.length === 0) throw new Error('no service is left')
  return { chosen, skipped }
}

/**
 * @param {string[]} names
 * @param {import('./lib/services.mjs').Service['needs']} what
 */
function needs(names, what) {
  return names.some((name) => SERVICES[name].needs === what)
}

/**
 * Measures one service at one rate after the other. A failure ends those through the broker, or from the firehose.
 *
 * @param {import('./lib/scope.mjs').Scope} scope
 * @param {string} name of the service
 * @param {Options} options
 * @param {{ load: string, rust?: string }} programs
 * @param {Record<string, string>} failed takes what fails
 */
async function* steps(scope, name, options, programs, failed) {
  const service = SERVICES[name]
  for (const firehose of [false, true]) {
    let isBehind = false
    for (const rate of firehose ? options.firehose : options.rates) {
      // At a higher rate only the backlog would grow; flat out there is none.
      if (isBehind && rate > 0) continue
      const pace = rate ? `${count(rate)} msg/s` : 'flat out'
      const label = `${service.title}, ${pace}${firehose ? ' from the firehose' : ''}`
      const run = {
        service,
        firehose,
        rate,
        seconds: options.seconds,
        warmUp: options['warm-up'],
        eventLoop: options['event-loop'],
        drivers: options.drivers,
        connections: options.connections,
        qos: service.spool ? 1 : options.qos,
        batchRows: options.batch,
        programs,
      }
      let step
      try {
        step = await measure(scope, run, (text) => show(`${label}: ${text}`, true))
      } catch (error) {
        show(`${label}: failed: ${error.message}`)
        failed[label] = error.message
        break
      }
      show(`${label}: ${summary(step)}`)
      isBehind ||= step.limit !== ''
      yield { service: name, title: service.title, ...step }
    }
  }
}

/**
 * A result without measurements.
 *
 * @param {Date} date
 * @param {Options} options
 * @param {string[]} chosen
 * @param {Record<string, string>} skipped
 * @returns {import('./lib/report.mjs').Result}
 */
function emptyResult(date, { services: _, out, rates, firehose, ...options }, chosen, skipped) {
  const names = (rates) => rates.map((rate) => (rate ? count(rate) : 'flat out')).join(' · ') || 'none'
  return {
    date: date.toISOString().slice(0, 16).replace('T', ' '),
    machine: {
      commit: commit(),
      machine: machine(),
      'Node.js': process.versions.node,
      Bun: chosen.some((name) => SERVICES[name].runtime === 'bun') ? bunVersion() : 'not used',
      broker: process.env.MQTT_URL ? 'the broker of MQTT_URL' : findMosquitto() ? 'mosquitto' : 'aedes',
      ClickHouse: '',
    },
    options: { ...options, rates: names(rates), firehose: names(firehose) },
    common: {
      'age of a batch': '1000 ms',
      tables: 'examples/fleet/tables.sql, and a column for the number of the message',
      async_insert: process.env.CLICKHOUSE_URL ? 'as CLICKHOUSE_URL has it' : 'off',
      'limits of the flush buckets, s': FLUSH_BUCKETS.join(' '),
    },
    services: Object.fromEntries(
      chosen.map((name) => [name, { title: SERVICES[name].title, configuration: SERVICES[name].configuration }]),
    ),
    skipped,
    failed: {},
    steps: [],
  }
}

/** @typedef {NonNullable<ReturnType<typeof readOptions>>} Options */

function readOptions() {
  const names = ['services', ...Object.keys(DEFAULTS)]
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      quick: { type: 'boolean' },
      .../** @type {Record<string, { type: 'string' }>} */ (Object.fromEntries(names.map((name) => [name, { type: 'string' }]))),
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
  const choice = (name, choices) => {
    if (choices.includes(given[name])) return given[name]
    throw new Error(`--${name} takes ${choices.join(', ')}, not "${given[name]}"`)
  }
  const services = given.services?.split(',')
  const unknown = services?.filter((name) => !Object.hasOwn(SERVICES, name)) ?? []
  if (unknown.length > 0) throw new Error(`--services: there is no ${unknown.join(', ')}`)
  return {
    services,
    rates: rates('rates', given.rates),
    firehose: rates('firehose', given.firehose),
    seconds: whole('seconds', 1, 86_400),
    'warm-up': whole('warm-up', 1, 3600),
    'event-loop': whole('event-loop', 0, 3600),
    drivers: whole('drivers', 4, 10_000_000),
    connections: whole('connections', 1, 1000),
    qos: whole('qos', 0, 1),
    batch: whole('batch', 1, 1_000_000),
    profile: choice('profile', ['release', 'quick', 'dev']),
    out: given.out,
  }
}

/**
 * `1k,2.5M,max` as numbers; max is 0.
 *
 * @param {string} name of the option
 * @param {string} text
 * @returns {number[]}
 */
function rates(name, text) {
  if (text === 'none') return []
  return text.split(',').map((word) => {
    if (word === 'max') return 0
    const [, digits, unit] = /^(\d+(?:\.\d+)?)([kM]?)$/.exec(word) ?? []
    const rate = Number(digits) * { '': 1, k: 1e3, M: 1e6 }[unit]
    if (!Number.isInteger(rate) || rate < 1) throw new Error(`--${name}: "${word}" is no rate such as 500, 60k, 2M or max`)
    return rate
  })
}

/**
 * One line that is written anew until it is final; where the output is not a terminal, only the final
 * ones.
 */
function show(text, isPassing = false) {
  const { isTTY, columns } = process.stdout
  if (!isTTY && isPassing) return
  process.stdout.write(isTTY ? `\r\x1b[2K${isPassing ? text.slice(0, columns - 1) : `${text}\n`}` : `${text}\n`)
}

/**
 * @param {string} directory
 * @param {Date} date
 * @param {import('./lib/report.mjs').Result} result
 * @returns {string[]} the files
 */
function write(directory, date, result) {
  const name = date.toISOString().slice(0, 16).replace('T', '-').replace(':', '')
  const contents = {
    json: `${JSON.stringify(result, undefined, 2)}\n`,
    md: `${report(result)}\n![rate against CPU, memory and flush latency](${name}.svg)\n`,
    svg: chart(result.steps, `${result.machine.machine}, ${result.date}`),
  }
  mkdirSync(directory, { recursive: true })
  return Object.entries(contents).map(([extension, content]) => {
    const file = resolve(directory, `${name}.${extension}`)
    writeFileSync(file, content)
    return file
  })
}

/** The commit of the working tree, if git knows it. */
function commit() {
  try {
    const options = { cwd: HERE, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }
    return execFileSync('git', ['describe', '--always', '--dirty'], /** @type {any} */ (options)).trim()
  } catch {
    return 'unknown'
  }
}

function bunVersion() {
  return execFileSync(/** @type {string} */ (findBun()), ['--version'], { encoding: 'utf8' }).trim()
}
