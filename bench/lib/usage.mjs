// CPU and memory of a process as the kernel counts them: all its threads, user and system time. On Linux from /proc,
// elsewhere from `ps`.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, totalmem, type } from 'node:os'
import { performance } from 'node:perf_hooks'

/** /proc counts in USER_HZ, which is 100 on every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100

/**
 * @typedef {object} Usage
 * @property {number} cpuSeconds since the process was started
 * @property {number} residentBytes
 * @property {number | undefined} peakResidentBytes where the system keeps it
 * @property {number | undefined} anonymousBytes resident and not from a file, where the system reports
 * it
 */

/**
 * @param {number} pid
 * @returns {Usage}
 */
export function usage(pid) {
  return process.platform === 'linux' ? fromProc(pid) : fromPs(pid)
}

/** @param {number} pid */
function fromProc(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name in parentheses may hold spaces; after it come the fields from the third on. 14 and 15 are the times.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const bytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    residentBytes: bytes('VmRSS'),
    peakResidentBytes: bytes('VmHWM'),
    anonymousBytes: bytes('RssAnon'),
  }
}

/** @param {number} pid */
function fromPs(pid) {
  const line = execFileSync('ps', ['-o', 'time=,rss=', '-p', String(pid)], { encoding: 'utf8' })
  const [time, resident] = line.trim().split(/\s+/)
  // [[days-]hours:]minutes:seconds
  const cpuSeconds = time.split(/[-:]/).reduce((sum, part, at, parts) => {
    const isDays = parts.length === 4 && at === 0
    return (sum + Number(part)) * (isDays ? 24 : at < parts.length - 1 ? 60 : 1)
  }, 0)
  return { cpuSeconds, residentBytes: Number(resident) * 1024, peakResidentBytes: undefined, anonymousBytes: undefined }
}

/**
 * Measures one process from its construction on. A process without a pid, which this program did not
 * start, measures nothing.
 */
export class Meter {
  /** The highest seen by `sample`, or by the system where it keeps account. */
  peakResidentBytes = 0
  residentBytes = 0
  /** @type {number | undefined} */
  anonymousBytes

  #pid
  #from

  /** @param {number | undefined} pid */
  constructor(pid) {
    this.#pid = pid
    this.#from = this.sample()
  }

  /** CPU since the construction, in percent of one core; undefined without a pid. */
  cpuPercent() {
    const now = this.sample()
    if (!now || !this.#from) return undefined
    return (100 * (now.cpuSeconds - this.#from.cpuSeconds)) / (now.at - this.#from.at)
  }

  sample() {
    if (this.#pid === undefined) return undefined
    const at = performance.now() / 1000
    let now
    try {
      now = usage(this.#pid)
    } catch {
      // The process has ended.
      return undefined
    }
    this.residentBytes = now.residentBytes
    this.anonymousBytes = now.anonymousBytes
    this.peakResidentBytes = Math.max(this.peakResidentBytes, now.peakResidentBytes ?? now.residentBytes)
    return { at, cpuSeconds: now.cpuSeconds }
  }
}

/** CPU that all processes of the machine have used, in seconds of one core. */
export function machineCpuSeconds() {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000
}

/** The machine in a few words. */
export function machine() {
  const processors = cpus()
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${processors.length} × ${processors[0]?.model.trim() ?? 'CPU'}, ${memory} GiB, ${type()}`
}
