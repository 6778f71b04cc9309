// The addon of one target, as it ships.
//
//   node scripts/release/build.mjs [<target>]      the target of this machine when none is named
//
// For Linux the linker and C compiler are zig's: it links against the glibc of any year, whatever this machine has, and
// builds for musl and for arm64 anywhere. Where zig or cargo-zigbuild is missing both come from PyPI, into target/zig.
// macOS and Windows are built on themselves.

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { faults } from './binary.mjs'
import { GLIBC_FLOOR, hostTarget, ROOT, targetNamed } from './targets.mjs'

const ZIG = ['ziglang==0.17.1', 'cargo-zigbuild==0.24.1']

/**
 * @param {import('./targets.mjs').Target} target
 * @returns {string} the path of the addon, also copied into its platform package
 */
export function build(target) {
  const output = join(ROOT, 'target', 'addons')
  mkdirSync(output, { recursive: true })
  const env = { ...process.env }
  const args = ['build', '--platform', '--release', '--no-const-enum', '--no-js', '--dts', 'binding.d.ts', '--output-dir', output]
  if (target.os === 'linux') {
    env.PATH = `${zigFolder()}${delimiter}${process.env.PATH}`
    const suffix = target.libc === 'glibc' ? `.${GLIBC_FLOOR}` : ''
    args.push('--cross-compile', '--target', target.triple + suffix)
  } else {
    args.push('--target', target.triple)
  }
  run(process.execPath, [join(ROOT, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js'), ...args], env)

  const addon = join(output, target.addon)
  const wrong = faults(readFileSync(addon), target, GLIBC_FLOOR)
  if (wrong.length > 0) throw new Error(`${addon}: ${wrong.join('; ')}`)
  copyFileSync(addon, join(target.folder, target.addon))
  return addon
}

/** @returns {string} a folder for the PATH, in which zig and cargo-zigbuild are; empty when they are there already */
function zigFolder() {
  const isThere = (/** @type {string} */ command) => spawnSync(command, ['--help'], { stdio: 'ignore' }).error === undefined
  if (isThere('cargo-zigbuild') && (isThere('zig') || spawnSync('python3', ['-m', 'ziglang', 'version']).status === 0)) return ''

  const folder = join(ROOT, 'target', 'zig')
  const bin = join(folder, process.platform === 'win32' ? 'Scripts' : 'bin')
  if (!existsSync(join(bin, 'cargo-zigbuild'))) {
    run('python3', ['-m', 'venv', folder])
    run(join(bin, 'pip'), ['install', '--quiet', ...ZIG])
  }
  return bin
}

/** @param {string} command @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function run(command, args, env = process.env) {
  const { status, error } = spawnSync(command, args, { cwd: ROOT, env, stdio: 'inherit' })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ended with ${status}`)
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    console.log(build(process.argv[2] ? targetNamed(process.argv[2]) : hostTarget()))
  } catch (error) {
    console.error(/** @type {Error} */ (error).message)
    process.exitCode = 1
  }
}
