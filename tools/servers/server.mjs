import { freePort, isFree } from './free-port.mjs'
import { waitFor } from './wait-for.mjs'

/** A server on a port of 127.0.0.1 whose process can be stopped and started: ClickHouse or a broker. */
export class Server {
  /** Without user name and password. */
  url
  port
  /** From its URL, if that has them. */
  username
  password

  /** How long a start may take. */
  startTimeoutMs = 30_000

  #process

  /**
   * @param {URL} url
   * @param {import('./managed-process.mjs').ManagedProcess} [process] absent for a server that this
   * program did not start
   */
  constructor(url, process) {
    this.url = `${url.protocol}//${url.host}`
    this.port = Number(url.port)
    this.username = decodeURIComponent(url.username) || undefined
    this.password = decodeURIComponent(url.password) || undefined
    this.#process = process
  }

  /** The URL with user name and password, by which another process can connect. */
  get address() {
    const url = new URL(this.url)
    if (this.username) url.username = encodeURIComponent(this.username)
    if (this.password) url.password = encodeURIComponent(this.password)
    return url.href
  }

  /** The pid of the server's process while it runs; undefined for an external server. */
  get pid() {
    return this.#process?.pid
  }

  /** The output of the server since it was last started, both streams. */
  get log() {
    return this.#process?.log ?? ''
  }

  /** Why it is not running. */
  get ending() {
    return this.#process?.ending ?? 'it was started elsewhere'
  }

  /** Starts a stopped server again, on the same port and with the same data. */
  async start() {
    const process = this.#own('start')
    if (process.running) throw new Error(`${this.url} is running already`)
    await waitFor(() => isFree(this.port), { message: `port ${this.port} being free` })
    await process.start(() => this.isReady(), this.startTimeoutMs)
  }

  /** Ends the server as its operator would; `start()` begins where it ended. */
  async stop() {
    await this.#own('stop').end('SIGTERM')
  }

  /** Ends the server with SIGKILL, as a crash would. */
  async kill() {
    await this.#own('kill').end('SIGKILL')
  }

  /**
   * SIGSTOP makes a server that accepts connections and never answers; SIGCONT ends that.
   *
   * @param {NodeJS.Signals} name
   */
  signal(name) {
    this.#own('signal').signal(name)
  }

  /** Ends the server for good and removes its temporary directory; both happen anyway when this process ends. */
  async remove() {
    await this.#process?.remove()
  }

  /** @returns {Promise<boolean>} whether it is this server, and no other on its port, that answers */
  async isReady() {
    throw new Error(`${this.constructor.name} does not say when it is ready`)
  }

  /** @param {string} what */
  #own(what) {
    if (!this.#process) throw new Error(`cannot ${what} ${this.url}: it was started elsewhere`)
    return this.#process
  }
}

/**
 * Starts a server on the port given, or on a free one. Between the search and the server's own `bind` another
 * program may take the port: then another one is tried.
 *
 * @template {Server} S
 * @param {number | undefined} port 0 is as good as none
 * @param {(port: number) => S} make
 * @returns {Promise<S>}
 */
export async function startServer(port, make) {
  for (let attempt = 1; ; attempt += 1) {
    const server = make(port || (await freePort()))
    try {
      await server.start()
      return server
    } catch (error) {
      await server.remove()
      if (port || attempt === 3 || !/address already in use/i.test(String(error))) throw error
    }
  }
}
