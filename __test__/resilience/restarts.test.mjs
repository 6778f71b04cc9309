// A real ClickHouse that is killed between two attempts at an INSERT. The test removes a part while the
// server is down, as a crash can: it leaves a token whose rows are gone.

import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { externalBroker, externalClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { startProxy } from '../support/proxy.mjs'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers({ ownClickHouse: true })
const timeout = 60_000
const skip = externalBroker || externalClickHouse

const COLUMNS = `seq UInt32, kind LowCardinality(String), at DateTime64(3), list Array(Nullable(Float64)),
  pair Tuple(a Int8, b String), made String DEFAULT concat('made of ', toString(seq)), note Nullable(String) DEFAULT 'none'`

for (const withSpool of [false, true]) {
  for (const isLost of [false, true]) {
    const what = `${isLost ? 'rows that are gone' : 'rows that are there'}, ${withSpool ? 'with' : 'without'} a spool`
    test(`a token that ClickHouse confirms after it was killed: ${what}`, { timeout, skip }, async (t) => {
      const { clickhouse } = servers
      const home = mkdtempSync(join(tmpdir(), 'millrace-restart-'))
      t.after(() => rmSync(home, { recursive: true, force: true }))
      const table = await servers.table(COLUMNS)
      const topic = unique('topic')
      const proxy = await startProxy(t, clickhouse.port)
      const pipeline = servers.pipeline(t, {
        mqtt: { clientId: unique('client') },
        clickhouse: { url: `http://127.0.0.1:${proxy.port}`, retry: { minMs: 50, maxMs: 200 }, connectTimeoutMs: 500 },
        routes: [{ topic, table }],
        ...(withSpool && { spool: { dir: join(home, 'spool') } }),
      })
      const warnings = collect(pipeline, 'warning')
      await pipeline.start()
      const publisher = await servers.publisher(t)
      proxy.loseAnswers(Infinity)
      const message = (seq) => ({
        seq,
        kind: `k${seq % 3}`,
        at: `2026-01-01T00:00:${String(seq % 60).padStart(2, '0')}.125Z`,
        list: [seq / 8, null],
        pair: { a: seq % 100, b: 'x' },
        ...(seq % 2 && { made: 'by hand', note: null }),
      })
      for (let seq = 0; seq < 20; seq++) await publisher.publish(topic, message(seq))
      await waitFor(async () => proxy.lost > 2 && (await servers.count(table)) > 0, { message: () => `${proxy.lost} lost answers` })
      const [{ path }] = await servers.rows(`SELECT path FROM system.parts WHERE table = '${table}' AND active LIMIT 1`)
      await clickhouse.kill()
      if (isLost) {
        const home = join(path, '..')
        for (const part of readdirSync(home).filter((name) => name.startsWith('all_'))) rmSync(join(home, part), { recursive: true })
      }
      await clickhouse.start()
      proxy.loseAnswers(0)
      await settled(pipeline, 20, { warnings })
      const codes = warnings.map(({ code }) => code)
      assert.equal(codes.includes('ROWS_RESTORED'), isLost, JSON.stringify(codes))
      assert.ok(!codes.includes('INSERT_UNVERIFIED'), JSON.stringify(warnings.slice(-2)))
      assert.deepEqual(await servers.counted(table), { rows: 20, different: 20 })
      const rows = await servers.rows(`SELECT made, note, list FROM ${table} WHERE seq < 2 ORDER BY seq`)
      assert.deepEqual(rows, [
        { made: 'made of 0', note: 'none', list: [0, null] },
        { made: 'by hand', note: 'none', list: [0.125, null] },
      ])
      assertLedger(pipeline.metrics())
      await pipeline.stop()
    })
  }
}
