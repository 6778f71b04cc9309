// The imports that each part of the JavaScript may have: ARCHITECTURE.md says it in the table of
// layers, and this holds the code to it. tests/architecture.rs does the same for src/.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const PACKAGES = [...Object.keys(dependencies), ...Object.keys(peerDependencies)]

/**
 * The rows of the table that are about JavaScript, whose layers are links: what each may import. A layer is a file, or a folder
 * with a `/` at its end.
 *
 * @returns {Map<string, string[]>}
 */
function layers() {
  const text = readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8')
  const [, section = ''] = text.split(/^## Layers$/m)
  const rows = section.split(/^## /m)[0].matchAll(/^\| \[`([^`]+)`\]\([^)]*\) \| (.*?) \|/gm)
  return new Map(Array.from(rows, ([, layer, allowed]) => [layer, Array.from(allowed.matchAll(/`([^`]+)`/g), ([, name]) => name)]))
}

/**
 * @param {Iterable<string>} names
 * @param {string} file
 */
function layerOf(names, file) {
  return [...names].filter((name) => (name.endsWith('/') ? file.startsWith(name) : file === name))[0]
}

/** The files of this repository and the packages that a file imports. */
function importsOf(file) {
  const text = readFileSync(join(ROOT, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*\*).*$/gm, '')
  const found = text.matchAll(/\brequire\('([^']+)'\)|\bfrom '([^']+)'|\bimport\('([^']+)'\)/g)
  const names = Array.from(found, ([, ...names]) => names.find(Boolean) ?? '')
  // binding.js requires the builds of the addon for all platforms.
  const isBuild = (name) => file === 'binding.js' && /\.node$|^@millrace\/binding-/.test(name)
  return names
    .filter((name) => !isBuild(name))
    .map((name) => (name.startsWith('.') ? posix.join(dirname(file).replaceAll('\\', '/'), name) : name))
}

/** All files that are published, but for the text of the browser's page. */
const files = () => ['index.js', 'testing.js', 'binding.js', ...filesOf('bin/'), ...filesOf('lib/')]

function filesOf(layer) {
  if (!layer.endsWith('/')) return [layer]
  return readdirSync(join(ROOT, layer), { recursive: true, encoding: 'utf8' })
    .map((file) => layer + file.replaceAll('\\', '/'))
    .filter((file) => file.endsWith('.js'))
}

/** The imports of a file that the table does not allow, as text. */
function broken(table, file, imports) {
  const own = layerOf(table.keys(), file)
  return imports.flatMap((name) => {
    if (name.startsWith('node:')) return []
    if (!existsSync(join(ROOT, name))) {
      const isKnown = PACKAGES.some((one) => name === one || name.startsWith(`${one}/`))
      return isKnown ? [] : [`${file} imports ${name}, which is no dependency`]
    }
    const other = layerOf(table.keys(), name) ?? name
    if (other === own || table.get(own).includes(other)) return []
    return [`${file} imports ${name}: ${own} may not import ${other}`]
  })
}

test('imports keep to the table of layers', () => {
  const table = layers()
  const homeless = files().filter((file) => layerOf(table.keys(), file) === undefined)
  assert.deepEqual(homeless, [], 'files that no row of the table is about')
  const all = files().map((file) => [file, importsOf(file)])
  assert.ok(all.flatMap(([, imports]) => imports).length > 50, 'imports are found')
  assert.deepEqual(
    all.flatMap(([file, imports]) => broken(table, file, imports)),
    [],
  )
})

test('the table names existing layers, needs each arrow, and has no circle', () => {
  const table = layers()
  for (const [layer, allowed] of table) {
    assert.ok(existsSync(join(ROOT, layer)), layer)
    const used = filesOf(layer).flatMap(importsOf).map((name) => layerOf(table.keys(), name) ?? name)
    assert.deepEqual(allowed.filter((name) => !used.includes(name)), [], `${layer} has no use for these`)
  }
  const reaches = (from, path = []) => {
    assert.ok(!path.includes(from), `a circle: ${[...path, from].join(' → ')}`)
    for (const to of table.get(from) ?? []) reaches(to, [...path, from])
  }
  for (const layer of table.keys()) reaches(layer)
})

test('an arrow that the table does not have is found', () => {
  const table = layers()
  assert.deepEqual(broken(table, 'lib/native.js', ['binding.js', 'lib/pipeline.js']), [
    'lib/native.js imports lib/pipeline.js: lib/native.js may not import lib/pipeline.js',
  ])
  assert.deepEqual(broken(table, 'lib/generate/types.js', ['lib/cli/output.js', 'left-pad']), [
    'lib/generate/types.js imports lib/cli/output.js: lib/generate/ may not import lib/cli/',
    'lib/generate/types.js imports left-pad, which is no dependency',
  ])
})

test('only native.js imports the addon', () => {
  assert.deepEqual(files().filter((file) => importsOf(file).includes('binding.js')), ['lib/native.js'])
})

/** The table of options, and the declarations of the API, which are generated from it in part. */
const TABLES = ['src/config/schema.rs', 'index.d.ts']

test('no file but tests and tables has more than 500 lines', () => {
  const source = /\.(rs|[cm]?js|[cm]?ts|css|html)$/
  const all = ['src', 'lib', 'bin', 'bench', 'scripts', 'tools', 'examples'].flatMap((folder) => readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => `${folder}/${file.replaceAll('\\', '/')}`)
    .filter((file) => source.test(file) && !/\/(node_modules|target)\//.test(file)))
  assert.ok(all.length > 250, `${all.length} files`)
  const long = [...all, 'index.js', 'index.d.ts', 'testing.js', 'binding.js'].filter((file) => {
    return readFileSync(join(ROOT, file), 'utf8').split('\n').length > 501 && !/_?tests\.rs$/.test(file)
  })
  assert.deepEqual(long.sort(), [...TABLES].sort())
})
