'use strict'

// Loads the addon: the one that was built here, else the one of the platform package that came with this package.
//
// Each name stands in a `require` of its own, and each in a `try`: that is how bundlers find the file of the platform they
// build for (`bun build --compile` puts it into the program) and pass over the others.
// lib/binding-error.js describes errors, and is loaded only then.

const { version } = require('./package.json')

/** The attempts, and why each failed. */
const failures = []

const binding = load()
if (!binding) throw require('./lib/binding-error.js').notLoaded(version, libc(), failures)
const found = typeof binding.version === 'function' ? binding.version() : undefined
if (found !== version) throw require('./lib/binding-error.js').otherVersion(version, libc(), found)

module.exports = binding

function load() {
  const path = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  if (path) {
    try {
      return require(path)
    } catch (error) {
      failures.push({ name: path, error })
    }
    // A user who names a file does not want another one.
    return undefined
  }
  if (process.platform === 'linux') {
    // Where the C library is unknown, glibc is tried first.
    const name = libc()
    return (name !== 'musl' && loadGnu()) || (name !== 'glibc' && loadMusl()) || undefined
  }
  if (process.platform === 'darwin') {
    if (process.arch === 'x64') {
      try {
        return require('./millrace.darwin-x64.node')
      } catch (error) {
        failures.push({ error })
      }
      try {
        return require('@millrace/binding-darwin-x64')
      } catch (error) {
        failures.push({ name: '@millrace/binding-darwin-x64', error })
      }
    } else if (process.arch === 'arm64') {
      try {
        return require('./millrace.darwin-arm64.node')
      } catch (error) {
        failures.push({ error })
      }
      try {
        return require('@millrace/binding-darwin-arm64')
      } catch (error) {
        failures.push({ name: '@millrace/binding-darwin-arm64', error })
      }
    }
  } else if (process.platform === 'win32') {
    if (process.arch === 'x64') {
      try {
        return require('./millrace.win32-x64-msvc.node')
      } catch (error) {
        failures.push({ error })
      }
      try {
        return require('@millrace/binding-win32-x64-msvc')
      } catch (error) {
        failures.push({ name: '@millrace/binding-win32-x64-msvc', error })
      }
    } else if (process.arch === 'arm64') {
      try {
        return require('./millrace.win32-arm64-msvc.node')
      } catch (error) {
        failures.push({ error })
      }
      try {
        return require('@millrace/binding-win32-arm64-msvc')
      } catch (error) {
        failures.push({ name: '@millrace/binding-win32-arm64-msvc', error })
      }
    }
  }
  return undefined
}

function loadGnu() {
  if (process.arch === 'x64') {
    try {
      return require('./millrace.linux-x64-gnu.node')
    } catch (error) {
      failures.push({ error })
    }
    try {
      return require('@millrace/binding-linux-x64-gnu')
    } catch (error) {
      failures.push({ name: '@millrace/binding-linux-x64-gnu', error })
    }
  } else if (process.arch === 'arm64') {
    try {
      return require('./millrace.linux-arm64-gnu.node')
    } catch (error) {
      failures.push({ error })
    }
    try {
      return require('@millrace/binding-linux-arm64-gnu')
    } catch (error) {
      failures.push({ name: '@millrace/binding-linux-arm64-gnu', error })
    }
  }
  return undefined
}

function loadMusl() {
  if (process.arch === 'x64') {
    try {
      return require('./millrace.linux-x64-musl.node')
    } catch (error) {
      failures.push({ error })
    }
    try {
      return require('@millrace/binding-linux-x64-musl')
    } catch (error) {
      failures.push({ name: '@millrace/binding-linux-x64-musl', error })
    }
  } else if (process.arch === 'arm64') {
    try {
      return require('./millrace.linux-arm64-musl.node')
    } catch (error) {
      failures.push({ error })
    }
    try {
      return require('@millrace/binding-linux-arm64-musl')
    } catch (error) {
      failures.push({ name: '@millrace/binding-linux-arm64-musl', error })
    }
  }
  return undefined
}

/**
 * The C library that this program was linked with, from the name of its loader, which stands near the
 * beginning of the program's own file: right also where both C libraries are installed, and quicker
 * than a report of the runtime.
 *
 * @returns {'glibc' | 'musl' | undefined} undefined: it is unknown
 */
function libc() {
  try {
    const { closeSync, openSync, readSync } = require('node:fs')
    const file = openSync('/proc/self/exe', 'r')
    try {
      const head = Buffer.alloc(4096)
      const text = head.toString('latin1', 0, readSync(file, head, 0, head.length, 0))
      if (text.includes('/ld-musl-')) return 'musl'
      if (text.includes('/ld-linux-')) return 'glibc'
    } finally {
      closeSync(file)
    }
  } catch {
    // No /proc, or not permitted to read there.
  }
  return undefined
}
