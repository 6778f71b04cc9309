'use strict'

// Which C library this program was linked with.

const { closeSync, openSync, readSync } = require('node:fs')

/**
 * From the name of its loader, which stands near the beginning of the program's own file: right also where both C
 * libraries are installed, and quicker than a report of the runtime.
 *
 * @returns {'glibc' | 'musl' | undefined} undefined: it cannot be told
 */
function libc() {
  try {
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

module.exports = { libc }
