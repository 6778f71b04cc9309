// A consumer that is killed at random instants while servers stop and start. npm run test:crash is the long form.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalBroker, externalClickHouse } from '../../tools/servers/index.mjs'
import { crash, PROMISED } from '../support/crashes.mjs'
import { full } from '../support/full.mjs'

const timeout = 180_000
const skip = externalBroker || externalClickHouse

test('kill -9: every number acknowledged is in the table, once', { timeout, skip }, async () => {
  const { seed, missing, doubled, acknowledged } = await crash({ kills: full ? 20 : 6, config: PROMISED })
  assert.ok(acknowledged > 0)
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
  assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
})

test('kill -9 while two routes take each message: every number is in both tables, once', { timeout, skip }, async () => {
  const tables = ['numbers', 'copies']
  // Commits of their own for each batch, as far as that is possible.
  const config = { spool: { ...PROMISED.spool, commitMs: 1 } }
  const { seed, missing, doubled, acknowledged, rows } = await crash({ kills: full ? 20 : 6, tables, config })
  assert.ok(rows >= 2 * acknowledged && acknowledged > 0)
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
  assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
})

test('kill -9 while two shards stop and start: every number is on one of them, once', { timeout, skip }, async () => {
  const { seed, missing, doubled, acknowledged } = await crash({ kills: full ? 20 : 6, shards: 2, config: PROMISED })
  assert.ok(acknowledged > 0)
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
  assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
})

for (const spool of [true, false]) {
  const name = `kill -9 while rows wait for values, ${spool ? 'with a spool: every number is in a row, once' : 'without a spool: nothing is lost'}`
  test(name, { timeout, skip }, async () => {
    const config = spool ? PROMISED : {}
    const { seed, missing, doubled, acknowledged, rows } = await crash({ kills: full ? 20 : 5, gathers: true, config })
    assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
    if (spool) assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
    assert.ok(acknowledged > 0 && rows < acknowledged, `${rows} rows of ${acknowledged} numbers`)
  })
}

test('kill -9 while a table grows and a lookup fills a column: every number is there, once, with its value', { timeout, skip }, async () => {
  const { seed, missing, doubled, acknowledged, added, mistaken } = await crash({ kills: full ? 20 : 5, grows: true, config: PROMISED })
  assert.ok(acknowledged > 0)
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
  assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
  assert.ok(added.length > 1 && added.every((name) => /^field_[0-7]$|^kind$/.test(name)), added.join())
  assert.equal(mistaken, 0)
})

test('kill -9 while numbers choose their table: every number is in one of them, once', { timeout, skip }, async () => {
  const { seed, missing, doubled, acknowledged } = await crash({ kills: full ? 20 : 5, chooses: true, config: PROMISED })
  assert.ok(acknowledged > 0)
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
  assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
})

test('kill -9 of a program that adds its route: every number is in the table, once, or a dead letter', { timeout, skip }, async () => {
  const { seed, missing, doubled, acknowledged } = await crash({ kills: full ? 20 : 5, adds: true, config: PROMISED })
  assert.ok(acknowledged > 0)
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
  assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
})

test('kill -9 without a spool: nothing is lost', { timeout, skip }, async () => {
  const { seed, missing } = await crash({ kills: 3 })
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
})
