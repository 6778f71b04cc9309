// The results of a run as Markdown tables, grouped by the source of the messages.

import { count, markdown, mebibytes, milliseconds, percent } from './format.mjs'

/**
 * @typedef {Awaited<ReturnType<typeof import('./measure.mjs').measure>> & { service: string, title: string }} Step
 */

/**
 * @typedef {object} Result
 * @property {string} date
 * @property {Record<string, unknown>} machine
 * @property {Record<string, unknown>} options
 * @property {Record<string, unknown>} common the configuration of all services
 * @property {Record<string, { title: string, configuration: Record<string, unknown> }>} services
 * @property {Record<string, string>} skipped why a service was not measured
 * @property {Record<string, string>} failed why a step has no figures
 * @property {Step[]} steps
 */

/** CPU of other processes above which a step counts as disturbed. */
const DISTURBED_PERCENT = 10

const or = (value, format) => (value === undefined ? '–' : format(value))
const rateText = ({ rate }) => (rate === 0 ? 'flat out' : count(rate))
const cpu = (process) => or(process?.cpuPercent, percent)

/** @param {Result} result */
export function report(result) {
  const { date, machine, options, common, services, skipped, failed, steps } = result
  const parts = [`# Benchmark of ${date}`, properties(machine)]
  const disturbed = steps.filter(({ othersCpuPercent }) => othersCpuPercent > DISTURBED_PERCENT)
  if (disturbed.length > 0) {
    parts.push(
      `**In ${disturbed.length} of ${steps.length} steps others used more than ${DISTURBED_PERCENT} % of a core: see ` +
        '"everything else". Their figures are not to be compared.**',
    )
  }
  const broker = steps.filter(({ source }) => source === 'broker')
  const firehose = steps.filter(({ source }) => source === 'firehose')
  if (broker.length > 0) parts.push(`## Through ${machine.broker}`, stepTable(broker), cpuTable(broker))
  if (firehose.length > 0) parts.push('## From the firehose', stepTable(firehose), cpuTable(firehose))
  const watched = steps.filter(({ eventLoop }) => eventLoop)
  if (watched.length > 0) parts.push('## JavaScript beside it', eventLoopTable(watched))
  parts.push('## Configuration', properties({ ...common, ...options }))
  const own = Object.values(services).filter(({ configuration }) => Object.keys(configuration).length > 0)
  if (own.length > 0) parts.push(list(own.map(({ title, configuration }) => [title, pairs(configuration)])))
  if (Object.keys(skipped).length > 0) parts.push('## Not measured', list(Object.entries(skipped)))
  if (Object.keys(failed).length > 0) parts.push('## Failed', list(Object.entries(failed)))
  return `${parts.join('\n\n')}\n`
}

/** One line of a step, for who watches. */
export function summary(step) {
  const { cpuPercent, rowsPerSecond, aboveBareBytes, flush, lost, doubled, limit } = step
  return [
    `${count(rowsPerSecond)} rows/s`,
    `CPU ${or(cpuPercent, percent)}`,
    `memory +${mebibytes(aboveBareBytes)}`,
    `flush ${or(flush?.p50, milliseconds)} / ${or(flush?.p99, milliseconds)} ms`,
    `lost ${or(lost, count)}`,
    ...(doubled > 0 ? [`doubled ${count(doubled)}`] : []),
    ...(limit && step.rate > 0 ? [`the ${limit} did not keep up`] : []),
    ...(step.othersCpuPercent > DISTURBED_PERCENT ? [`others used ${percent(step.othersCpuPercent)} of a core`] : []),
  ].join(', ')
}

/** @param {Step[]} steps */
function stepTable(steps) {
  return markdown(
    [
      'service', 'msg/s', 'QoS', 'rows/s', 'CPU of one core', 'ns per message', 'peak memory', 'bare runtime', 'above it',
      'empty service', 'flush p50, ms', 'flush p99, ms', 'lost', 'doubled', 'did not keep up',
    ],
    steps.map((step) => [
      step.title,
      rateText(step),
      String(step.qos),
      count(step.rowsPerSecond),
      or(step.cpuPercent, percent),
      or(step.nanosecondsPerMessage, count),
      mebibytes(step.peakResidentBytes),
      or(step.bareResidentBytes, mebibytes),
      mebibytes(step.aboveBareBytes),
      or(step.emptyResidentBytes, mebibytes),
      or(step.flush?.p50, milliseconds),
      or(step.flush?.p99, milliseconds),
      or(step.lost, count),
      count(step.doubled),
      step.rate > 0 ? step.limit || '' : '',
    ]),
  )
}

/** @param {Step[]} steps */
function cpuTable(steps) {
  return markdown(
    ['CPU of one core beside it', 'msg/s', 'sent/s', 'broker', 'ClickHouse', 'load generator', 'everything else'],
    steps.map((step) => [
      step.title,
      rateText(step),
      count(step.sentPerSecond),
      cpu(step.processes.broker),
      cpu(step.processes.clickhouse),
      cpu(step.processes.load),
      percent(step.othersCpuPercent),
    ]),
  )
}

/** @param {Step[]} steps */
function eventLoopTable(steps) {
  const both = ({ atRest, flowing }, what, quantile) =>
    `${milliseconds(atRest[what][quantile])} / ${milliseconds(flowing[what][quantile])}`
  return markdown(
    ['at rest / flowing, ms', 'from', 'msg/s', 'delay p50', 'delay p99', 'delay max', 'HTTP p50', 'HTTP p99', 'HTTP max'],
    steps.map((step) => [
      step.title,
      step.source,
      rateText(step),
      ...['p50', 'p99', 'max'].map((quantile) => both(step.eventLoop, 'delayMs', quantile)),
      ...['p50', 'p99', 'max'].map((quantile) => both(step.eventLoop, 'httpMs', quantile)),
    ]),
  )
}

/** @param {Record<string, unknown>} object */
const properties = (object) => list(Object.entries(object).map(([name, value]) => [name, String(value)]))
/** @param {[string, string][]} entries */
const list = (entries) => entries.map(([name, value]) => `- ${name}: ${value}`).join('\n')
/** @param {Record<string, unknown>} object */
const pairs = (object) => Object.entries(object).map(([name, value]) => `${name} ${value}`).join(', ')
