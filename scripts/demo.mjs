// npm run demo: a fleet of drivers, a broker, ClickHouse, and between them a service with millrace, measured.
//
// From a fresh clone it installs and builds what it needs first. The service is examples/fleet/service.mts, with the business
// logic of logic.mts, in a process of its own, so that its CPU and memory are not mixed with those of
// this program. Its dashboard is opened in a browser where there is a screen.

import { spawn } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { buildAddon, buildClickHouseServer, buildFleetService, buildLoad } from '../bench/lib/build.mjs'
import { countRows, createTables, drain, startLoad, startService } from '../bench/lib/fleet.mjs'
import { count, mebibytes, milliseconds, percent } from '../bench/lib/format.mjs'
import { numberOptions } from '../bench/lib/options.mjs'
import { runMain } from '../bench/lib/scope.mjs'
import { Meter } from '../bench/lib/usage.mjs'
import { setup } from './setup.mjs'

const HELP = `npm run demo -- [options]

  --drivers <n>   how many drivers send their positions   [5000]
  --rate <n>      messages per second of all drivers      [10000]
  --seconds <n>   how long they drive                     [20]
  --qos <0|1>     0 is fire and forget; at 1 a message is
                  acknowledged when its row is stored     [1]
  --processes <n> processes of \`millrace run\` that share the
                  messages, instead of the service        [1]
  --shards <n>    ClickHouse servers that the rows are
                  divided among                           [1]`

await runMain(async (scope) => {
  const options = numberOptions(HELP, {
    drivers: { default: 5000, min: 4, max: 10_000_000 },
    rate: { default: 10_000, min: 1, max: 1_000_000 },
    seconds: { default: 20, min: 1, max: 86_400 },
    qos: { default: 1, min: 0, max: 1 },
    processes: { default: 1, min: 1, max: 16 },
    shards: { default: 1, min: 1, max: 8 },
  })

  setup()
  await buildAddon(scope)
  await buildClickHouseServer(scope)
  const loadProgram = await buildLoad(scope)
  if (options.processes > 1 || options.shards > 1) {
    const { demoOfProcesses } = await import('./demo-processes.mjs')
    return demoOfProcesses(scope, loadProgram, options, openBrowser)
  }
  const program = await buildFleetService(scope)

  // Loaded only now: it needs packages that the set-up installs.
  const { ownBroker, ownClickHouse } = await import('../bench/lib/servers.mjs')
  const { clickhouse, version } = await ownClickHouse(scope)
  const { broker, name: brokerName, mqttVersion } = await ownBroker(scope)
  const database = await createTables(scope, clickhouse, ['tables.sql', 'business.sql'])
  await clickhouse.command(
    `INSERT INTO ${database}.drivers
      SELECT concat('driver-', toString(number)), ['north', 'south', 'express'][number % 3 + 1], if(number % 3 = 2, 115, 100)
      FROM numbers(${options.drivers})`,
  )
  console.log(`ClickHouse ${version} at ${clickhouse.url}, ${brokerName} at ${broker.url}`)

  const env = {
    MQTT_URL: broker.url,
    MQTT_VERSION: mqttVersion,
    MQTT_QOS: String(options.qos),
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_DATABASE: database,
  }
  const { service, idle } = await startService(scope, env, process.execPath, program)
  const { dashboard, page } = service.latest.started
  service.on('warning', ({ code, message }) => console.log(`warning: ${code}: ${message}`))
  const load = await startLoad(scope, loadProgram, { url: broker.url, ...options })
  console.log(
    `${count(options.drivers)} drivers send ${count(options.rate)} messages per second at QoS ${options.qos} ` +
      `for ${options.seconds} seconds: look at ${dashboard}, and at the drivers on ${page}\n`,
  )
  openBrowser(dashboard)

  const meter = new Meter(service.pid)
  const bare = new Meter(idle.pid)
  showProgress(service, meter, bare)
  load.writeLine()
  const { sent } = await load.next('done', [service])
  const cpu = meter.cpuPercent()
  const metrics = await drain(service, sent)

  const { rows, lost, doubled } = await countRows(clickhouse, database, sent)
  const { p50, p99 } = metrics.latencyMs.insert
  const idleMemory = bare.peakResidentBytes
  const results = [
    ['sent', count(sent)],
    ['received', count(metrics.messages.received)],
    ['inserted', count(rows), 'rows counted in ClickHouse'],
    ['lost', count(lost), 'numbers that ClickHouse does not have'],
    ...(doubled > 0 ? [['doubled', count(doubled)]] : []),
    ['CPU of the service', percent(cpu), 'of one core, user and system'],
    [
      'memory of the service',
      mebibytes(meter.peakResidentBytes - idleMemory),
      `above the ${mebibytes(idleMemory)} of an idle Node.js, at the peak`,
    ],
    ['flush p50 / p99', `${milliseconds(p50)} / ${milliseconds(p99)} ms`, `${count(metrics.inserts.succeeded)} inserts`],
  ]
  console.log()
  for (const [name, value, note = ''] of results) {
    console.log(`  ${name.padEnd(22)}${value.padStart(14)}  ${note}`.trimEnd())
  }

  const alerts = await lastAlerts(clickhouse, database)
  console.log(`\n  ${count(metrics.transforms['drivers/+/position'].emitted)} alerts, the last ones of ClickHouse`)
  for (const { driver_id, kind, speed_kmh, limit_kmh, zone, team, ts } of alerts) {
    const speed = `${speed_kmh.toFixed(0).padStart(4)} km/h of ${limit_kmh.toFixed(0).padStart(3)}`
    console.log(`  ${driver_id.padEnd(12)}${kind.padEnd(12)}${speed}  ${(zone || 'on the road').padEnd(16)}${team.padEnd(8)}  ${ts}`)
  }

  console.log('\n  Last known positions, from ClickHouse')
  for (const { driver_id, lat, lng, speed, heading, ts } of await lastPositions(clickhouse, database)) {
    const place = `${lat.toFixed(6)} ${lng.toFixed(6)}`
    const motion = `${speed.toFixed(1).padStart(5)} m/s ${String(heading).padStart(4)}°`
    console.log(`  ${driver_id.padEnd(12)}${place}${motion}  ${ts}`)
  }
  return lost + doubled > 0 ? 1 : 0
})

/** Opens the default browser; if there is none, the address has been printed. */
function openBrowser(url) {
  const { platform, env } = process
  const hasScreen = platform === 'darwin' || platform === 'win32' || env.DISPLAY || env.WAYLAND_DISPLAY
  if (!process.stdout.isTTY || !hasScreen) return
  const openers = { darwin: ['open'], win32: ['cmd', '/c', 'start', '""'] }
  const [command, ...args] = openers[platform] ?? ['xdg-open']
  const opener = spawn(command, [...args, url], { stdio: 'ignore', detached: true })
  opener.once('error', () => {})
  opener.unref()
}

/** One line that is written anew each second; where the output is not a terminal, one line a second. */
function showProgress(service, meter, bare) {
  const { isTTY } = process.stdout
  const started = performance.now()
  service.on('metrics', ({ rates, rows, latencyMs }) => {
    meter.sample()
    bare.sample()
    const fields = [
      `${Math.round((performance.now() - started) / 1000)} s`.padStart(6),
      `${count(rates.messagesPerSecond)} msg/s`.padStart(15),
      `${count(rates.rowsPerSecond)} rows/s`.padStart(15),
      `${count(rows.inserted)} rows`.padStart(15),
      `flush p50 ${milliseconds(latencyMs.insert.p50)} ms`.padStart(17),
      `memory +${mebibytes(meter.residentBytes - bare.residentBytes)}`,
    ]
    process.stdout.write(`${isTTY ? '\r\x1b[2K' : ''}${fields.join('  ')}${isTTY ? '' : '\n'}`)
  })
}

/** @returns {Promise<any[]>} */
function lastAlerts(clickhouse, database) {
  return clickhouse.query(`
    SELECT driver_id, kind, speed_kmh, limit_kmh, zone, team, toString(ts) AS ts
    FROM ${database}.alerts ORDER BY ts DESC LIMIT 5`)
}

/** The last positions of three drivers, the same three in every run. */
function lastPositions(clickhouse, database) {
  return clickhouse.query(`
    SELECT driver_id, lat, lng, speed, heading, toString(ts) AS ts
    FROM ${database}.current_positions
    WHERE driver_id IN ('driver-1', 'driver-2', 'driver-3')
    ORDER BY driver_id`)
}
