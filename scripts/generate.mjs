// npm run generate: writes what is said of the options in one table, src/config/schema.rs, wherever it is said again:
// millrace.schema.json, the types of the configuration in index.d.ts, and the tables of docs/configuration.md.
//
//   npm run generate               writes the files
//   npm run generate -- --check    writes nothing, and fails if a file is not what it would write

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { forHost } from '../tools/servers/cargo.mjs'
import { updateTables } from './generate/docs.mjs'
import { jsonSchema } from './generate/json-schema.mjs'
import { updateCodes, updateTypes } from './generate/types.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** @typedef {import('./generate/table.mjs').Kind} Kind */

/** @type {Record<string, (roots: Kind[], text: string) => string>} by file, what it should be now */
const FILES = {
  'millrace.schema.json': (roots) => `${JSON.stringify(jsonSchema(roots), null, 2)}\n`,
  'index.d.ts': (roots, text) => updateCodes(codes, updateTypes(roots, text)),
  'docs/configuration.md': updateTables,
}

const isCheck = process.argv.includes('--check')
const table = execFileSync('cargo', ['run', '--quiet', '--example', 'config-table', ...forHost()], {
  cwd: ROOT,
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
})
const { roots, codes } = JSON.parse(table)

for (const [name, generate] of Object.entries(FILES)) {
  const path = join(ROOT, name)
  const before = readFileSync(path, 'utf8')
  const after = generate(roots, before)
  if (after === before) continue
  if (isCheck) {
    console.error(`${name}:${differingLine(before, after)} is not what src/config/schema.rs says: npm run generate`)
    process.exitCode = 1
  } else {
    writeFileSync(path, after)
    console.log(name)
  }
}

/**
 * @param {string} before
 * @param {string} after
 */
function differingLine(before, after) {
  const lines = after.split('\n')
  return before.split('\n').findIndex((line, index) => line !== lines[index]) + 1
}
