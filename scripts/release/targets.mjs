// The targets of package.json, and the platform package of each.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** The oldest glibc that the addons for Linux need: RHEL 7, Debian 8, Ubuntu 14.04, Amazon Linux 2 and all after them. */
export const GLIBC_FLOOR = '2.17'

const CPUS = { x86_64: 'x64', aarch64: 'arm64' }

/** @returns {any} package.json of the repository */
export function manifest() {
  return JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
}

/**
 * @typedef {object} Target
 * @property {string} triple as Rust calls it: `x86_64-unknown-linux-gnu`
 * @property {string} name as napi calls it: `linux-x64-gnu`
 * @property {string} package `@millrace/binding-linux-x64-gnu`
 * @property {string} addon `millrace.linux-x64-gnu.node`
 * @property {string} folder the platform package
 * @property {string} os
 * @property {string} cpu
 * @property {'glibc' | 'musl' | undefined} libc
 */

/** @returns {Target[]} */
export function targets() {
  const { napi } = manifest()
  return napi.targets.map((/** @type {string} */ triple) => {
    const [arch, , system, abi] = triple.split('-')
    const os = system === 'linux' ? 'linux' : arch && triple.includes('apple') ? 'darwin' : 'win32'
    const cpu = CPUS[/** @type {keyof typeof CPUS} */ (arch)]
    const name = [os, cpu, abi].filter(Boolean).join('-')
    return {
      triple,
      name,
      package: `${napi.packageName}-${name}`,
      addon: `${napi.binaryName}.${name}.node`,
      folder: join(ROOT, 'npm', name),
      os,
      cpu,
      libc: os !== 'linux' ? undefined : abi === 'gnu' ? 'glibc' : 'musl',
    }
  })
}

/** @returns {Target} of the machine this runs on */
export function hostTarget() {
  const report = /** @type {any} */ (process.report.getReport())
  const libc = process.platform !== 'linux' ? undefined : report.header.glibcVersionRuntime ? 'glibc' : 'musl'
  const target = targets().find(({ os, cpu, libc: other }) => os === process.platform && cpu === process.arch && other === libc)
  if (!target) throw new Error(`there is no target for ${process.platform} ${process.arch}`)
  return target
}

/** @param {string} name a triple, or what napi calls it @returns {Target} */
export function targetNamed(name) {
  const all = targets()
  const target = all.find(({ triple, name: other }) => name === triple || name === other)
  if (!target) throw new Error(`unknown target ${name}: there are ${all.map(({ triple }) => triple).join(', ')}`)
  return target
}
