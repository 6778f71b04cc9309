'use strict'

// The dashboard in the browser, last of three scripts: once a second it fetches status.json with the new samples and updates the
// page. Text from messages is set as text, never as HTML. Uses elements.js and plot.js.

const POLL_MS = 1000
const TIMEOUT_MS = 5000
const KEPT_SAMPLES = 900
const MARKS = { good: '✓', info: 'i', warn: '!', bad: '×' }

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

/** Links to the pages of the processes, and from such a page back to the sums. */
function showProcesses(processes, own) {
  const links = processes.map(({ number, state }) => [`processes/${number}/`, `process ${number}, ${state}`])
  // A process has this page below that of the sums where it is one of several.
  if (own && location.pathname.endsWith(`/processes/${own}/`)) links.push(['../../', 'all processes'])
  const nav = $('processes')
  nav.hidden = links.length === 0
  fill(nav, links, () => element('a'), (link, [href, text]) => {
    link.href = href
    setText(link, text)
  })
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

function showMessageCounts({ received, inserted, deadLettered, dropped, skipped, pending }) {
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
  showTransforms(metrics.transforms ?? {})
  showGathered(metrics.pivot ?? {})
  showRepeats(metrics.dedupe ?? {}, metrics.deadband ?? {})
  showLookups(metrics.lookups ?? {})
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

function showTransforms(transforms) {
  const rows = Object.entries(transforms).map(([route, its]) => [
    route,
    whole.format(its.calls),
    milliseconds(its.durationMs.p99),
    whole.format(its.waiting),
    ...[its.rows, its.dropped, its.rejected, its.emitted, its.failed].map((value) => whole.format(value)),
  ])
  $('transforms-card').hidden = rows.length === 0
  fillTable($('transforms'), rows, true)
}

function showGathered(pivot) {
  const row = ([route, its]) => [route, whole.format(its.open), whole.format(its.rows), whole.format(its.complete)]
  const rows = Object.entries(pivot).map(row)
  $('gathered-card').hidden = rows.length === 0
  fillTable($('gathered'), rows, true)
}

function showRepeats(dedupe, deadband) {
  const row = (rule) => ([route, its]) => [route, rule, whole.format(its.dropped), whole.format(its.keys), whole.format(its.evicted)]
  const rows = [...Object.entries(dedupe).map(row('dedupe')), ...Object.entries(deadband).map(row('deadband'))]
  $('repeats-card').hidden = rows.length === 0
  fillTable($('repeats'), rows, true)
}

function showLookups(lookups) {
  const rows = Object.entries(lookups).map(([name, its]) => [name, whole.format(its.entries), bytes(its.bytes), whole.format(its.misses)])
  $('lookups-card').hidden = rows.length === 0
  fillTable($('lookups'), rows, true)
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
  const { process } = status.labels ?? {}
  const name = `${status.name ?? 'millrace'}${process ? ` · process ${process}` : ''}`
  setText($('name'), name)
  showProcesses(status.processes ?? [], process)
  setText($('uptime'), `${metrics.state} · up ${duration(metrics.uptimeMs)}`)
  const behindMs = showNow(now, metrics)
  showTab(showSituation(status.situation, { now, behindMs }), name)
  showMessageCounts(metrics.messages)
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
