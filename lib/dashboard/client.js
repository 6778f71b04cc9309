'use strict'

// The dashboard's script in the browser. Once a second it fetches status.json with the new samples and updates the page. Text
// from messages is set as text, never as HTML.

{
  const POLL_MS = 1000
  const TIMEOUT_MS = 5000
  const KEPT_SAMPLES = 900
  /** Rows of the table of a plot. */
  const FIGURES = 10
  const MARKS = { good: '✓', info: 'i', warn: '!', bad: '×' }

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

  const $ = (id) => document.getElementById(id)

  // ── Words and numbers ──

  const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
  const precise = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 })
  const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' })
  const minutes = new Intl.DateTimeFormat('en-GB', { timeStyle: 'short' })
  const calendar = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })

  function count(value) {
    if (value >= 1e9) return `${precise.format(value / 1e9)} G`
    if (value >= 1e7) return `${precise.format(value / 1e6)} M`
    return value > 0 && value < 10 ? precise.format(value) : whole.format(value)
  }

  function milliseconds(value) {
    if (value == null) return '–'
    return value >= 1000 ? `${precise.format(value / 1000)} s` : `${precise.format(value)} ms`
  }

  function bytes(value) {
    if (value == null) return '–'
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
    const i = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, value)) / 10)))
    return `${precise.format(value / 1024 ** i)} ${units[i]}`
  }

  function duration(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000))
    const [d, h, m, s] = [
      Math.floor(seconds / 86_400),
      Math.floor(seconds / 3600) % 24,
      Math.floor(seconds / 60) % 60,
      seconds % 60,
    ]
    if (d) return `${d} d ${h} h`
    if (h) return `${h} h ${m} min`
    if (m) return `${m} min ${s} s`
    return `${s} s`
  }

  function time(at, now) {
    const text = clock.format(at)
    return now - at < 43_200_000 ? text : `${calendar.format(at)} ${text}`
  }

  const often = (times) => (times > 1 ? `${whole.format(times)} ×` : '')

  // ── Elements ──

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag)
    for (const [name, value] of Object.entries(properties)) {
      if (name in made) made[name] = value
      else made.setAttribute(name, value)
    }
    made.append(...children)
    return made
  }

  /** Only what has changed is touched, so that a selection and a reader's place survive. */
  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text
  }

  function setFigure(id, text, note) {
    const [, number, unit = ''] = /^([\d.,]+)(.*)$/.exec(text) ?? ['', text]
    const node = $(id)
    if (node.textContent !== number + unit.trim()) {
      node.replaceChildren(number, element('span', { className: 'unit' }, unit.trim()))
    }
    setText($(`${id}-note`), note)
  }

  /** As many children as items; `make()` makes one, `update(child, item)` fills it. */
  function fill(parent, items, make, update) {
    while (parent.children.length > items.length) parent.lastElementChild.remove()
    while (parent.children.length < items.length) parent.append(make())
    items.forEach((item, i) => update(parent.children[i], item))
  }

  /** Rows of text; where `named`, the first cell of a row is its header. */
  function fillTable(body, rows, named = false) {
    const width = rows[0]?.length ?? 0
    // Elements lose their implicit roles where the style makes them blocks.
    const header = () => element('th', { scope: 'row', role: 'rowheader' })
    const cell = (i) => (named && i === 0 ? header() : element('td', { role: 'cell' }))
    const make = () => element('tr', { role: 'row' }, ...Array.from({ length: width }, (_, i) => cell(i)))
    fill(body, rows, make, (row, texts) => texts.forEach((text, i) => setText(row.children[i], text)))
  }

  /** Pairs of a name and a value, with an optional class. */
  function fillPairs(list, pairs) {
    const make = () => element('div', {}, element('dt'), element('dd'))
    fill(list, pairs, make, (div, [name, value, className = '']) => {
      div.className = className
      setText(div.children[0], name)
      setText(div.children[1], value)
    })
  }

  // ── Plots ──

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

  // ── What is shown ──

  function showSituation(situation, { now, behindMs }) {
    const [{ level, text, detail = '', since }, ...others] = situation
    const section = $('situation')
    section.dataset.level = level
    setText(section.querySelector('.mark'), MARKS[level])
    setText($('headline'), text)
    setText($('detail'), detail)
    const parts = []
    if (since) parts.push(`Since ${time(since, now)}, for ${duration(now - since)}`)
    if (behindMs >= 2000) parts.push(`${duration(behindMs)} behind`)
    setText($('since'), parts.join(' · '))
    fill($('others'), others, () => element('li'), (item, other) => {
      const ago = other.since ? ` Since ${time(other.since, now)}.` : ''
      setText(item, `${other.text}${ago}${other.detail ? ` ${other.detail}` : ''}`)
    })
    return { level, text }
  }

  function showTab({ level, text }, name) {
    const title = `${text} – ${name}`
    if (document.title === title) return
    document.title = title
    const dot = `<circle cx="8" cy="8" r="7" fill="${tone(level)}"/>`
    const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${dot}</svg>`
    $('icon').href = `data:image/svg+xml,${encodeURIComponent(icon)}`
  }

  function showNow(now, metrics) {
    const sample = samples.at(-1)
    const latest = (field) => sample[fields.indexOf(field)]
    const { messages, rows } = metrics
    setFigure('messages', `${count(latest('messagesPerSecond'))} /s`, `${count(messages.received)} received`)
    setFigure('rows', `${count(latest('rowsPerSecond'))} /s`, `${count(rows.inserted)} inserted`)
    setFigure('end-to-end', milliseconds(latest('endToEndP50')), `p99 ${milliseconds(latest('endToEndP99'))}`)
    setFigure('insert', milliseconds(latest('insertP50')), `p99 ${milliseconds(latest('insertP99'))}`)
    const behindMs = latest('oldestPendingMs')
    setFigure('pending', count(messages.pending), behindMs >= 100 ? `oldest ${milliseconds(behindMs)}` : 'messages')
    return behindMs
  }

  function showBooks({ received, inserted, deadLettered, dropped, skipped, pending }) {
    const parts = [
      ['Inserted', inserted, 'is-inserted'],
      ['Waiting', pending, 'is-pending'],
      ['Dead letters', deadLettered, 'is-dead'],
      ['Skipped', skipped, 'is-skipped'],
      ['Dropped', dropped, 'is-dropped'],
    ].filter(([name, value]) => value > 0 || name === 'Inserted' || name === 'Waiting')
    fillPairs($('books'), [
      ['Received', whole.format(received), 'is-received'],
      ...parts.map(([name, value, className]) => [name, whole.format(value), className]),
    ])
    const seen = parts.filter(([, value]) => value > 0)
    fill($('books-bar'), seen, () => element('i'), (bar, [, value, className]) => {
      bar.className = className
      bar.style.flexGrow = value
    })
  }

  function showParts({ metrics, connections, tables }) {
    const { mqtt, inserts, bytes: transferred, spool } = metrics
    fillTable(
      $('tables'),
      Object.entries(tables).map(([name, table]) => [
        name,
        count(table.rowsPerSecond),
        whole.format(table.rows),
        whole.format(table.inserts),
        whole.format(table.deadLettered),
      ]),
      true,
    )
    const down = Object.keys(connections).filter((number) => connections[number] === 0)
    fillPairs($('broker'), [
      ['Connections up', `${mqtt.connected} of ${mqtt.connections}`],
      ...(down.length > 0 && mqtt.connections > 1 ? [['Down', `number ${down.join(', ')}`]] : []),
      ['Reconnects', whole.format(mqtt.reconnects)],
      ['Not yet acknowledged', whole.format(mqtt.unacknowledged)],
      ['Payloads received', bytes(transferred.received)],
    ])
    fillPairs($('inserts'), [
      ['Succeeded', whole.format(inserts.succeeded)],
      ['Under way', whole.format(inserts.inFlight)],
      ['Tried again', whole.format(inserts.retried)],
      ['Refused', whole.format(inserts.failed)],
      ['Blocks inserted', bytes(transferred.inserted)],
    ])
    const gauges = [['Memory', metrics.memoryBytes, metrics.memoryMaxBytes]]
    if (spool) gauges.push(['Spool', spool.bytes, spool.maxBytes])
    fill($('buffers'), gauges, makeGauge, updateGauge)
    fillPairs(
      $('spool'),
      spool ? [['Segments', whole.format(spool.segments)], ['Oldest in the spool', milliseconds(spool.oldestMs)]] : [],
    )
  }

  function makeGauge() {
    const meter = element('div', { role: 'meter', 'aria-valuemin': '0' }, element('i'))
    return element('div', { className: 'gauge' }, element('p', {}, element('span'), element('span')), meter)
  }

  function updateGauge(gauge, [name, value, limit]) {
    const [label, figure] = gauge.querySelectorAll('span')
    const meter = gauge.querySelector('[role=meter]')
    const share = Math.min(1, value / limit)
    setText(label, name)
    setText(figure, `${bytes(value)} of ${bytes(limit)}`)
    meter.setAttribute('aria-label', name)
    meter.setAttribute('aria-valuenow', value)
    meter.setAttribute('aria-valuemax', limit)
    meter.setAttribute('aria-valuetext', figure.textContent)
    meter.dataset.level = share > 0.98 ? 'bad' : share > 0.8 ? 'warn' : ''
    meter.firstElementChild.style.width = `${share * 100}%`
  }

  function showLetters(letters, { deadLetters, messages: { deadLettered } }, now) {
    const note = letters.length > 0 ? `last at ${time(letters[0].at, now)}` : deadLettered > 0 ? 'in all' : 'none'
    setFigure('dead', count(deadLettered), note)
    $('letters-none').hidden = letters.length > 0
    $('letters-table').hidden = letters.length === 0
    const codes = Object.entries(deadLetters)
    const make = () => element('li', {}, element('span'), element('b'))
    fill($('letter-codes'), codes, make, (item, [code, value]) => {
      setText(item.children[0], code)
      setText(item.children[1], whole.format(value))
    })
    const rows = letters.map(({ at, code, count: times, topic, message }) => [
      time(at, now),
      code,
      often(times),
      topic,
      message,
    ])
    fillTable($('letters'), rows)
  }

  function showEvents(events, now) {
    $('events-none').hidden = events.length > 0
    $('events-table').hidden = events.length === 0
    const rows = events.map(({ at, code, count: times, message }) => [time(at, now), code, often(times), message])
    fillTable($('events'), rows)
  }

  // ── Asking ──

  const plots = PLOTS.map((plot) => new Plot(plot))
  let last
  let lostSince

  async function ask() {
    const response = await fetch(`status.json?from=${nextSample}`, { signal: AbortSignal.timeout(TIMEOUT_MS) })
    if (!response.ok) throw new Error(`HTTP ${response.status}`)
    const status = await response.json()
    // The process was restarted: its samples start at 0 again.
    if (last && status.metrics.uptimeMs < last.metrics.uptimeMs) {
      last = undefined
      samples.length = 0
      nextSample = 0
      return ask()
    }
    return status
  }

  function show(status) {
    last = status
    fields = status.samples.fields
    serverNow = status.now
    nextSample = status.samples.next
    samples.push(...status.samples.rows)
    samples.splice(0, samples.length - KEPT_SAMPLES)
    const { metrics, now } = status
    const name = status.name ?? 'millrace'
    setText($('name'), name)
    setText($('uptime'), `${metrics.state} · up ${duration(metrics.uptimeMs)}`)
    const behindMs = showNow(now, metrics)
    showTab(showSituation(status.situation, { now, behindMs }), name)
    showBooks(metrics.messages)
    showParts(status)
    showLetters(status.letters, metrics, now)
    showEvents(status.events, now)
    for (const plot of plots) plot.update()
  }

  async function round() {
    try {
      show(await ask())
      lostSince = undefined
    } catch (error) {
      lostSince ??= Date.now()
      const text = 'This page gets no answer from the pipeline’s process.'
      const detail = last ? 'What is below is what it said last.' : String(error)
      const situation = [{ level: 'bad', text, detail, since: lostSince }]
      showTab(showSituation(situation, { now: Date.now(), behindMs: 0 }), last?.name ?? 'millrace')
    }
    document.body.toggleAttribute('data-stale', lostSince !== undefined)
  }

  function shown() {
    return new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }))
  }

  async function run() {
    for (;;) {
      // A hidden page fetches nothing; when it is shown it fetches all samples that it missed.
      if (document.hidden) await shown()
      await round()
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  for (const input of document.querySelectorAll('[name=span]')) {
    input.addEventListener('change', () => plots.forEach((plot) => plot.update()))
  }
  const redraw = () => plots.forEach((plot) => plot.plot.redraw())
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw)
  run()
}
