import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ManagedProcess } from './managed-process.mjs'
import { findMosquitto } from './mosquitto.mjs'
import { Server, startServer } from './server.mjs'

const AEDES = fileURLToPath(new URL('aedes.mjs', import.meta.url))

/** Lines of mosquitto.conf: the broker queues all it is given, and sends as much at once as the client allows. */
export const OPEN_BROKER = ['max_inflight_messages 0', 'max_queued_messages 0']

/** Whether MQTT_URL names the broker: it cannot be stopped and started then, nor be configured. */
export const externalBroker = Boolean(process.env.MQTT_URL)

/**
 * Starts a mosquitto, and waits until it accepts connections. It ends when this process ends, at the latest.
 *
 * @param {{
 *   port?: number,
 *   config?: string[],
 *   persistence?: boolean | string,
 *   allowAnonymous?: boolean,
 *   users?: Record<string, string>,
 *   passwordFile?: string,
 * }} [options]
 *   `port`, default: a free one; `config`: further lines of `mosquitto.conf`, after those of the listener;
 *   `persistence` keeps sessions and queued messages over `stop()` and `start()`, in the directory given or in a
 *   temporary one; `users`: passwords by name
 * @returns {Promise<Broker>}
 */
export async function startBroker(options = {}) {
  if (process.env.MQTT_URL) return new Broker(new URL(process.env.MQTT_URL))

  const command = findMosquitto()
  if (!command) throw new Error('mosquitto is not installed: run npm run setup, or name a broker with MQTT_URL')
  const { port, config = [], persistence = false, allowAnonymous = true, users } = options
  return startServer(port, (chosen) => {
    const server = new ManagedProcess('mosquitto', (directory) => {
      let { passwordFile } = options
      const lines = [
        `listener ${chosen} 127.0.0.1`,
        `allow_anonymous ${allowAnonymous}`,
        'log_dest stderr',
        // By default it drops what a session holds beyond 1,000 messages, and tests that count would blame us.
        'max_queued_messages 0',
        `persistence ${Boolean(persistence)}`,
      ]
      if (persistence) {
        const store = resolve(typeof persistence === 'string' ? persistence : join(directory, 'store'))
        mkdirSync(store, { recursive: true })
        // Mosquitto joins this with its file's name as it stands.
        lines.push(`persistence_location ${store}/`)
      }
      if (users) {
        passwordFile = join(directory, 'passwords')
        writeFileSync(passwordFile, passwords(users), { mode: 0o600 })
      }
      if (passwordFile) lines.push(`password_file ${resolve(passwordFile)}`)
      // Started by root it would become the user `mosquitto`, who may not write into our directories.
      if (process.getuid?.() === 0) lines.push('user root')

      const file = join(directory, 'mosquitto.conf')
      writeFileSync(file, [...lines, ...config, ''].join('\n'))
      return { command, args: ['-c', file] }
    })
    return new Broker(new URL(`mqtt://127.0.0.1:${chosen}`), server)
  })
}

/**
 * A broker that this program did not start.
 *
 * @param {string} url
 */
export function connectBroker(url) {
  return new Broker(new URL(url))
}

/**
 * Starts an aedes, the broker for where no mosquitto is: MQTT 3.1.1 only, everything in memory.
 *
 * @param {{ port?: number }} [options]
 * @returns {Promise<Broker>}
 */
export async function startAedes({ port } = {}) {
  return startServer(port, (chosen) => {
    const server = new ManagedProcess('aedes', () => ({ command: process.execPath, args: [AEDES, String(chosen)] }))
    return new Broker(new URL(`mqtt://127.0.0.1:${chosen}`), server)
  })
}

export class Broker extends Server {
  async isReady() {
    // All brokers say so once they listen. A listener on the port is not enough: it may be another
    // program's.
    return /\brunning\b/.test(this.log) && (await this.accepts())
  }

  /** Whether a program listens on the port. */
  accepts() {
    return accepts(this.port)
  }
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/**
 * The file of `mosquitto_passwd`: `$7$` is PBKDF2 with SHA-512.
 *
 * @param {Record<string, string>} users
 */
function passwords(users) {
  const iterations = 101
  return Object.entries(users)
    .map(([name, password]) => {
      const salt = randomBytes(12)
      const hash = pbkdf2Sync(password, salt, iterations, 64, 'sha512')
      return `${name}:$7$${iterations}$${salt.toString('base64')}$${hash.toString('base64')}\n`
    })
    .join('')
}
