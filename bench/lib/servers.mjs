// The broker and the ClickHouse of a run.

import { findMosquitto, startAedes, startBroker, startClickHouse } from '../../tools/servers/index.mjs'

/**
 * Its default, and who subscribes to what: the start of a service that does not report it is recognised
 * by that.
 */
const LOGGED = ['error', 'warning', 'notice', 'information', 'subscribe']

/**
 * By default mosquitto drops what it holds for a client beyond 1,000 messages, at QoS 0 as well, and keeps 20
 * unacknowledged ones in flight. A run that counts what is lost must not count those of the broker, and with 20 in
 * flight the acknowledgements would set the pace. So nothing is dropped, and `window` messages may be in flight, 0 being
 * as many as there are.
 *
 * Starts mosquitto, or where it is not installed aedes, which comes from npm and speaks MQTT 3.1.1 only.
 *
 * @param {import('./scope.mjs').Scope} scope
 * @param {{ window?: number, lines?: string[] }} [options] `lines`: of mosquitto.conf, behind those of the listener
 */
export async function ownBroker(scope, { window = 0, lines = [] } = {}) {
  const hasMosquitto = Boolean(process.env.MQTT_URL || findMosquitto())
  const limits = ['max_queued_messages 0', `max_inflight_messages ${window}`]
  const config = [...limits, ...LOGGED.map((type) => `log_type ${type}`), ...lines]
  const broker = hasMosquitto ? await startBroker({ config }) : await startAedes()
  scope.own(broker, 'remove')
  const name = process.env.MQTT_URL ? 'the broker' : hasMosquitto ? 'mosquitto' : 'aedes'
  return { broker, name, mqttVersion: hasMosquitto ? '5' : '4' }
}

/**
 * @param {import('./scope.mjs').Scope} scope
 * @param {Record<string, string | number>} [settings] of every query
 */
export async function ownClickHouse(scope, settings = {}) {
  const clickhouse = scope.own(await startClickHouse({ settings }), 'remove')
  const [{ version }] = await clickhouse.query('SELECT version() AS version')
  return { clickhouse, version }
}
