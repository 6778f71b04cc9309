// npm run screenshots: makes the images of docs/images from the dashboard of a real pipeline. It takes a minute and a half,
// so that the plots have data.

import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { Publisher } from '../__test__/support/publisher.mjs'
import { runMain } from '../bench/lib/scope.mjs'
import { Pipeline, serveHttp } from '../index.js'
import { findChromium, startBroker, startClickHouse, waitFor } from '../tools/servers/index.mjs'

const IMAGES = fileURLToPath(new URL('../docs/images/', import.meta.url))
const SECONDS = 70
const RATE = 2000
const TABLES = ['positions (driver_id String, lat Float64, lng Float64)', 'engines (driver_id String, rpm UInt16)']

await runMain(async (scope) => {
  const executablePath = findChromium()
  if (!executablePath) throw new Error('there is no Chromium: npm run setup installs one on Debian')
  const clickhouse = scope.own(await startClickHouse(), 'remove')
  const config = ['max_inflight_messages 0', 'max_queued_messages 0']
  const broker = scope.own(await startBroker({ config }), 'remove')
  for (const table of TABLES) {
    await clickhouse.command(
      `CREATE TABLE ${table} ENGINE = MergeTree ORDER BY driver_id SETTINGS non_replicated_deduplication_window = 1000`,
    )
  }

  const pipeline = scope.own(
    new Pipeline({
      name: 'fleet',
      mqtt: { url: broker.url },
      clickhouse: { url: clickhouse.url },
      routes: [
        { topic: 'drivers/{driver_id}/position', table: 'positions' },
        { topic: 'drivers/{driver_id}/engine', table: 'engines' },
      ],
    }),
    'stop',
  )
  const http = scope.own(await serveHttp(pipeline), 'close')
  await pipeline.start()
  const publisher = scope.own(await Publisher.open({ url: broker.url, clients: 2 }), 'close')
  let isOver = false
  scope.defer(() => (isOver = true))
  drive(publisher, () => isOver).catch((error) => console.error(error))

  const browser = scope.own(await chromium.launch({ executablePath, args: ['--no-sandbox'] }), 'close')
  const open = async (options) => {
    const page = await browser.newPage(options)
    await page.goto(http.url)
    await page.getByText('1 min', { exact: true }).click()
    return page
  }
  const desktop = await open({ viewport: { width: 1280, height: 1010 }, colorScheme: 'light' })
  const phone = await open({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: 'dark' })
  console.log(`${http.url} for ${SECONDS} seconds`)
  await sleep(SECONDS * 1000)
  await waitFor(async () => (await desktop.textContent('#headline')) === 'Messages flow into ClickHouse.', {
    timeoutMs: 60_000,
    message: 'a dashboard with nothing to complain of',
  })
  await desktop.screenshot({ path: `${IMAGES}dashboard-desktop.png` })
  await clickhouse.stop()
  await waitFor(async () => /1\d s behind/.test((await phone.textContent('#since')) ?? ''), {
    timeoutMs: 60_000,
    message: 'ClickHouse being behind',
  })
  await phone.screenshot({ path: `${IMAGES}dashboard-phone.png` })
  await clickhouse.start()
})

/** Drivers who are now more and now fewer, two of whom begin with a mistake. */
async function drive(publisher, isOver) {
  const began = performance.now()
  const wrong = [
    { topic: 'drivers/driver-17/position', payload: '{"lat":"north","lng":4.9}' },
    { topic: 'drivers/driver-8/engine', payload: '{"rpm":-1}' },
  ]
  await publisher.flood(31, (i) => wrong[i % 2])
  for (let sent = 0; !isOver(); ) {
    await sleep(50)
    const seconds = (performance.now() - began) / 1000
    const due = Math.floor(RATE * (seconds - 4 * Math.cos(seconds / 8)))
    const count = Math.max(0, due - sent)
    sent = Math.max(due, sent)
    await publisher.flood(count, (i) => {
      const driver = `driver-${(sent + i * 7) % 500}`
      return i % 4 === 0
        ? { topic: `drivers/${driver}/engine`, payload: JSON.stringify({ rpm: 900 + (i % 3000) }) }
        : { topic: `drivers/${driver}/position`, payload: JSON.stringify({ lat: 52 + i / 1e6, lng: 4 + i / 1e6 }) }
    })
  }
}
