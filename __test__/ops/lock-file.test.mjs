// `npm ci` refuses a lock file that lacks any package, also one for another platform; npm leaves those out that the
// registry in use does not have. This is checked without a registry.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const LOCK = fileURLToPath(new URL('../../package-lock.json', import.meta.url))
/** @type {{ packages: Record<string, any> }} */
const { packages } = JSON.parse(readFileSync(LOCK, 'utf8'))

/** Whether the package at `path` finds one named `name`: in its own node_modules, or in one above it. */
function isLocked(path, name) {
  const places = [path]
  for (let at = path; at !== ''; ) {
    at = at.slice(0, Math.max(0, at.lastIndexOf('/')))
    places.push(at)
  }
  return places.some((place) => packages[place === '' ? `node_modules/${name}` : `${place}/node_modules/${name}`])
}

test('the lock file has every dependency of every package, those of other platforms too', () => {
  const missing = []
  for (const [path, { dependencies, devDependencies, optionalDependencies, link }] of Object.entries(packages)) {
    if (link) continue
    for (const name of Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
      if (!isLocked(path, name)) missing.push(`${path || 'package.json'} → ${name}`)
    }
  }
  assert.deepEqual(missing, [])
})

test('the lock file names no registry', () => {
  const addresses = Object.values(packages).map(({ resolved }) => resolved)
  assert.deepEqual(
    addresses.filter((resolved) => /^\w+:/.test(resolved ?? '')),
    [],
  )
})
