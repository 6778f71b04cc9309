// The results as a table in Markdown.

import { count, markdown, mebibytes, milliseconds, percent } from '../../lib/format.mjs'
import { RUNTIMES } from './services.mjs'

/** CPU of other processes above which a measurement counts as disturbed, in percent of one core. */
const DISTURBED_PERCENT = 10

/** @typedef {Awaited<ReturnType<typeof import('./measure.mjs').measure>>} Step */

/**
 * @typedef {object} Result
 * @property {string} date
 * @property {Record<string, unknown>} machine
 * @property {Record<string, unknown>} options
 * @property {Record<string, string>} failed why a service has no figures
 * @property {Step[]} steps
 */

const or = (value, format) => (value === undefined ? '–' : format(value))

/** @param {{ title: string, runtime: 'node' | 'bun' }} step */
export const titleOf = ({ title, runtime }) => `${title}, ${RUNTIMES[runtime]}`

/** @param {Result} result */
export function report({ date, machine, options, failed, steps }) {
  const parts = [`# Architectures, ${date}`, list(machine), list(options)]
  const disturbed = steps.filter(({ othersCpuPercent }) => othersCpuPercent > DISTURBED_PERCENT)
  if (disturbed.length > 0) {
    const which = `${disturbed.length} of ${steps.length}`
    parts.push(`**In ${which} measurements others used more than ${DISTURBED_PERCENT} % of a core: see "everything else".**`)
  }
  if (steps.length > 0) parts.push(requestTable(steps), processTable(steps))
  const stopped = steps.filter((step) => step.stopped)
  if (stopped.length > 0) parts.push('Stopped:', list(Object.fromEntries(stopped.map((step) => [titleOf(step), step.stopped]))))
  if (Object.keys(failed).length > 0) parts.push('## Failed', list(failed))
  return `${parts.join('\n\n')}\n`
}

/** One line of a measurement, for who watches. */
export function summary(step) {
  const { finishedPerSecond, requests, errors, timeouts, latencyMs, health, wrong } = step
  return [
    `${count(requests)} answers, ${finishedPerSecond.toFixed(1)}/s finished`,
    `latency ${or(latencyMs?.p50, milliseconds)} / ${or(latencyMs?.p99, milliseconds)} ms`,
    `health ${or(health.p50, milliseconds)} / ${or(health.p99, milliseconds)} ms`,
    ...(errors + timeouts > 0 ? [`${count(errors)} errors, ${count(timeouts)} timeouts`] : []),
    `others ${percent(step.othersCpuPercent)} of a core`,
    ...(wrong > 0 ? [`${count(wrong)} WRONG`] : []),
    ...(step.stopped ? [step.stopped] : []),
  ].join(', ')
}

/** @param {Step[]} steps */
function requestTable(steps) {
  return markdown(
    [
      'service', 'answers', 'finished', 'finished/s', 'not done', 'other answers', 'errors', 'timeouts', 'p50, ms', 'p99, ms',
      '/health p50, ms', '/health p99, ms', '/health unanswered',
    ],
    steps.map((step) => [
      titleOf(step),
      count(step.requests),
      count(step.finished),
      step.finishedPerSecond.toFixed(1),
      count(step.left),
      count(refusals(step.statuses)),
      count(step.errors),
      count(step.timeouts),
      or(step.latencyMs?.p50, milliseconds),
      or(step.latencyMs?.p99, milliseconds),
      or(step.health.p50, milliseconds),
      or(step.health.p99, milliseconds),
      count(step.health.failed),
    ]),
  )
}

/** @param {Step[]} steps */
function processTable(steps) {
  const one = (process) => (process ? `${percent(process.cpuPercent)}, ${mebibytes(process.peakResidentBytes)}` : '')
  return markdown(
    ['CPU of one core, peak memory', 'CPU a request, ms', 'Node.js or Bun', 'service or worker in Rust', 'Redis', 'load generator', 'everything else'],
    steps.map((step) => {
      const { gateway, service, worker, redis, load } = /** @type {Record<string, any>} */ (step.processes)
      const cost = or(step.cpuMsPerRequest, milliseconds)
      return [titleOf(step), cost, one(gateway), one(service ?? worker), one(redis), one(load), percent(step.othersCpuPercent)]
    }),
  )
}

/** @param {Record<number, number>} statuses */
function refusals(statuses) {
  const others = Object.entries(statuses).filter(([status]) => !/^2/.test(status))
  return others.reduce((all, [, number]) => all + number, 0)
}

/** @param {Record<string, unknown>} object */
function list(object) {
  return Object.entries(object).map(([name, value]) => `- ${name}: ${value}`).join('\n')
}
