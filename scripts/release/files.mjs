// Checks that `npm pack --dry-run` names exactly the files of files.txt: no file is published by
// accident, and none is forgotten.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ROOT } from './targets.mjs'

/**
 * @param {string[]} files
 * @returns {string[]} what is not as files.txt says: a line of it is a path, in which `*` stands for a name without its end
 */
export function problems(files) {
  const lines = readFileSync(join(ROOT, 'scripts', 'release', 'files.txt'), 'utf8').trim().split('\n')
  const patterns = lines.map((line) => new RegExp(`^${line.replace(/[.]/g, '\\$&').replaceAll('*', '[\\w-]+')}$`))
  return [
    ...files.filter((file) => !patterns.some((pattern) => pattern.test(file))).map((file) => `${file} is not in files.txt`),
    ...lines.filter((_, i) => !files.some((file) => patterns[i].test(file))).map((line) => `${line} is missing`),
  ]
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const answer = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  })
  // A list up to npm 11, afterwards an object by names.
  const [{ files }] = /** @type {{ files: { path: string }[] }[]} */ (Object.values(JSON.parse(answer)))
  const found = problems(files.map(({ path }) => path))
  for (const problem of found) console.error(problem)
  process.exitCode = found.length > 0 ? 1 : 0
}
