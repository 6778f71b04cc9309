'use strict'

// The dashboard in the browser, first of three scripts: numbers and times as text, and the elements that show them. The scripts
// of the page share their top level: page.js names them in their order.

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
