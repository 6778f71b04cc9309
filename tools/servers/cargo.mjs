// Builds and finds the Rust programs of this repository.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** @type {string | undefined} */
let host

/**
 * The arguments with which every build of this repository names the machine it runs on. The napi CLI builds with
 * `--target`, for which cargo keeps a directory of its own: with the same option everywhere, dependencies are compiled
 * once.
 *
 * @returns {string[]}
 */
export function forHost() {
  return ['--target', hostTarget()]
}

/**
 * @param {string} name of a package of the workspace whose program has the same name
 * @returns {string} the path of the program, which is built now if it is missing
 */
export function workspaceProgram(name) {
  const target = resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target')
  const program = join(target, hostTarget(), 'debug', process.platform === 'win32' ? `${name}.exe` : name)
  if (!existsSync(program)) build(ROOT, ['--package', name, ...forHost()], name)
  return program
}

/**
 * @param {string} directory of the workspace
 * @param {string[]} args
 * @param {string} name of the program, for error messages
 */
export function build(directory, args, name) {
  const cargo = spawnSync('cargo', ['build', ...args], { cwd: directory, stdio: ['ignore', 'inherit', 'inherit'] })
  if (cargo.error) throw new Error('cargo cannot be started: is Rust installed?', { cause: cargo.error })
  if (cargo.status !== 0) throw new Error(`cargo could not build ${name}`)
}

function hostTarget() {
  host ??= /^host: (.+)$/m.exec(execFileSync('rustc', ['--version', '--verbose'], { encoding: 'utf8' }))?.[1]
  if (!host) throw new Error('rustc --version --verbose names no host')
  return host
}
