import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const WORKSPACE = fileURLToPath(new URL('../rumqttd', import.meta.url))

/** @returns {string} the path of `tools/rumqttd`, built now if it is not there, which takes minutes */
export function rumqttdProgram() {
  const target = join(WORKSPACE, 'target')
  const program = join(target, 'debug', 'rumqttd-server')
  if (!existsSync(program)) {
    const cargo = spawnSync('cargo', ['build', '--target-dir', target], {
      cwd: WORKSPACE,
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    if (cargo.error) throw new Error('cargo cannot be started: is Rust installed?', { cause: cargo.error })
    if (cargo.status !== 0) throw new Error('cargo could not build rumqttd-server')
  }
  return program
}
