// Real servers for the tests, the benchmarks and the demo, under Node.js and Bun:
//
//   const clickHouse = await startClickHouse()
//   const broker = await startBroker()
//
// Each is a process of its own on a free port of 127.0.0.1, with a temporary directory, and ends with the process
// that started it, whatever that one dies of. `stop()`, `kill()` and `start()` play the failures.

export { OPEN_BROKER, connectBroker, externalBroker, startAedes, startBroker } from './broker.mjs'
export { findBun } from './bun.mjs'
export { connectClickHouse, externalClickHouse, startClickHouse } from './clickhouse.mjs'
export { restart, startCluster } from './cluster.mjs'
export { freePort } from './free-port.mjs'
export { findMosquitto } from './mosquitto.mjs'
export { startAmqtt, startNats, startRabbitmq, startRumqttd } from './more-brokers.mjs'
export {
  findAmqtt,
  findAmtool,
  findChromium,
  findKubernetesValidate,
  findNats,
  findPromtool,
  findRabbitmq,
  findRumqttd,
  findYamllint,
} from './programs.mjs'
export { startRedis } from './redis.mjs'
export { waitFor } from './wait-for.mjs'
