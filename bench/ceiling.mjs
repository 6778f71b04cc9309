// npm run bench:ceiling: the share of ClickHouse's own limit that millrace reaches. First the firehose sends through
// millrace into ClickHouse, as fast as it is accepted. Then a program that does nothing else posts prepared blocks of the
// same kind of rows again and again, so that ClickHouse has the machine to itself: no program can
// insert more rows here.

import { Agent, request } from 'node:http'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildAddon, buildClickHouseServer, buildLoad } from './lib/build.mjs'
import { createTables } from './lib/fleet.mjs'
import { count, markdown, percent } from './lib/format.mjs'
import { measure } from './lib/measure.mjs'
import { numberOptions } from './lib/options.mjs'
import { runMain, Scope } from './lib/scope.mjs'
import { ownClickHouse } from './lib/servers.mjs'
import { SERVICES } from './lib/services.mjs'
import { machine, Meter } from './lib/usage.mjs'

const HELP = `npm run bench:ceiling -- [options]

  --seconds <n>    measured, each                               [10]
  --warm-up <n>    seconds before that                          [2]
  --drivers <n>    in the rows                                  [5000]
  --in-flight <n>  INSERTs under way at once; millrace has 2    [2]
  --build <0|1>    0 takes the addon as it is                   [1]`

/** Rows of an INSERT: a small batch, a large one, and what 8 MiB hold, to which those of millrace grow. */
const SIZES = [5000, 50_000, 140_000]
/** This number of blocks take turns: merges should not find the same rows in each part. */
const BLOCKS = 4

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    seconds: { default: 10, min: 1, max: 3600 },
    'warm-up': { default: 2, min: 1, max: 3600 },
    drivers: { default: 5000, min: 4, max: 10_000_000 },
    'in-flight': { default: 2, min: 1, max: 100 },
    build: { default: 1, min: 0, max: 1 },
  })
  const { seconds, 'warm-up': warmUp, drivers } = options
  if (options.build) await buildAddon(scope)
  await buildClickHouseServer(scope)
  const load = await buildLoad(scope)

  console.log('millrace …')
  const through = await measure(scope, {
    service: SERVICES.millrace,
    firehose: true,
    rate: 0,
    seconds,
    warmUp,
    eventLoop: 0,
    drivers,
    connections: 1,
    qos: 0,
    batchRows: SIZES[0],
    programs: { load },
  })
  const alone = []
  for (const rows of SIZES) {
    console.log(`ClickHouse alone, INSERTs of ${count(rows)} rows …`)
    alone.push({ rows, ...(await post(scope, rows, options)) })
  }

  console.log(machine())
  console.log(`\n${markdown(
    ['', 'rows/s', 'CPU of ClickHouse', 'ns a row', 'CPU of who sends'],
    [
      line('millrace, from the firehose', { ...through, clickhouse: through.processes.clickhouse.cpuPercent, sender: through.cpuPercent }),
      ...alone.map((one) => line(`ClickHouse alone, ${count(one.rows)} rows an INSERT`, one)),
    ],
  )}\n`)
  const most = Math.max(...alone.map(({ rowsPerSecond }) => rowsPerSecond))
  console.log(`millrace reaches ${percent((100 * through.rowsPerSecond) / most)} of what ClickHouse takes by itself`)
  if (through.lost !== 0 || through.doubled !== 0) {
    throw new Error(`${through.lost ?? 'nobody knows how many'} messages were lost, ${through.doubled} doubled`)
  }
})

/**
 * @param {string} name
 * @param {{ rowsPerSecond: number, clickhouse?: number, sender?: number }} one
 */
function line(name, { rowsPerSecond, clickhouse = 0, sender }) {
  return [name, count(rowsPerSecond), percent(clickhouse), count((clickhouse * 1e7) / rowsPerSecond), percent(sender)]
}

/**
 * Posts blocks into fresh tables of a fresh ClickHouse.
 *
 * @param {Scope} outer
 * @param {number} rows of each
 * @param {{ seconds: number, 'warm-up': number, drivers: number, 'in-flight': number }} options
 */
async function post(outer, rows, options) {
  const scope = outer.own(new Scope(), 'close')
  const { clickhouse } = await ownClickHouse(scope, { async_insert: 0 })
  const database = await createTables(scope, clickhouse)
  const blocks = []
  for (let at = 0; at < BLOCKS; at++) blocks.push(await block(clickhouse.url, rows, at, options.drivers))
  const agent = new Agent({ keepAlive: true, maxSockets: options['in-flight'] })
  const sql = 'INSERT INTO positions (driver_id, lat, lng, speed, heading, ts, seq) FORMAT Native'
  // Like INSERTs of millrace: one block, with a token.
  const settings = { database, decompress: '1', max_insert_block_size: '1048449', query: sql }
  let sent = 0
  let done = 0
  let isDone = false
  const sender = async () => {
    while (!isDone) {
      const token = `token-${sent}`
      const params = new URLSearchParams({ ...settings, insert_deduplication_token: token })
      await send(`${clickhouse.url}/?${params}`, agent, blocks[sent++ % BLOCKS])
      done += rows
    }
  }
  const senders = Promise.all(Array.from({ length: options['in-flight'] }, sender))
  // Awaited at the end; until then a failure must not end the program.
  senders.catch(() => {})
  await Promise.race([sleep(options['warm-up'] * 1000), senders])
  const began = { at: performance.now(), done }
  const meters = [clickhouse.pid, process.pid].map((pid) => new Meter(pid))
  await Promise.race([sleep(options.seconds * 1000), senders])
  const rowsPerSecond = (1000 * (done - began.done)) / (performance.now() - began.at)
  const [ofClickHouse, ofSender] = meters.map((meter) => meter.cpuPercent())
  isDone = true
  await senders
  agent.destroy()
  await scope.close()
  return { rowsPerSecond, clickhouse: ofClickHouse, sender: ofSender }
}

/**
 * The rows that the firehose would make, as ClickHouse itself writes and compresses a block: one driver after the other,
 * round after round, each where it was in the round before.
 *
 * @param {string} url
 * @param {number} rows
 * @param {number} at another one has other rows
 * @param {number} drivers
 * @returns {Promise<Buffer>}
 */
function block(url, rows, at, drivers) {
  const some = (what) => `cityHash64(driver, '${what}')`
  const sql = `SELECT
    concat('driver-', toString(number % ${drivers} AS driver)) AS driver_id,
    round(25.5 + ${some('lat')} % 1000000 / 1e6, 6) AS lat,
    round(-80.5 + ${some('lng')} % 1000000 / 1e6, 6) AS lng,
    toFloat32(${some('speed')} % 333 / 10) AS speed,
    toUInt16(${some('heading')} % 360) AS heading,
    toDateTime64(1730000000 + ${at}, 3, 'UTC') AS ts,
    toUInt64(${at * rows} + number) AS seq
  FROM numbers(${rows}) FORMAT Native`
  const params = new URLSearchParams({ compress: '1', max_block_size: '1048449' })
  return send(`${url}/?${params}`, undefined, Buffer.from(sql))
}

/**
 * @param {string} url
 * @param {Agent | undefined} agent
 * @param {Buffer} body
 * @returns {Promise<Buffer>} the answer
 */
function send(url, agent, body) {
  return new Promise((resolve, reject) => {
    const posted = request(url, { agent, method: 'POST' }, (response) => {
      const chunks = []
      response.on('error', reject)
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('end', () => {
        const answer = Buffer.concat(chunks)
        if (response.statusCode === 200) resolve(answer)
        else reject(new Error(`ClickHouse answered ${response.statusCode}: ${answer.toString().slice(0, 300)}`))
      })
    })
    posted.on('error', reject)
    posted.end(body)
  })
}
