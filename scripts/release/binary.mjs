// Reads a .node file's system, processor and oldest possible glibc from its bytes.
//
// ELF: System V ABI, chapter 4, and the Linux Standard Base for the versions of symbols (.gnu.version_r: a list of
// Elf64_Verneed, one a library, each with a list of Elf64_Vernaux, one a version). Mach-O and PE: their headers only.

const SHT_GNU_VERNEED = 0x6ffffffe
const SHT_DYNAMIC = 6
const DT_NEEDED = 1n

/**
 * @typedef {object} Binary
 * @property {'linux' | 'darwin' | 'win32'} os
 * @property {string} cpu `x64`, `arm64`, or the number in the header
 * @property {'glibc' | 'musl' | undefined} libc for Linux: whose libc it is linked with
 * @property {string | undefined} glibc the newest version of a glibc symbol, such as `2.17`
 */

/**
 * @param {Buffer} bytes of the file
 * @returns {Binary}
 * @throws {Error} where it is not a library of a system that millrace is built for
 */
export function describe(bytes) {
  if (bytes.length >= 64 && bytes.readUInt32BE(0) === 0x7f454c46) return elf(bytes)
  if (bytes.length >= 8 && bytes.readUInt32LE(0) === 0xfeedfacf) {
    const cpu = { 0x01000007: 'x64', 0x0100000c: 'arm64' }[bytes.readUInt32LE(4)] ?? String(bytes.readUInt32LE(4))
    return { os: 'darwin', cpu, libc: undefined, glibc: undefined }
  }
  if (bytes.length >= 64 && bytes.toString('latin1', 0, 2) === 'MZ') {
    const header = bytes.readUInt32LE(0x3c)
    if (header + 6 <= bytes.length && bytes.toString('latin1', header, header + 4) === 'PE\0\0') {
      const machine = bytes.readUInt16LE(header + 4)
      return { os: 'win32', cpu: { 0x8664: 'x64', 0xaa64: 'arm64' }[machine] ?? String(machine), libc: undefined, glibc: undefined }
    }
  }
  throw new Error('it is neither ELF nor Mach-O nor PE of 64 bits')
}

/** @param {Buffer} bytes @returns {Binary} */
function elf(bytes) {
  if (bytes[4] !== 2 || bytes[5] !== 1) throw new Error('it is an ELF file, but not of 64 bits, little-endian')
  const machine = bytes.readUInt16LE(18)
  const cpu = { 62: 'x64', 183: 'arm64' }[machine] ?? String(machine)
  const sections = sectionsOf(bytes)
  const text = (/** @type {number} */ table, /** @type {number} */ at) => {
    const start = sections[table].offset + at
    return bytes.toString('latin1', start, bytes.indexOf(0, start))
  }

  /** @type {string[]} */
  const libraries = []
  for (const { type, offset, size, link } of sections) {
    if (type !== SHT_DYNAMIC) continue
    for (let at = offset; at + 16 <= offset + size; at += 16) {
      if (bytes.readBigUInt64LE(at) === DT_NEEDED) libraries.push(text(link, Number(bytes.readBigUInt64LE(at + 8))))
    }
  }

  /** @type {string[]} */
  const versions = []
  for (const { type, offset, link } of sections) {
    if (type !== SHT_GNU_VERNEED) continue
    for (let need = offset, next = 1; next !== 0; need += next) {
      next = bytes.readUInt32LE(need + 12)
      for (let aux = need + bytes.readUInt32LE(need + 8), step = 1; step !== 0; aux += step) {
        step = bytes.readUInt32LE(aux + 12)
        const version = /^GLIBC_([0-9.]+)$/.exec(text(link, bytes.readUInt32LE(aux + 8)))?.[1]
        if (version) versions.push(version)
      }
    }
  }
  const glibc = versions.sort(compareVersions).at(-1)
  // musl's own name of it is libc.so, glibc's libc.so.6.
  const libc = glibc || libraries.includes('libc.so.6') ? 'glibc' : 'musl'
  return { os: 'linux', cpu, libc, glibc }
}

/** @param {Buffer} bytes */
function sectionsOf(bytes) {
  const start = Number(bytes.readBigUInt64LE(40))
  const size = bytes.readUInt16LE(58)
  return Array.from({ length: bytes.readUInt16LE(60) }, (_, i) => {
    const at = start + i * size
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
      link: bytes.readUInt32LE(at + 40),
    }
  })
}

/** @param {string} one @param {string} other */
export function compareVersions(one, other) {
  const [a, b] = [one, other].map((version) => version.split('.').map(Number))
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if ((a[i] ?? 0) !== (b[i] ?? 0)) return (a[i] ?? 0) - (b[i] ?? 0)
  }
  return 0
}

/**
 * @param {Buffer} bytes
 * @param {import('./targets.mjs').Target} target
 * @param {string} floor
 * @returns {string[]} what is wrong with it as the addon of this target
 */
export function faults(bytes, { os, cpu, libc }, floor) {
  let binary
  try {
    binary = describe(bytes)
  } catch (error) {
    return [/** @type {Error} */ (error).message]
  }
  const wrong = []
  if (binary.os !== os) wrong.push(`it is for ${binary.os}, not ${os}`)
  if (binary.cpu !== cpu) wrong.push(`it is for ${binary.cpu}, not ${cpu}`)
  if (binary.libc !== libc) wrong.push(`it is linked with ${binary.libc}, not ${libc}`)
  if (libc === 'glibc' && binary.glibc && compareVersions(binary.glibc, floor) > 0) {
    wrong.push(`it needs glibc ${binary.glibc}, and must run with ${floor}`)
  }
  return wrong
}
