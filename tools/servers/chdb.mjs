// Finds ClickHouse: the library of its npm package, and the program that runs it as a server.

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { workspaceProgram } from './cargo.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const require = createRequire(join(ROOT, 'tools', 'clickhouse-server', 'package.json'))

/** @returns {string} the path of `libchdb` */
export function chdbLibrary() {
  const { platform, arch } = process
  const name = `@chdb/lib-${platform}-${arch}${platform === 'linux' ? '-gnu' : ''}`
  let directory
  try {
    directory = dirname(require.resolve(`${name}/package.json`))
  } catch (cause) {
    throw new Error(`${name} is not installed: run npm ci, or name a server with CLICKHOUSE_URL`, { cause })
  }
  const found = ['libchdb.so', 'libchdb.dylib'].map((file) => join(directory, file)).find(existsSync)
  if (!found) throw new Error(`${name} holds no libchdb`)
  return found
}

/** @returns {string} the path of `tools/clickhouse-server`, built now if it is not there */
export function clickHouseProgram() {
  return workspaceProgram('clickhouse-server')
}
