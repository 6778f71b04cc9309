'use strict'

// Why the addon could not be loaded, and what helps, in one error. Loaded when it is needed.

const { existsSync, readFileSync } = require('node:fs')
const { dirname, join } = require('node:path')
const { MillraceError } = require('./error.js')

const PACKAGES = '@millrace/binding-'
const BUILDS = [
  'linux-x64-gnu',
  'linux-arm64-gnu',
  'linux-x64-musl',
  'linux-arm64-musl',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64-msvc',
  'win32-arm64-msvc',
]
const PAGE = 'docs/install.md in the package'

/** The C library, where it is known. @type {'glibc' | 'musl' | undefined} */
let libc

/**
 * @param {string} version of the package
 * @param {'glibc' | 'musl' | undefined} libcName
 * @param {{ name?: string, error: any }[]} failures without a name: the addon that a build puts beside binding.js
 * @returns {Error} `BINDING_REFUSED` where the runtime forbids addons, else `BINDING_NOT_FOUND`
 */
function notLoaded(version, libcName, failures) {
  libc = libcName
  const refused = failures.map(({ error }) => error).find((error) => refusal(error))
  if (refused) {
    const message = `${runtime()} does not let millrace load its addon on ${system()}: ${refusal(refused)}. It said: ${firstLine(refused)}`
    return new MillraceError({ code: 'BINDING_REFUSED', message }, { cause: refused })
  }

  // A file that was there and failed says more than one that was not there.
  const broken = failures.find(({ error }) => !isMissing(error))
  const cause = (broken ?? failures.at(-1))?.error
  return new MillraceError({ code: 'BINDING_NOT_FOUND', message: notFound(version, failures, broken) }, { cause })
}

/** @param {string} version @param {'glibc' | 'musl' | undefined} libcName @param {string | undefined} found */
function otherVersion(version, libcName, found) {
  libc = libcName
  const message =
    `millrace ${version} has found the addon of ${found ? `millrace ${found}` : 'another version'} on ${system()} under ${runtime()}: ` +
    `the two packages must be of one version. Install ${packageNames().join(' or ')} ${version}: ${command(version)}` +
    ` (in a clone: npm run build:debug)`
  return new MillraceError({ code: 'BINDING_NOT_FOUND', message })
}

function notFound(version, failures, broken) {
  const where = `${system()} under ${runtime()}`
  if (process.env.NAPI_RS_NATIVE_LIBRARY_PATH) {
    const { name, error } = failures[0]
    return `NAPI_RS_NATIVE_LIBRARY_PATH names ${name}, which cannot be loaded on ${where}: ${firstLine(error)}`
  }
  const names = packageNames()
  if (names.length === 0) {
    return `millrace has no package for ${where}: there are ${BUILDS.join(', ')}. See ${PAGE} for building it`
  }
  if (broken) {
    const name = broken.name ?? 'the addon that was built here'
    return (
      `millrace ${version} cannot load ${name} on ${where}: ${firstLine(broken.error)}. ` +
      `It was perhaps installed on another system; on this one it is installed with: ${command(version)}. See ${PAGE}`
    )
  }
  return (
    `millrace ${version} needs the package ${names.join(' or ')} on ${where}, and it is not installed: ` +
    `optional dependencies were left out, or it was installed on another system. ` +
    `It is installed with: ${command(version)}. See ${PAGE}`
  )
}

/**
 * @param {any} error
 * @returns {string | undefined} what lets the runtime load it, if it was the runtime that refused
 */
function refusal(error) {
  const text = String(error?.message)
  if (error?.code === 'ERR_DLOPEN_DISABLED') {
    return process.execArgv.includes('--no-addons') || /--no-addons/.test(process.env.NODE_OPTIONS ?? '')
      ? 'leave out --no-addons'
      : 'start it with --allow-addons'
  }
  if (error?.code === 'ERR_ACCESS_DENIED') {
    return /FileSystemRead/.test(`${error.permission} ${text}`)
      ? 'start it with --allow-addons and with --allow-fs-read for the folder of its packages'
      : 'start it with --allow-addons'
  }
  // Deno.
  if (error?.name === 'NotCapable' || /--allow-ffi/.test(text)) {
    return 'start it with --allow-ffi --allow-env --allow-read'
  }
  return undefined
}

const isMissing = (error) =>
  error?.code === 'MODULE_NOT_FOUND' || /^(Cannot find (module|package)|ResolveMessage)/.test(firstLine(error))

function firstLine(error) {
  return String(error?.message ?? error).split('\n', 1)[0]
}

/** @returns {string[]} one, or two where the C library is unknown, or none */
function packageNames() {
  const ofLinux = { glibc: ['gnu'], musl: ['musl'] }[libc ?? ''] ?? ['gnu', 'musl']
  const builds = process.platform === 'linux' ? ofLinux : [process.platform === 'win32' ? 'msvc' : '']
  return builds
    .map((end) => [process.platform, process.arch, end].filter(Boolean).join('-'))
    .filter((build) => BUILDS.includes(build))
    .map((build) => PACKAGES + build)
}

function system() {
  const { platform, arch } = process
  return platform === 'linux' ? `${platform} ${arch} (${libcText()})` : `${platform} ${arch}`
}

function libcText() {
  if (libc !== 'glibc') return libc ?? 'C library unknown'
  const report = /** @type {any} */ (process.report)
  // Names of hosts are not asked for.
  if (report) report.excludeNetwork = true
  const version = report?.getReport?.()?.header?.glibcVersionRuntime
  return version ? `glibc ${version}` : libc
}

function runtime() {
  const { bun, deno, electron, node } = process.versions
  if (bun) return `Bun ${bun}`
  if (deno) return `Deno ${deno}`
  if (electron) return `Electron ${electron} (Node.js ${node})`
  return `Node.js ${node}`
}

/**
 * The command that puts the platform package back, for the package manager that installed this one. Each was tried where the platform
 * package was not installed: `npm run test:package`.
 *
 * @param {string} version
 */
function command(version) {
  switch (packageManager()) {
    case 'bun':
      return 'rm -rf bun.lock node_modules && bun install'
    case 'deno':
      return 'rm -rf deno.lock node_modules && deno install'
    case 'pnpm':
      return 'pnpm install --force && pnpm update millrace'
    case 'yarn 1':
      return 'yarn install --check-files'
    case 'yarn':
      return 'yarn install'
    default:
      return `npm install millrace@${version} --include=optional`
  }
}

/** The package manager whose lock file lies above this package, or above the working directory; else who started this program. */
function packageManager() {
  const agent = process.env.npm_config_user_agent ?? ''
  for (const start of [dirname(__dirname), process.cwd()]) {
    for (let folder = start; ; folder = dirname(folder)) {
      const has = (name) => existsSync(join(folder, name))
      try {
        if (has('bun.lock') || has('bun.lockb')) return 'bun'
        if (has('pnpm-lock.yaml')) return 'pnpm'
        if (has('yarn.lock')) return isYarn1(join(folder, 'yarn.lock')) ? 'yarn 1' : 'yarn'
        if (has('package-lock.json')) return 'npm'
        if (has('deno.lock')) return 'deno'
      } catch {
        // Not permitted to look.
      }
      if (folder === dirname(folder)) break
    }
  }
  const name = /^\w+/.exec(agent)?.[0]
  return name === 'yarn' && agent.startsWith('yarn/1') ? 'yarn 1' : name
}

const isYarn1 = (path) => readFileSync(path, 'utf8').includes('# yarn lockfile v1')

module.exports = { notLoaded, otherVersion }
