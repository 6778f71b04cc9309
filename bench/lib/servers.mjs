// Broker and ClickHouse of a run.

import { findMosquitto, startAedes, startBroker, startClickHouse } from '../../tools/servers/index.mjs'

/**
 * By default mosquitto drops what it holds for a client beyond 1,000 messages, at QoS 0 as well, and keeps 20
 * unacknowledged ones in flight. A run that counts what is lost must not count those of the broker, and with 20 in
 * flight the acknowledgements would set the pace.
 */
const MOSQUITTO = [
  'max_queued_messages 0',
  'max_inflight_messages 0',
  // Its default, and who subscribes to what: a service that does not tell when it has begun is known by that.
  ...['error', 'warning', 'notice', 'information', 'subscribe'].map((type) => `log_type ${type}`),
]

/**
 * Starts mosquitto, or where it is not installed aedes, which comes from npm and speaks MQTT 3.1.1 only.
 *
 * @param {import('./scope.mjs').Scope} scope
 */
export async function ownBroker(scope) {
  const hasMosquitto = Boolean(process.env.MQTT_URL || findMosquitto())
  const broker = hasMosquitto ? await startBroker({ config: MOSQUITTO }) : await startAedes()
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
