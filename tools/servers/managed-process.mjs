import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { waitFor } from './wait-for.mjs'

const SUPERVISOR = fileURLToPath(new URL('supervisor.mjs', import.meta.url))

/**
 * One server process that ends with this process, however this one ends; see `supervisor.mjs`. It does not keep this process
 * alive: a program that forgets to stop its servers still ends, and they end with it.
 */
export class ManagedProcess {
  /** A directory of its own, removed when this process ends. */
  directory
  /** @type {number | undefined} the server's own, while it runs */
  pid
  /** Why it is not running. */
  ending = 'not started'

  #name
  #supervisor
  #log
  #awaitsStart = false
  #isCut = false

  /**
   * @param {string} name what error messages call it
   * @param {(directory: string) => { command: string, args: string[] }} prepare writes what the server needs into
   *   its directory, and says how to start it
   */
  constructor(name, prepare) {
    this.#name = name
    this.directory = mkdtempSync(join(tmpdir(), `millrace-${name}-`))
    this.#log = join(this.directory, 'server.log')
    const { command, args } = prepare(this.directory)
    // Detached: Ctrl-C in a terminal goes to all processes of the foreground group, and a server must
    // outlive the pipeline that still drains into it.
    this.#supervisor = spawn(process.execPath, [SUPERVISOR, this.#log, this.directory, command, ...args], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#supervisor.once('error', (error) => this.#cut(error.message))
    this.#supervisor.once('exit', () => this.#cut('its supervisor is gone'))
    this.#supervisor.stdin.on('error', () => {})
    createInterface({ input: this.#supervisor.stdout }).on('line', (line) => this.#hear(line))
    // The waits below use timers, which keep this process alive.
    for (const handle of [this.#supervisor, this.#supervisor.stdin, this.#supervisor.stdout]) {
      if ('unref' in handle && typeof handle.unref === 'function') handle.unref()
    }
  }

  get running() {
    return this.pid !== undefined
  }

  /** The output of the server since it was last started, both streams. */
  get log() {
    try {
      return readFileSync(this.#log, 'utf8')
    } catch {
      return ''
    }
  }

  /**
   * Starts the process and waits until it is ready.
   *
   * @param {() => boolean | Promise<boolean>} isReady
   * @param {number} [timeoutMs]
   */
  async start(isReady, timeoutMs = 30_000) {
    if (this.#isCut) throw new Error(`${this.#name} cannot be started: ${this.ending}`)
    this.#awaitsStart = true
    this.#supervisor.stdin.write('start\n')
    await waitFor(() => !this.#awaitsStart, { timeoutMs, message: `${this.#name} being started` })
    try {
      await waitFor(async () => !this.running || (await isReady()), {
        timeoutMs,
        message: () => `${this.#name} being ready (it says: ${this.log.slice(-2_000)})`,
      })
    } catch (error) {
      await this.end('SIGKILL')
      throw error
    }
    if (!this.running) throw new Error(`${this.#name} ended with ${this.ending}: ${this.log.slice(-2_000)}`)
  }

  /** @param {NodeJS.Signals} name */
  signal(name) {
    if (!this.running) throw new Error(`${this.#name} does not run: ${this.ending}`)
    this.#supervisor.stdin.write(`${name}\n`)
  }

  /**
   * Sends the signal and waits until the process is gone; one that does not go within five seconds is killed.
   *
   * @param {'SIGTERM' | 'SIGKILL'} name
   */
  async end(name) {
    if (!this.running) return
    this.signal(name)
    try {
      await waitFor(() => !this.running, { timeoutMs: 5_000, message: `${this.#name} being ended` })
    } catch (error) {
      if (name === 'SIGKILL') throw error
      await this.end('SIGKILL')
    }
  }

  /** The end of this server: the process, its supervisor and its directory. */
  async remove() {
    this.#supervisor.stdin.end()
    // On a busy machine a killed ClickHouse takes seconds to give back its memory and its files.
    await waitFor(() => this.#isCut, { timeoutMs: 30_000, message: `${this.#name} being removed` })
  }

  /** @param {string} line */
  #hear(line) {
    if (line.startsWith('started ')) {
      this.pid = Number(line.slice('started '.length))
      this.#awaitsStart = false
    } else {
      this.#ended(line.slice('ended '.length))
    }
  }

  /** @param {string} why */
  #cut(why) {
    this.#isCut = true
    this.#ended(why)
  }

  /** @param {string} how */
  #ended(how) {
    this.pid = undefined
    this.ending = how
    this.#awaitsStart = false
  }
}
