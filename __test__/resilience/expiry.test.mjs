// clickhouse.retry.maxAgeMs: a batch that a table does not take for too long becomes dead letters, which are replayed when it
// does. Another table goes on.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { replayDeadLetters } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

for (const withSpool of [false, true]) {
  test(`dead letters of a table that is gone, ${withSpool ? 'from a spool' : 'without one'}`, { timeout }, async (t) => {
    const home = mkdtempSync(join(tmpdir(), 'millrace-expiry-'))
    t.after(() => rmSync(home, { recursive: true }))
    const [gone, stays] = [await servers.table('seq UInt32'), await servers.table('seq UInt32')]
    const prefix = unique('topic')
    const config = {
      mqtt: { clientId: unique('client') },
      clickhouse: { retry: { minMs: 10, maxMs: 50, maxAgeMs: 300 } },
      routes: [
        { topic: `${prefix}/gone`, table: gone },
        { topic: `${prefix}/stays`, table: stays },
      ],
      deadLetters: { dir: join(home, 'letters') },
      ...(withSpool && { spool: { dir: join(home, 'spool') } }),
    }
    const pipeline = await servers.started(t, config)
    const warnings = collect(pipeline, 'warning')
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t)
    await servers.command(`RENAME TABLE ${gone} TO ${gone}_away`)
    for (let seq = 0; seq < 50; seq++) {
      await publisher.publish(`${prefix}/gone`, { seq })
      await publisher.publish(`${prefix}/stays`, { seq })
    }
    await settled(pipeline, 100)
    assert.equal(await servers.count(stays), 50)
    assert.equal(pipeline.metrics().messages.deadLettered, 50)
    assertLedger(pipeline.metrics())
    await waitFor(() => letters.length === 50, { message: () => `${letters.length} dead letters` })
    for (const { code, message, route } of letters) {
      assert.deepEqual([code, route], ['RETRY_EXPIRED', 0])
      assert.match(message, /its INSERT failed for longer than clickhouse\.retry\.maxAgeMs: /)
    }
    assert.ok(warnings.some(({ code, table }) => code === 'RETRY_EXPIRED' && table === gone))
    await pipeline.stop()

    await servers.command(`RENAME TABLE ${gone}_away TO ${gone}`)
    const { spool, ...without } = /** @type {any} */ (config)
    for (let time = 0; time < 2; time++) {
      const report = await replayDeadLetters(servers.config(without), { dir: join(home, 'letters') })
      assert.equal(report.inserted, 50)
      assert.deepEqual(await servers.counted(gone), { rows: 50, different: 50 })
    }
  })
}
