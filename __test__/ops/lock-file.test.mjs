// `npm ci` refuses a lock file that lacks any package, also one for another platform; npm leaves those out that the
// registry in use does not have. This is checked without a registry.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const FILES = ['package-lock.json', 'bench/architectures/package-lock.json']
/** @type {[file: string, packages: Record<string, any>][]} */
const LOCKS = FILES.map((file) => {
  const path = fileURLToPath(new URL(`../../${file}`, import.meta.url))
  return [file, JSON.parse(readFileSync(path, 'utf8')).packages]
})

/**
 * Whether the package at `path` finds one named `name`: in its own node_modules, or in one above it.
 *
 * @param {Record<string, any>} packages
 * @param {string} path
 * @param {string} name
 */
function isLocked(packages, path, name) {
  const places = [path]
  for (let at = path; at !== ''; ) {
    at = at.slice(0, Math.max(0, at.lastIndexOf('/')))
    places.push(at)
  }
  return places.some((place) => packages[place === '' ? `node_modules/${name}` : `${place}/node_modules/${name}`])
}

for (const [file, packages] of LOCKS) {
  test(`${file} has every dependency of every package, those of other platforms too`, () => {
    const missing = []
    for (const [path, { dependencies, devDependencies, optionalDependencies, link }] of Object.entries(packages)) {
      if (link) continue
      for (const name of Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
        if (!isLocked(packages, path, name)) missing.push(`${path || 'package.json'} → ${name}`)
      }
    }
    assert.deepEqual(missing, [])
  })

  test(`${file} names no registry`, () => {
    const addresses = Object.values(packages).map(({ resolved }) => resolved)
    assert.deepEqual(
      addresses.filter((resolved) => /^\w+:/.test(resolved ?? '')),
      [],
    )
  })
}
