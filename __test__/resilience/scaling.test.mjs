// A fleet of processes on two ClickHouse servers, under load and with faults: nothing that the broker acknowledged is lost, and
// nothing is there twice. npm run bench:scale is the long form, with figures.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import { connectAsync } from 'mqtt'
import { arrival, countAll, Fleet, makeTables, ScaleConfig, WAYS } from '../../bench/lib/scale.mjs'
import { externalBroker, externalClickHouse, restart, startBroker, startCluster, waitFor } from '../../tools/servers/index.mjs'
import { full, onlyFull } from '../support/full.mjs'

const timeout = 180_000
const external = externalBroker || externalClickHouse
/** The number of messages that wait for the broker's acknowledgement, at most. */
const WINDOW = 300

let servers = []
let broker
before(
  async () => {
    if (external) return
    servers = await startCluster(2)
    broker = await startBroker({ config: ['max_inflight_messages 0'] })
  },
  { timeout: 60_000 },
)
after(async () => {
  for (const { pid, url, ending, log } of servers) if (pid === undefined) console.error(`${url} ended, ${ending}: ${log.slice(-3_000)}`)
  await Promise.all([broker, ...servers].map((server) => server?.remove()))
})

/** Drivers that send positions until they are stopped, each with the next number. */
class Drivers {
  acknowledged = 0
  #goes = true
  #next = 0
  #work

  constructor(url, perSecond) {
    this.#work = this.#run(url, perSecond)
  }

  async #run(url, perSecond) {
    const client = await connectAsync(url)
    const started = performance.now()
    let open = 0
    while (this.#goes || open > 0) {
      const due = ((performance.now() - started) * perSecond) / 1000
      while (this.#goes && open < WINDOW && this.#next < due) {
        const seq = this.#next++
        const payload = JSON.stringify({ lat: 52.5, lng: 13.4, ts: 1_730_000_000_000 + seq, seq })
        open++
        client.publish(`drivers/driver-${seq % 97}/position`, payload, { qos: 1 }, (error) => {
          open--
          if (!error) this.acknowledged++
        })
      }
      await sleep(5)
    }
    await client.endAsync()
  }

  /** Resolves when all are acknowledged. */
  async stop() {
    this.#goes = false
    await this.#work
    return this.acknowledged
  }
}

async function begin(t, way, processes) {
  await makeTables(servers)
  // Sessions of another test have its subscription, and what was published since.
  const name = `${way}-${Math.random().toString(36).slice(2)}`
  const config = new ScaleConfig({
    broker: broker.url,
    servers,
    way,
    mqtt: { clientId: name, sharedGroup: name },
    batch: { maxRows: 500, maxDelayMs: 100 },
    spool: { segmentBytes: 1 << 20 },
  })
  const fleet = new Fleet(config.file, ['--processes', String(processes)])
  t.after(() => {
    fleet.kill()
    config.remove()
  })
  await fleet.running(processes)
  return { config, fleet }
}

async function assertComplete(acknowledged, fleet, isOnce = true) {
  const { rows, distinct, byServer } = await arrival(servers, acknowledged)
  assert.equal(distinct, acknowledged, `lost ${acknowledged - distinct}: ${fleet.warnings.slice(-5)}`)
  if (isOnce) assert.equal(rows, distinct, `doubled ${rows - distinct}`)
  assert.ok(byServer.every((own) => own > 0), `both servers have rows: ${byServer}`)
}

for (const way of /** @type {const} */ (['shards', 'distributed', 'equal'])) {
  const skip = external || (way !== 'shards' && onlyFull)
  test(`one process is killed, another added, and a server goes away (${way}): nothing is lost${WAYS[way].isOnce ? ' or doubled' : ''}`, { timeout, skip }, async (t) => {
    const { config, fleet } = await begin(t, way, 2)
    const drivers = new Drivers(broker.url, full ? 2_000 : 500)
    const grown = async (by) => {
      const from = drivers.acknowledged
      await waitFor(() => drivers.acknowledged >= from + by, { timeoutMs: 30_000, message: () => `${by} more than ${from}` })
    }
    await grown(300)
    fleet.signal(1, 'SIGKILL')
    await fleet.running(1, 2)
    const third = new Fleet(config.file, ['--process', '3'])
    t.after(() => third.kill())
    await third.running(1)
    await grown(300)
    await servers[1].stop()
    await grown(600)
    await restart(servers[1])
    await grown(300)
    const acknowledged = await drivers.stop()
    await arrival(servers, acknowledged)
    assert.equal(await third.stop(), 0)
    await assertComplete(acknowledged, fleet, WAYS[way].isOnce)
    assert.ok(third.processes.get(3).metrics.messages.received > 0, 'the added process had a share')
    assert.equal(await fleet.stop(), 0, fleet.warnings.slice(-5).join('\n'))
    for (const { metrics, peak } of fleet.processes.values()) {
      assert.equal(metrics.messages.pending, 0)
      assert.ok(peak.memoryBytes <= metrics.memoryMaxBytes)
    }
  })
}

test('a rolling restart of four processes under load loses and doubles nothing', { timeout, skip: external || onlyFull }, async (t) => {
  const { fleet } = await begin(t, 'shards', 4)
  const drivers = new Drivers(broker.url, 1_000)
  for (const number of [1, 2, 3, 4]) {
    const from = drivers.acknowledged
    await waitFor(() => drivers.acknowledged >= from + 200, { timeoutMs: 30_000, message: () => 'a stream' })
    fleet.signal(number, 'SIGTERM')
    await waitFor(() => fleet.processes.get(number).runs === 2, { timeoutMs: 60_000, message: () => `process ${number} again` })
  }
  const acknowledged = await drivers.stop()
  await assertComplete(acknowledged, fleet)
  assert.equal(await fleet.stop(), 0, fleet.warnings.slice(-5).join('\n'))
  assert.ok(!fleet.warnings.some((warning) => warning.startsWith('PROCESS_ENDED')), 'all were drained')
  assert.equal((await countAll(servers)).rows, acknowledged)
})
