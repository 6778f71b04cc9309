// Every example of docs/devices.md, as the page has it: its tables are created, its messages published, and the tables must
// hold its rows. One pipeline has all routes of the page.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Pipeline } from '../../index.js'
import { devicesOf } from '../support/device-page.mjs'
import { collect, endPipeline, heard, settled, useServers } from '../support/servers.mjs'
import { Publisher } from '../support/publisher.mjs'

const page = readFileSync(fileURLToPath(new URL('../../docs/devices.md', import.meta.url)), 'utf8')
const sections = devicesOf(page)
const examples = sections.flatMap((section) => section.examples)

// Each has what is asked of it below: none may go unnoticed.
const HEADINGS = [
  'Zigbee2MQTT',
  'Tasmota',
  'ESPHome',
  'Shelly',
  'Home Assistant',
  'Homie',
  'Digitransit',
  'OwnTracks',
  'ChirpStack',
  'The Things Stack',
  'Meshtastic',
  'Victron',
  'Ruuvi Gateway',
  'Theengs Gateway',
  'Traccar',
  'Teltonika',
  'Sparkplug B',
  'SenML',
  'AWS IoT Core',
  'Azure IoT Hub',
]

const servers = useServers()
const timeout = 60_000
/** @type {any[]} */
let letters = []
let startedAt = 0

/** @type {Promise<void> | undefined} */
let published

/** Everything of the page is in ClickHouse then. */
function arrived() {
  return (published ??= publish())
}

async function publish() {
  for (const { statement } of examples) await servers.command(statement)
  const pipeline = new Pipeline(servers.config({ routes: examples.map(({ route }) => route) }))
  try {
    letters = collect(pipeline, 'deadLetters')
    const warnings = collect(pipeline, 'warning')
    startedAt = Date.now()
    await pipeline.start()
    const publisher = await Publisher.open({ url: servers.broker.url, clients: 1 })
    const messages = examples.flatMap((example) => example.messages)
    // In the order of the page: what a BIRTH says is known to what follows it.
    for (const { topic, payload } of messages) await publisher.publish(topic, payload)
    await publisher.close()
    await settled(pipeline, messages.length, { warnings })
    await heard(pipeline, letters)
  } finally {
    await endPipeline(pipeline)
  }
}

test('the page has an example of every format', () => {
  assert.deepEqual(sections.map(({ heading }) => heading), HEADINGS)
})

for (const { heading, text, examples } of sections) {
  test(`${heading}: the rows of the page`, { timeout }, async () => {
    await arrived()
    assert.match(text, /^Format: \[.+\]\(https:\/\/.+\)/m, 'its source')
    for (const { table, route, messages, rows } of examples) {
      const topics = messages.map(({ topic }) => topic)
      const refused = letters.filter(({ topic }) => topics.includes(topic))
      assert.deepEqual(refused.map(({ topic, code, message }) => `${topic}: ${code}: ${message}`), [])
      assert.equal(route.table, table)
      assert.deepEqual((await rowsOf(table)).sort(), [...rows].sort(), table)
    }
  })
}

test('a column for the time of receipt holds it', { timeout }, async () => {
  await arrived()
  let count = 0
  for (const { table, statement } of examples.filter(({ statement }) => /\breceived_at\b/.test(statement))) {
    const times = await servers.rows(`SELECT toUnixTimestamp64Milli(received_at) AS ms FROM ${table}`)
    for (const { ms } of times) assert.ok(Number(ms) >= startedAt && Number(ms) <= Date.now(), `${statement}: ${ms}`)
    count += times.length
  }
  assert.ok(count > 0)
})

/** The rows of a table, each as ClickHouse writes it. */
async function rowsOf(table) {
  const columns = await servers.rows(`SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '${table}'
    AND default_kind NOT IN ('MATERIALIZED', 'ALIAS', 'EPHEMERAL') AND name != 'received_at' ORDER BY position`)
  const names = columns.map(({ name }) => `\`${name}\``).join(', ')
  const rows = await servers.rows(`SELECT formatRowNoNewline('JSONEachRow', ${names}) AS row FROM ${table}`, {
    output_format_json_quote_64bit_integers: 0,
    output_format_json_escape_forward_slashes: 0,
  })
  return rows.map(({ row }) => row)
}
