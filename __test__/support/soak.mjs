// Everything that can go wrong, at random, for as long as one likes: a proxy before ClickHouse that answers in its place, cuts and
// refuses; a disk that is full; servers that stop and are killed; and a consumer that is killed. In the end each number that the
// publisher saw acknowledged is in the table, once, or a dead letter.

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startBroker, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { Consumer } from './crashes.mjs'
import { FAULTS, startFaultProxy } from './fault-proxy.mjs'
import { Numbers } from './numbers.mjs'
import { Random } from './random.mjs'

/** How many messages come before the first fault: only then are redeliveries recognised. */
const BEFORE = 2_000
const DRAIN_MS = 180_000
/** Bytes of the spool's disk, where one can be made. */
const DISK_MIB = 48

/**
 * @param {{ minutes: number, seed?: number, perSecond?: number, log?: (text: string) => void }} options
 */
export async function soak({ minutes, seed = Random.seed(), perSecond = 1_000, log = () => {} }) {
  const began = performance.now()
  const home = mkdtempSync(join(tmpdir(), 'millrace-soak-'))
  const disk = smallDisk(join(home, 'disk'))
  const clickhouse = await startClickHouse()
  const broker = await startBroker({ persistence: true, config: ['max_inflight_messages 0', 'max_queued_messages 0'] })
  const proxy = await startFaultProxy(clickhouse.url, new Random(seed + 1))
  const counts = { kills: 0, 'stops of ClickHouse': 0, 'kills of ClickHouse': 0, 'stops of the broker': 0, 'full disks': 0 }
  /** The warnings of the consumers that may explain a message which is lost or doubled, each with its time. */
  const said = []
  const consume = () => {
    const next = new Consumer({ config: pipeline })
    next.heard = (line) => {
      if (/^(BATCH_SPLIT|CLICKHOUSE_REFUSED|INSERT_UNVERIFIED|ROWS_RESTORED|SPOOL_CORRUPT)/.test(line)) {
        said.push(`${((performance.now() - began) / 60_000).toFixed(2)} min: ${line.slice(0, 300)}`)
      }
    }
    return next
  }
  let pipeline
  let consumer
  let numbers
  try {
    await clickhouse.command(`CREATE TABLE numbers (number UInt64, day Date DEFAULT toDate(number % 3)) ENGINE = MergeTree
      PARTITION BY day ORDER BY number SETTINGS non_replicated_deduplication_window = 10000`)
    const letters = join(home, 'letters')
    pipeline = {
      mqtt: { url: broker.url, clientId: 'soak', qos: 1, reconnect: { minMs: 20, maxMs: 200 } },
      clickhouse: { url: proxy.url, retry: { minMs: 20, maxMs: 300 }, requestTimeoutMs: 5_000, connectTimeoutMs: 2_000 },
      routes: [{ topic: 'numbers', table: 'numbers' }],
      batch: { maxRows: 500, maxDelayMs: 100 },
      spool: { dir: join(disk.dir, 'spool'), segmentBytes: 1 << 20 },
      deadLetters: { dir: letters },
    }
    consumer = consume()
    await consumer.running()
    numbers = new Numbers({ url: broker.url, topic: 'numbers', qos: 1, perSecond })
    await waitFor(() => numbers.acknowledged.size >= BEFORE, { timeoutMs: 60_000, message: `${BEFORE} messages` })

    const until = performance.now() + minutes * 60_000
    const goes = () => performance.now() < until
    const killing = (async () => {
      const random = new Random(seed + 2)
      while (goes()) {
        await Promise.race([sleep(random.below(8_000)), consumer.ended])
        if (await consumer.kill()) counts.kills++
        consumer = consume()
      }
    })()
    const servers = (async () => {
      const random = new Random(seed + 3)
      while (goes()) {
        await sleep(3_000 + random.below(10_000))
        const what = random.pick(['stops of ClickHouse', 'kills of ClickHouse', 'stops of the broker'])
        const server = what === 'stops of the broker' ? broker : clickhouse
        await (what === 'kills of ClickHouse' ? server.kill() : server.stop())
        await sleep(random.below(2_000))
        await server.start()
        counts[what]++
      }
    })()
    const network = (async () => {
      const random = new Random(seed + 4)
      while (goes()) {
        proxy.faults = random.chance(0.3) ? [] : FAULTS.filter(() => random.chance(0.4))
        proxy.probability = random.pick([0.05, 0.3, 0.9])
        await sleep(500 + random.below(4_000))
      }
      proxy.faults = []
    })()
    const space = (async () => {
      const random = new Random(seed + 5)
      while (goes()) {
        await sleep(5_000 + random.below(15_000))
        if (!disk.fill()) continue
        counts['full disks']++
        await sleep(500 + random.below(4_000))
        disk.free()
      }
    })()
    const reporting = (async () => {
      while (goes()) {
        await sleep(Math.min(30_000, Math.max(0, until - performance.now()) + 10))
        log(`${((performance.now() - began) / 60_000).toFixed(1)} min: ${numbers.acknowledged.size} acknowledged, ${JSON.stringify(counts)}`)
      }
    })()
    await Promise.all([killing, servers, network, space, reporting])
    await numbers.stop()

    const { acknowledged, published } = numbers
    const settled = async () => {
      const [{ n }] = await clickhouse.query('SELECT uniqExact(number) AS n FROM numbers')
      return Number(n) + lettersIn(letters).length >= acknowledged.size
    }
    await waitFor(
      async () => {
        if (!consumer.alive) consumer = consume()
        return settled()
      },
      { timeoutMs: DRAIN_MS, intervalMs: 200, message: () => `the rest arriving; ${consumer.errors.slice(-5)}` },
    ).catch((error) => log(String(error)))
    await consumer.stop()

    const there = new Map()
    for (const { number } of await clickhouse.query('SELECT number FROM numbers')) {
      there.set(Number(number), (there.get(Number(number)) ?? 0) + 1)
    }
    const dead = lettersIn(letters)
    const kept = new Set(dead)
    return {
      seed,
      ...counts,
      faults: proxy.played,
      hasDisk: disk.isOwn,
      published,
      acknowledged: acknowledged.size,
      rows: [...there.values()].reduce((sum, count) => sum + count, 0),
      deadLetters: dead.length,
      missing: [...acknowledged].filter((number) => !there.has(number) && !kept.has(number)),
      doubled: [...there].filter(([number, count]) => count > 1 || kept.has(number)).map(([number]) => number),
      minutes: (performance.now() - began) / 60_000,
      said,
    }
  } finally {
    await numbers?.stop()
    await consumer?.kill()
    proxy.close()
    for (const server of [broker, clickhouse]) await server.remove().catch((error) => log(String(error)))
    disk.remove()
    rmSync(home, { recursive: true, force: true })
  }
}

/** A disk of its own, where the system lets us mount one; else a directory that is never full. */
function smallDisk(dir) {
  mkdirSync(dir)
  let isOwn = false
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'tmpfs', dir], { stdio: 'ignore' })
    isOwn = true
  } catch {
    // Only root may, and only on Linux.
  }
  const ballast = join(dir, 'ballast')
  return {
    dir,
    isOwn,
    fill() {
      if (!isOwn) return false
      try {
        for (let part = 0; ; part++) writeFileSync(`${ballast}-${part}`, Buffer.alloc(64 << 10))
      } catch {
        return true
      }
    },
    free() {
      for (const name of readdirSync(dir)) if (name.startsWith('ballast')) rmSync(join(dir, name))
    },
    remove() {
      if (isOwn) execFileSync('umount', [dir], { stdio: 'ignore' })
    },
  }
}

/** The numbers among the dead letters. */
function lettersIn(dir) {
  let files
  try {
    files = readdirSync(dir).filter((name) => name.endsWith('.jsonl'))
  } catch {
    return []
  }
  const lines = files.flatMap((name) => readFileSync(join(dir, name), 'utf8').split('\n').filter(Boolean))
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(JSON.parse(line).payload).number]
    } catch {
      return []
    }
  })
}
