'use strict'

// The dashboard in the browser, second of three scripts: the plots, and the samples that they draw. Uses elements.js.

/** Rows of the table of a plot. */
const FIGURES = 10

/** Steps of an axis, as round numbers: the axis ends at two to five steps. */
const DECIMAL = [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((e) => [1, 2, 2.5, 5].map((n) => n * 10 ** e))
const BINARY = Array.from({ length: 45 }, (_, e) => 2 ** e)
const TIMES = [10, 15, 30, 60, 120, 180, 300]

const PLOTS = [
  {
    title: 'Throughput',
    format: (value) => count(value),
    series: [
      { name: 'messages/s', field: 'messagesPerSecond', tone: 'water' },
      { name: 'rows/s', field: 'rowsPerSecond', tone: 'wood' },
    ],
  },
  {
    title: 'End to end',
    format: milliseconds,
    series: [
      { name: 'p50', field: 'endToEndP50', tone: 'water' },
      { name: 'p99', field: 'endToEndP99', tone: 'wood' },
    ],
  },
  {
    title: 'INSERT',
    format: milliseconds,
    series: [
      { name: 'p50', field: 'insertP50', tone: 'water' },
      { name: 'p99', field: 'insertP99', tone: 'wood' },
    ],
  },
  {
    title: 'Buffers',
    format: bytes,
    steps: BINARY,
    series: [
      { name: 'memory', field: 'memoryBytes', tone: 'water' },
      { name: 'spool', field: 'spoolBytes', tone: 'wood' },
    ],
  },
]

const samples = []
const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
const span = () => Number(document.querySelector('[name=span]:checked').value)
let fields = []
let serverNow = Date.now()
let nextSample = 0

class Plot {
  constructor({ title, format, series, steps = DECIMAL }) {
    this.format = format
    this.steps = steps
    this.series = series
    this.keys = series.map(({ name, tone: color }) => {
      const value = element('b')
      return { value, key: element('span', { className: `key is-${color}` }, `${name} `, value) }
    })
    this.area = element('div', { className: 'plot', role: 'img', 'aria-label': `${title} over time` })
    this.head = element('tr')
    this.body = element('tbody')
    this.details = element(
      'details',
      {},
      element('summary', {}, 'As a table'),
      element(
        'table',
        {},
        element('caption', { className: 'unseen' }, title),
        element('thead', {}, this.head),
        this.body,
      ),
    )
    const header = (text) => element('th', { scope: 'col' }, text)
    this.head.append(header('Time'), ...series.map(({ name }) => header(name)))
    this.details.addEventListener('toggle', () => this.tabulate())
    this.figure = element(
      'figure',
      {},
      element('figcaption', {}, element('h3', {}, title), ...this.keys.map(({ key }) => key)),
      this.area,
      this.details,
    )
    $('plots').append(this.figure)
    this.plot = new uPlot(this.options(), [[], ...series.map(() => [])], this.area)
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.area)
  }

  size() {
    return { width: this.area.clientWidth, height: this.area.clientHeight }
  }

  options() {
    const axis = {
      stroke: () => tone('quiet'),
      font: '12px system-ui, sans-serif',
      grid: { stroke: () => tone('grid'), width: 1 },
      ticks: { show: false },
    }
    return {
      ...this.size(),
      legend: { show: false },
      padding: [8, 18, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'millrace' }, points: { size: 7 } },
      scales: {
        x: { range: () => [serverNow / 1000 - span(), serverNow / 1000] },
        y: { range: (_, __, max) => [0, this.roundUp(max)] },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 32,
          gap: 9,
          space: 64,
          incrs: TIMES,
          values: (_, splits) => splits.map((at) => (span() > 60 ? minutes : clock).format(at * 1000)),
        },
        {
          ...axis,
          size: 64,
          space: 30,
          incrs: this.steps,
          values: (_, splits) => splits.map((value) => this.format(value)),
        },
      ],
      series: [
        {},
        ...this.series.map(({ tone: color }, i) => ({
          stroke: () => tone(color),
          ...(i === 0 && { fill: () => tone(`${color}-soft`) }),
          width: 1.75,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [() => this.label()] },
    }
  }

  roundUp(max) {
    if (!(max > 0)) return this.steps.find((step) => step >= 1)
    const step = this.steps.find((one) => one * 4 >= max) ?? max
    return Math.ceil(max / step) * step
  }

  update() {
    const column = ({ field }) => samples.map((sample) => sample[fields.indexOf(field)])
    this.data = [samples.map(([at]) => at / 1000), ...this.series.map(column)]
    this.plot.setData(this.data)
    this.series.forEach((_, i) => {
      this.keys[i].key.hidden = this.data[i + 1].every((value) => value == null)
    })
    this.label()
    this.tabulate()
  }

  /** The values under the cursor, or the last ones. */
  label() {
    if (!this.data) return
    const at = this.plot.cursor.idx ?? this.data[0].length - 1
    this.keys.forEach(({ value }, i) => setText(value, this.text(i, at)))
  }

  text(series, at) {
    const value = this.data[series + 1][at]
    return value == null ? '–' : this.format(value)
  }

  tabulate() {
    if (!this.details.open || !this.data) return
    const last = this.data[0].length - 1
    const step = Math.max(1, Math.round(span() / FIGURES))
    const rows = []
    for (let at = last; at >= 0 && rows.length < FIGURES; at -= step) {
      rows.push([time(this.data[0][at] * 1000, serverNow), ...this.series.map((_, i) => this.text(i, at))])
    }
    fillTable(this.body, rows)
  }
}
