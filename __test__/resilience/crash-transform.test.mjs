// A consumer with a transform that is killed at random instants while servers stop and start. `npm run test:full` has 20
// kills in each test.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalBroker, externalClickHouse } from '../../tools/servers/index.mjs'
import { crash, PROMISED } from '../support/crashes.mjs'
import { full } from '../support/full.mjs'

const timeout = 180_000
const skip = externalBroker || externalClickHouse
/** Kills of the short run, by where the transform runs. */
const KILLS = { function: 8, module: 3 }

for (const transform of /** @type {const} */ (['function', 'module'])) {
  test(`kill -9 under a transform, a ${transform}, with a spool: each row, emitted row and dead letter is there once`, { timeout, skip }, async () => {
    const { seed, missing, doubled, acknowledged } = await crash({ kills: full ? 20 : KILLS[transform], transform, config: PROMISED })
    assert.ok(acknowledged > 0)
    assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
    assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
  })
}

test('kill -9 under a transform of one of two routes that take each message: each row is there once', { timeout, skip }, async () => {
  const tables = ['numbers', 'copies']
  const { seed, missing, doubled, acknowledged } = await crash({ kills: full ? 20 : 6, tables, transform: 'function', config: PROMISED })
  assert.ok(acknowledged > 0)
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
  assert.deepEqual(doubled, [], `doubled; SEED=${seed} draws the same instants`)
})

test('kill -9 under a transform without a spool: nothing is lost', { timeout, skip }, async () => {
  const { seed, missing } = await crash({ kills: full ? 20 : 5, transform: 'function' })
  assert.deepEqual(missing, [], `lost; SEED=${seed} draws the same instants`)
})
