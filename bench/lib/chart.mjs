// The chart of a result: CPU, memory and flush latency against the rate, a line for each service. Rates
// through the broker have round symbols, those from the firehose have diamonds.

import * as echarts from 'echarts'

const WIDTH = 960
const PANEL = 300
const TOP = 120

/** @typedef {import('./report.mjs').Step} Step */

/** @type {{ title: string, unit: string, scale: 'log' | 'value', value: (step: Step) => number | undefined, dashed?: (step: Step) => number | undefined }[]} */
const PANELS = [
  { title: 'CPU, % of one core', unit: '%', scale: 'log', value: ({ cpuPercent }) => cpuPercent },
  {
    title: 'Peak memory above the bare runtime, MiB',
    unit: 'MiB',
    scale: 'log',
    value: ({ aboveBareBytes }) => aboveBareBytes / 2 ** 20,
  },
  {
    title: 'Flush latency, ms: p50, and dashed p99',
    unit: 'ms',
    scale: 'log',
    value: ({ flush }) => flush?.p50,
    dashed: ({ flush }) => flush?.p99,
  },
]

/**
 * @param {Step[]} steps
 * @param {string} subtitle
 * @returns {string} an SVG
 */
export function chart(steps, subtitle) {
  const titles = [...new Set(steps.map(({ title }) => title))]
  const chart = echarts.init(null, null, {
    renderer: 'svg',
    ssr: true,
    width: WIDTH,
    height: TOP + PANELS.length * PANEL,
  })
  const axis = { nameLocation: /** @type {const} */ ('middle'), nameGap: 30, splitLine: { show: true } }
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    textStyle: { fontFamily: 'sans-serif' },
    title: [
      { text: 'MQTT to ClickHouse', subtext: subtitle, left: 'center', textStyle: { fontSize: 18 } },
      ...PANELS.map(({ title }, at) => ({
        text: title,
        left: 80,
        top: TOP + at * PANEL,
        textStyle: { fontSize: 13 },
      })),
    ],
    legend: { data: titles, left: 'center', top: 58, width: WIDTH - 80, itemGap: 24 },
    grid: PANELS.map((_, at) => ({ left: 80, right: 40, top: TOP + at * PANEL + 30, height: PANEL - 95 })),
    xAxis: PANELS.map((_, gridIndex) => ({
      ...axis,
      gridIndex,
      type: 'log',
      name: 'rows per second in ClickHouse',
      // A log axis begins at a power of ten otherwise, and leaves half of the chart empty.
      min: 'dataMin',
      max: 'dataMax',
      axisLabel: { formatter: short },
    })),
    yAxis: PANELS.map(({ scale, unit }, gridIndex) => ({ ...axis, gridIndex, type: scale, name: unit, nameGap: 45 })),
    series: PANELS.flatMap(({ value, dashed }, panel) =>
      titles.flatMap((title, at) =>
        ['broker', 'firehose'].flatMap((source) => {
          const own = steps.filter((step) => step.title === title && step.source === source)
          const look = {
            name: title,
            xAxisIndex: panel,
            yAxisIndex: panel,
            color: COLORS[at % COLORS.length],
            symbol: SYMBOLS[source],
          }
          return [
            line(own, value, look),
            ...(dashed ? [line(own, dashed, { ...look, lineStyle: { type: 'dashed' } })] : []),
          ]
        }),
      ),
    ),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

/**
 * @param {Step[]} steps
 * @param {(step: Step) => number | undefined} value
 * @param {import('echarts').LineSeriesOption} look
 * @returns {import('echarts').LineSeriesOption}
 */
function line(steps, value, look) {
  const points = steps
    .map((step) => [step.rowsPerSecond, value(step)])
    // A log axis has no place for zero.
    .filter(([x, y]) => x > 0 && y !== undefined && y > 0)
    .sort(([a], [b]) => a - b)
  return { type: 'line', data: points, symbolSize: 7, ...look }
}

const SYMBOLS = { broker: 'emptyCircle', firehose: 'diamond' }

// Distinguishable by the colour-blind as well (Okabe and Ito).
const COLORS = ['#0072B2', '#56B4E9', '#009E73', '#CC79A7', '#D55E00', '#E69F00', '#000000', '#999999']

/** @param {number} rate */
function short(rate) {
  if (rate >= 1e6) return `${+(rate / 1e6).toPrecision(3)}M`
  return rate >= 1000 ? `${+(rate / 1000).toPrecision(3)}k` : String(Math.round(rate))
}
