// The use of each thread of a process, as the kernel counts it: CPU in nanoseconds and wake-ups. Linux.

import { readdirSync, readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'

/**
 * @typedef {object} Use
 * @property {number} cpuNs on the CPU, user and system
 * @property {number} wakes how often it slept and was woken: its voluntary context switches
 */

/**
 * Threads of one process by name, from the construction on. A thread that ends takes its figures with it.
 */
export class ThreadMeter {
  #pid
  #before
  #at = performance.now()

  /** @param {number} pid */
  constructor(pid) {
    this.#pid = pid
    this.#before = read(pid)
  }

  /**
   * Since the construction: seconds, and the use of all threads of a name together.
   *
   * @returns {{ seconds: number, threads: Record<string, Use> }}
   */
  since() {
    const threads = {}
    for (const [id, { name, cpuNs, wakes }] of read(this.#pid)) {
      const before = this.#before.get(id) ?? { cpuNs: 0, wakes: 0 }
      const sum = (threads[name] ??= { cpuNs: 0, wakes: 0 })
      sum.cpuNs += cpuNs - before.cpuNs
      sum.wakes += wakes - before.wakes
    }
    return { seconds: (performance.now() - this.#at) / 1000, threads }
  }
}

/**
 * @param {number} pid
 * @returns {Map<string, Use & { name: string }>} by the id of the thread
 */
function read(pid) {
  const directory = `/proc/${pid}/task`
  const threads = new Map()
  for (const id of readdirSync(directory)) {
    try {
      const status = readFileSync(`${directory}/${id}/status`, 'utf8')
      const [cpuNs] = readFileSync(`${directory}/${id}/schedstat`, 'utf8').split(' ')
      const name = /^Name:\s+(.+)$/m.exec(status)?.[1] ?? id
      const wakes = Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1] ?? 0)
      threads.set(id, { name: name.startsWith('mill-') ? name : 'runtime', cpuNs: Number(cpuNs), wakes })
    } catch {
      // It ended between the two.
    }
  }
  return threads
}
