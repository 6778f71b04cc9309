// The chart of a result: bars for what was finished, for the latency of requests and of /health, and for memory.

import * as echarts from 'echarts'
import { titleOf } from './report.mjs'

const WIDTH = 960
const TOP = 80
const LEFT = 230
/** The height of title and axis of a panel. */
const AROUND = 80
const BAR = 24

/** @typedef {import('./report.mjs').Step} Step */

const COLORS = ['#0072B2', '#E69F00']

/** @type {{ title: string, scale: 'log' | 'value', values: Record<string, (step: Step) => number | undefined> }[]} */
const PANELS = [
  {
    title: 'Finished work, requests per second',
    scale: 'value',
    values: { finished: ({ finishedPerSecond }) => finishedPerSecond },
  },
  {
    title: 'Latency, ms: p50 (blue) and p99 (orange); 202 of a queue comes before the work',
    scale: 'log',
    values: { p50: ({ latencyMs }) => latencyMs?.p50, p99: ({ latencyMs }) => latencyMs?.p99 },
  },
  {
    title: 'Latency of /health meanwhile, ms: p50 (blue) and p99 (orange)',
    scale: 'log',
    values: { p50: ({ health }) => health.p50, p99: ({ health }) => health.p99 },
  },
  {
    title: 'Peak memory of all processes but the load generator, MiB',
    scale: 'log',
    values: { memory: ({ processes: { load: _, ...own } }) => memory(Object.values(own)) },
  },
]

/** @param {{ peakResidentBytes: number }[]} processes */
function memory(processes) {
  return processes.reduce((all, { peakResidentBytes }) => all + peakResidentBytes, 0) / 2 ** 20
}

/**
 * @param {Step[]} steps
 * @param {string} subtitle
 * @returns {string} an SVG
 */
export function chart(steps, subtitle) {
  const bars = steps.length * BAR
  const top = (panel) => TOP + panel * (bars + AROUND)
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: top(PANELS.length) })
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    textStyle: { fontFamily: 'sans-serif' },
    title: [
      { text: 'Heavy work beside Node.js and Bun', subtext: subtitle, left: 'center', textStyle: { fontSize: 18 } },
      ...PANELS.map(({ title }, panel) => ({ text: title, left: 20, top: top(panel), textStyle: { fontSize: 13 } })),
    ],
    grid: PANELS.map((_, panel) => ({ left: LEFT, right: 70, top: top(panel) + 28, height: bars })),
    xAxis: PANELS.map(({ scale }, gridIndex) => ({ gridIndex, type: scale })),
    yAxis: PANELS.map((_, gridIndex) => ({ gridIndex, type: 'category', inverse: true, data: steps.map(titleOf) })),
    series: PANELS.flatMap(({ values }, panel) =>
      Object.values(values).map((value, at) => ({
        type: 'bar',
        xAxisIndex: panel,
        yAxisIndex: panel,
        color: COLORS[at],
        // A log axis has no place for zero.
        data: steps.map((step) => Math.max(value(step) ?? NaN, 0.1)),
        label: { show: true, position: 'right', formatter: ({ value }) => (Number.isNaN(value) ? '–' : short(Number(value))) },
      })),
    ),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

/** @param {number} value */
function short(value) {
  return value <= 0.1 ? '0' : value < 10 ? value.toFixed(1) : String(Math.round(value))
}
