import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from './cargo.mjs'

const WORKSPACE = fileURLToPath(new URL('../rumqttd', import.meta.url))

/** @returns {string} the path of `tools/rumqttd`, built now if it is not there, which takes minutes */
export function rumqttdProgram() {
  const target = join(WORKSPACE, 'target')
  const program = join(target, 'debug', 'rumqttd-server')
  if (!existsSync(program)) build(WORKSPACE, ['--target-dir', target], 'rumqttd-server')
  return program
}
