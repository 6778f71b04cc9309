// The dashboard in a real browser, beside a pipeline between a real broker and a real ClickHouse.

/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { serveHttp } from '../../index.js'
import { externalBroker, externalClickHouse, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { noBrowser, openBrowser, openPage } from '../support/browser.mjs'
import { FakePipeline } from '../support/fake-pipeline.mjs'
import { COLUMNS, position, route } from '../support/positions.mjs'
import { OPEN_BROKER, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers({ ownClickHouse: true })
const timeout = 120_000
const retry = { minMs: 20, maxMs: 200 }

/** A pipeline that runs, and the address of its dashboard. */
async function served(t, config) {
  const pipeline = servers.pipeline(t, config)
  const http = await serveHttp(pipeline)
  t.after(() => http.close())
  await pipeline.start()
  return { pipeline, url: http.url }
}

/** Waits for the text of an element to be as it should be. */
async function shows(page, selector, expected) {
  let text
  const isThere = async () => {
    text = await page.textContent(selector)
    return expected instanceof RegExp ? expected.test(text) : text === expected
  }
  await waitFor(isThere, { timeoutMs: 30_000, message: () => `${selector} '${expected}', it is '${text}';` })
}

/** The texts of what is in each element. */
const cells = (page, selector) =>
  page.$$eval(selector, (all) => all.map((one) => [...one.children].map(({ textContent }) => textContent)))
const pairs = async (page, selector) => Object.fromEntries(await cells(page, `${selector} > div`))

test('the figures of a pipeline, and dead letters as text', { timeout, skip: noBrowser }, async (t) => {
  const [table, other] = [await servers.table(COLUMNS), await servers.table('seq UInt64')]
  const [prefix, second] = [unique('topic'), unique('topic')]
  const { pipeline, url } = await served(t, {
    name: 'fleet',
    routes: [route(prefix, table), { topic: `${second}/#`, table: other }],
  })
  const publisher = await servers.publisher(t)
  const browser = await openBrowser(t)
  const { page, errors, foreign } = await openPage(browser, url)
  await shows(page, '#headline', 'Connected. No messages are coming.')
  await shows(page, '#messages', '0/s')

  await publisher.flood(3_000, (i) => position(prefix, i))
  // The rates of the last seconds are shown while messages arrive.
  let sent = 3_000
  for (const selector of ['#messages', '#rows', '#end-to-end', '#insert']) {
    const isShown = async () => {
      await publisher.flood(1, () => position(prefix, sent++))
      return /^(?!0\/)[\d.,]+(\/s|ms|s)$/.test(await page.textContent(selector))
    }
    await waitFor(isShown, { timeoutMs: 30_000, intervalMs: 200, message: selector })
  }
  await publisher.flood(500, (i) => ({ topic: `${second}/a`, payload: `{"seq":${i}}` }))
  const script = '<img src=x onerror="globalThis.harmed = true">'
  await publisher.flood(7, () => ({ topic: `${second}/${script}`, payload: JSON.stringify({ seq: script }) }))
  await settled(pipeline, sent + 507)

  const [received, inserted] = [sent + 507, sent + 500].map((number) => number.toLocaleString('en'))
  await shows(page, '#books', `Received${received}Inserted${inserted}Waiting0Dead letters7`)
  await shows(page, '#name', 'fleet')
  await shows(page, '#messages-note', `${received} received`)
  await shows(page, '#rows-note', `${inserted} inserted`)
  await shows(page, '#pending', '0')
  await shows(page, '#dead', '7')
  await shows(page, '#headline', 'Messages became dead letters within the last minute: TYPE_MISMATCH.')

  const { tables, inserts } = pipeline.metrics()
  const tableRows = await cells(page, '#tables tr')
  assert.deepEqual(
    tableRows.map(([name, , ...figures]) => [name, ...figures]),
    [[table, sent, 0], [other, 500, 7]]
      .map(([name, rows, dead]) => [name, rows.toLocaleString('en'), String(tables[name].inserts), String(dead)])
      .sort(),
  )
  assert.equal((await pairs(page, '#broker'))['Connections up'], '1 of 1')
  assert.equal((await pairs(page, '#inserts')).Succeeded, inserts.succeeded.toLocaleString('en'))
  assert.equal(await servers.count(table), sent)

  const [[, code, times, topic, message], ...more] = await cells(page, '#letters tr')
  assert.deepEqual([code, times, topic, more], ['TYPE_MISMATCH', '7 ×', `${second}/${script}`, []])
  assert.match(message, /column seq/)
  assert.equal(await page.evaluate(() => globalThis.harmed), undefined)

  await pipeline.stop()
  await shows(page, '#headline', 'Stopped.')
  assert.deepEqual({ errors, foreign }, { errors: [], foreign: [] })
})

test('figures of lookups, and no card without lookups', { timeout, skip: noBrowser }, async (t) => {
  const table = await servers.table('seq UInt64, tenant String')
  const topic = unique('topic')
  const columns = { tenant: { lookup: 'tenants', key: 'seq', default: '' } }
  const { pipeline, url } = await served(t, { routes: [{ topic, table, columns }] })
  const without = await served(t, { routes: [{ topic: unique('topic'), table: await servers.table('seq UInt64') }] })
  pipeline.lookup('tenants', Object.fromEntries(Array.from({ length: 1_100 }, (_, seq) => [seq, 'acme'])))
  const publisher = await servers.publisher(t)
  await publisher.flood(1_200, (seq) => ({ topic, payload: `{"seq":${seq}}` }))
  await settled(pipeline, 1_200)
  const browser = await openBrowser(t)
  const { page, errors } = await openPage(browser, url)
  await shows(page, '#lookups tr td:nth-child(4)', '100')
  const [[name, entries]] = await cells(page, '#lookups tr')
  assert.deepEqual([name, entries], ['tenants', '1,100'])
  assert.equal(await page.isVisible('#lookups-title'), true)
  const other = await openPage(browser, without.url)
  await shows(other.page, '#headline', 'Connected. No messages are coming.')
  assert.equal(await other.page.isVisible('#lookups-title'), false)
  assert.deepEqual([errors, other.errors], [[], []])
})

test('rows of several messages, by route', { timeout, skip: noBrowser }, async (t) => {
  const [table, topic] = [await servers.table('id UInt32, a Nullable(UInt8), b Nullable(UInt8)'), unique('topic')]
  const { pipeline, url } = await served(t, { routes: [{ topic, table, pivot: { key: 'id', windowMs: 3_600_000 } }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(5, (i) => ({ topic, payload: JSON.stringify({ id: i >> 1, [i % 2 ? 'a' : 'b']: 1 }) }))
  await waitFor(() => pipeline.metrics().messages.received === 5)
  const { page } = await openPage(await openBrowser(t), url)
  await shows(page, '#gathered tr td:nth-child(3)', '2')
  assert.deepEqual(await cells(page, '#gathered tr'), [[topic, '1', '2', '2']])
})

test('rows that were dropped for those before them, by route and rule', { timeout, skip: noBrowser }, async (t) => {
  const [table, topic] = [await servers.table('id UInt32, v Float64'), unique('topic')]
  const rules = { dedupe: { by: 'id' }, deadband: { column: 'v', delta: 1 } }
  const { pipeline, url } = await served(t, { routes: [{ topic, table, ...rules }] })
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(20, (i) => ({ topic, payload: JSON.stringify({ id: i % 15, v: i % 15 < 5 ? 1 : 10 }) }))
  await settled(pipeline, 20)
  const { page } = await openPage(await openBrowser(t), url)
  await shows(page, '#repeats tr td:nth-child(3)', '5')
  assert.deepEqual(await cells(page, '#repeats tr'), [
    [topic, 'dedupe', '5', '15', '0'],
    [topic, 'deadband', '13', '1', '0'],
  ])
  const other = await openPage(await openBrowser(t), (await served(t, { routes: [{ topic, table }] })).url)
  await shows(other.page, '#headline', 'Connected. No messages are coming.')
  assert.equal(await other.page.isVisible('#repeats-title'), false)
})

test('figures of transforms, and no card without transforms', { timeout, skip: noBrowser }, async (t) => {
  const table = await servers.table('seq UInt64')
  const topic = unique('topic')
  const transform = (batch) => {
    for (let row = 0; row < batch.length; row++) if (batch.columns.seq.values[row] % 4n === 0n) batch.drop(row)
  }
  const { pipeline, url } = await served(t, { routes: [{ topic: `${topic}/+`, table, transform }] })
  const without = await served(t, { routes: [{ topic: unique('topic'), table }] })
  const publisher = await servers.publisher(t)
  await publisher.flood(1_200, (seq) => ({ topic: `${topic}/a`, payload: `{"seq":${seq}}` }))
  await settled(pipeline, 1_200)
  const browser = await openBrowser(t)
  const { page, errors } = await openPage(browser, url)
  await shows(page, '#transforms tr td:nth-child(5)', '1,200')
  const [[route, calls, , waiting, ...figures]] = await cells(page, '#transforms tr')
  const [its] = Object.values(pipeline.metrics().transforms)
  assert.deepEqual([route, calls, waiting, ...figures], [`${topic}/+`, its.calls.toLocaleString('en'), '0', '1,200', '300', '0', '0', '0'])
  assert.equal(await page.isVisible('#transforms-title'), true)
  const other = await openPage(browser, without.url)
  await shows(other.page, '#headline', 'Connected. No messages are coming.')
  assert.equal(await other.page.isVisible('#transforms-title'), false)
  assert.deepEqual([errors, other.errors], [[], []])
})

test(
  'ClickHouse that is stopped, and back: said in words, and read aloud once',
  { timeout, skip: noBrowser || externalClickHouse },
  async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const { pipeline, url } = await served(t, { clickhouse: { retry }, routes: [route(prefix, table)] })
    const publisher = await servers.publisher(t)
    const browser = await openBrowser(t)
    const { page, errors } = await openPage(browser, url)
    await publisher.flood(500, (i) => position(prefix, i))
    await shows(page, '#headline', 'Messages flow into ClickHouse.')
    await page.evaluate(() => {
      globalThis.spoken = []
      const headline = document.getElementById('headline')
      const watch = () => globalThis.spoken.push(headline.textContent)
      new MutationObserver(watch).observe(headline, { childList: true, characterData: true, subtree: true })
    })

    await servers.clickhouse.stop()
    await publisher.flood(500, (i) => position(prefix, 500 + i))
    await shows(page, '#headline', 'ClickHouse cannot be reached. Retrying.')
    await shows(page, '#since', /^Since \d\d:\d\d:\d\d, for \d+ s · \d+ s behind$/)
    await shows(page, '#detail', new RegExp(`^${table}: ClickHouse at http://127.0.0.1:\\d+ cannot be reached`))
    await shows(page, '#books', 'Received1,000Inserted500Waiting500')
    assert.equal((await fetch(`${url}readyz`)).status, 503)

    await servers.clickhouse.start()
    await settled(pipeline, 1_000)
    await shows(page, '#headline', 'Messages flow into ClickHouse.')
    await shows(page, '#books', 'Received1,000Inserted1,000Waiting0')
    assert.equal((await fetch(`${url}readyz`)).status, 200)
    assert.deepEqual(await page.evaluate(() => globalThis.spoken), [
      'ClickHouse cannot be reached. Retrying.',
      'Messages flow into ClickHouse.',
    ])
    assert.deepEqual(errors, [])
  },
)

test('a broker that is down, and a process that is gone', { timeout, skip: noBrowser || externalBroker }, async (t) => {
  const broker = await startBroker({ config: OPEN_BROKER })
  t.after(() => broker.remove())
  const table = await servers.table(COLUMNS)
  const pipeline = servers.pipeline(t, {
    mqtt: { url: broker.url, reconnect: { minMs: 20, maxMs: 200 } },
    routes: [route(unique('topic'), table)],
  })
  const http = await serveHttp(pipeline)
  await pipeline.start()
  const browser = await openBrowser(t)
  const { page } = await openPage(browser, http.url)
  await shows(page, '#headline', 'Connected. No messages are coming.')
  await broker.stop()
  await shows(page, '#headline', 'There is no connection to the broker. Reconnecting.')
  await shows(page, '#detail', /the broker at mqtt:.* cannot be reached/)
  await broker.start()
  await shows(page, '#headline', 'Connected. No messages are coming.')
  await http.close()
  await shows(page, '#headline', 'This page gets no answer from the pipeline’s process.')
})

test('a spool that fills up, and a connection that is down', { timeout, skip: noBrowser }, async (t) => {
  const pipeline = new FakePipeline()
  Object.assign(pipeline.content, {
    mqtt: { connected: 2, connections: 3, reconnects: 7, unacknowledged: 1_234, writes: 9, protocolVersion: 5 },
    spool: { bytes: 900 * 2 ** 20, maxBytes: 2 ** 30, segments: 15, oldestMs: 75_000 },
    memoryBytes: 64 * 2 ** 20,
    memoryMaxBytes: 2 ** 28,
  })
  const name = 'millrace_mqtt_connected'
  const samples = [1, 0, 1].map((value, i) => ({ name, labels: [['connection', String(i + 1)]], value }))
  pipeline.families = [{ name, kind: 'gauge', samples }]
  const http = await serveHttp(/** @type {any} */ (pipeline))
  t.after(() => http.close())
  const reason = 'it closed the connection'
  pipeline.fail('MQTT_RECONNECTING', `${reason}; connecting again in 100 ms`, { reason })

  const { page, errors } = await openPage(await openBrowser(t), http.url)
  await shows(page, '#headline', 'Only 2 of 3 connections to the broker are up. Reconnecting.')
  await shows(page, '#detail', 'it closed the connection')
  await shows(page, '#others', 'The spool fills up.')
  const { 'Connections up': up, Down: down } = await pairs(page, '#broker')
  assert.deepEqual([up, down], ['2 of 3', 'number 2'])
  const meters = page.locator('#buffers').getByRole('meter')
  assert.deepEqual(await meters.evaluateAll((all) => all.map((one) => [one.ariaLabel, one.ariaValueText])), [
    ['Memory', '64 MiB of 256 MiB'],
    ['Spool', '900 MiB of 1 GiB'],
  ])
  assert.deepEqual(await pairs(page, '#spool'), { Segments: '15', 'Oldest in the spool': '75 s' })
  assert.deepEqual(errors, [])
})

test('light, dark, a phone, a keyboard', { timeout, skip: noBrowser }, async (t) => {
  const table = await servers.table('seq UInt64')
  const topic = unique('topic')
  const { pipeline, url } = await served(t, { routes: [{ topic, table }] })
  const publisher = await servers.publisher(t)
  const wrong = '{"seq":"a long word, to be read on a phone"}'
  await publisher.flood(20, (i) => ({ topic, payload: i < 10 ? `{"seq":${i}}` : wrong }))
  await settled(pipeline, 20)
  const browser = await openBrowser(t)

  const grounds = []
  for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
    for (const viewport of [{ width: 1280, height: 900 }, { width: 360, height: 740 }]) {
      const { page, errors } = await openPage(browser, url, { colorScheme, viewport })
      await shows(page, '#dead', '10')
      const where = `${colorScheme}, ${viewport.width} pixels`
      assert.deepEqual(await page.evaluate(faintTexts), [], where)
      const { scrollWidth, innerWidth } = await page.evaluate(() => ({
        scrollWidth: document.documentElement.scrollWidth,
        innerWidth: globalThis.innerWidth,
      }))
      assert.ok(scrollWidth <= innerWidth, `${where}: the page is ${scrollWidth} wide`)
      grounds.push(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor))
      assert.deepEqual(errors, [], where)
      await page.context().close()
    }
  }
  assert.equal(grounds[0], grounds[1])
  assert.notEqual(grounds[0], grounds[2])

  const { page } = await openPage(browser, url)
  await shows(page, '#dead', '10')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main')
  await page.keyboard.press('Tab')
  await page.keyboard.press('ArrowRight')
  assert.equal(await page.getAttribute('[name=span]:checked', 'value'), '900')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await waitFor(async () => (await cells(page, 'figure tbody tr')).length > 0, { message: 'the figures of a plot' })
  const figure = page.locator('figure').first()
  assert.match(await figure.ariaSnapshot(), /table "Throughput":\s[^]*row "Time messages\/s rows\/s"/)
  const letters = page.getByRole('region', { name: 'Dead letters' }).getByRole('table')
  assert.match(await letters.ariaSnapshot(), /row ".* TYPE_MISMATCH 10 × .* column seq/)
})

/** In the page: texts with less contrast than WCAG's 4.5 : 1. */
function faintTexts() {
  const channels = (color) => (color.match(/[\d.]+/g) ?? []).map(Number)
  const luminance = (color) => {
    const [r, g, b] = channels(color).map((value) => {
      const share = value / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at)
      if (channels(backgroundColor)[3] !== 0) return backgroundColor
    }
    return 'rgb(255, 255, 255)'
  }
  const faint = []
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement
    if (!texts.currentNode.textContent.trim() || !node.checkVisibility() || node.closest('script, style')) continue
    const [one, two] = [luminance(getComputedStyle(node).color), luminance(ground(node))].sort((a, b) => b - a)
    const contrast = (one + 0.05) / (two + 0.05)
    if (contrast < 4.5) faint.push(`${texts.currentNode.textContent}: ${contrast.toFixed(2)}`)
  }
  return faint
}
