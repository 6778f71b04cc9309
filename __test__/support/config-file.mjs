// Configuration files of a test, removed when it ends.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A directory of a test. */
export function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-cli-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/**
 * The path of a file with this configuration.
 *
 * @param {any} t
 * @param {any} config an object, or the text of the file
 */
export function configFile(t, config) {
  const file = join(directory(t), 'millrace.json')
  writeFileSync(file, typeof config === 'string' ? config : JSON.stringify(config, null, 2))
  return file
}
