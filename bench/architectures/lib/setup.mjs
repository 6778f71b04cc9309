// Makes all that the services need: their npm packages, the programs in Rust and the addon. One command sets everything up.

import { copyFileSync, existsSync, renameSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { step } from '../../lib/build.mjs'

export const HERE = fileURLToPath(new URL('..', import.meta.url))
const RELEASE = join(HERE, 'target', 'release')
/** The folder of BullMQ's scripts, for the worker in Rust. */
export const BULLMQ_COMMANDS = join(HERE, 'node_modules', 'bullmq', 'dist', 'cjs', 'commands')

/** @param {import('../../lib/scope.mjs').Scope} scope */
export async function setUp(scope) {
  await installPackages(scope)
  const manifest = ['--manifest-path', join(HERE, 'Cargo.toml'), '--target-dir', join(HERE, 'target')]
  await step(scope, 'Building the programs in Rust', 'cargo', ['build', '--release', '--locked', ...manifest])
  placeAddon()
}

/**
 * @param {string} name of a program in Rust
 * @returns {string} its path
 */
export function program(name) {
  return join(RELEASE, process.platform === 'win32' ? `${name}.exe` : name)
}

/** @param {import('../../lib/scope.mjs').Scope} scope */
async function installPackages(scope) {
  const lock = join(HERE, 'package-lock.json')
  // npm writes this file at the end of an installation.
  const installed = join(HERE, 'node_modules', '.package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return
  const flags = ['--prefix', HERE, '--ignore-scripts', '--no-audit', '--no-fund']
  await step(scope, 'Installing Express, Piscina and BullMQ', 'npm', ['ci', ...flags])
  const now = new Date()
  utimesSync(installed, now, now)
}

/** Beside its gateway, under the name by which Node.js and Bun know an addon. */
function placeAddon() {
  const names = { win32: 'count_addon.dll', darwin: 'libcount_addon.dylib' }
  const addon = join(HERE, '05-addon', 'addon.node')
  // A process may have the old one loaded: the file is replaced and not written over.
  copyFileSync(join(RELEASE, names[process.platform] ?? 'libcount_addon.so'), `${addon}.new`)
  renameSync(`${addon}.new`, addon)
}
