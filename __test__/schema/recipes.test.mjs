// Every recipe of docs/recipes.md, as the page has it. A section is run block by block: statements, routes, messages, and
// queries with the rows that they must give.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { collect, settled, useServers } from '../support/servers.mjs'

const page = readFileSync(new URL('../../docs/recipes.md', import.meta.url), 'utf8')
const servers = useServers()
const timeout = 60_000

const HEADINGS = [
  'Units: m/s to km/h',
  'A filter',
  'Alerts',
  'Several tables from one message',
  'Payloads in gzip',
  'A Null table with views',
  'Changing a view without losing rows',
]

const sections = page.split(/^## /m).slice(1).map((section) => {
  const [heading] = section.split('\n', 1)
  const blocks = [...section.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map(([, kind, text]) => ({ kind, text }))
  return { heading, blocks }
})

test('the page has these recipes', () => {
  assert.deepEqual(sections.map(({ heading }) => heading), HEADINGS)
})

/** The first line is the topic; `gzip:` stands for compressed bytes. */
function messageOf(/** @type {string} */ text) {
  const [topic, ...lines] = text.split('\n')
  const payload = lines.join('\n')
  return { topic, payload: payload.startsWith('gzip:') ? gzipSync(payload.slice('gzip:'.length)) : payload }
}

for (const { heading, blocks } of sections) {
  test(heading, { timeout }, async (t) => {
    const publisher = await servers.publisher(t, { clients: 1 })
    let pipeline
    let warnings
    let published = 0
    let compared = 0
    /** @type {any[] | undefined} */
    let rows
    for (const { kind, text } of blocks) {
      if (kind === 'sql' && text.startsWith('SELECT')) {
        rows = await servers.rows(text, { output_format_json_quote_64bit_integers: 0 })
      } else if (kind === 'sql') {
        for (const statement of text.split(/;\n/).filter((part) => part.trim() !== '')) await servers.command(statement)
      } else if (kind === 'js') {
        pipeline = servers.pipeline(t, { routes: new Function(`return ${text}`)() })
        warnings = collect(pipeline, 'warning')
        await pipeline.start()
      } else if (kind === 'text') {
        const messages = text.trim().split(/\n\n+/).map(messageOf)
        for (const { topic, payload } of messages) await publisher.publish(topic, payload)
        published += messages.length
        await settled(pipeline, published, { warnings })
        assert.equal(pipeline.metrics().messages.deadLettered, 0)
      } else {
        assert.equal(kind, 'json')
        assert.deepEqual(rows, text.trim().split('\n').map((line) => JSON.parse(line)))
        compared++
      }
    }
    assert.ok(compared > 0)
  })
}
