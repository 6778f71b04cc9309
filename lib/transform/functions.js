'use strict'

// The user's function, and where it comes from: the configuration, or a module.

const { resolve } = require('node:path')
const { pathToFileURL } = require('node:url')
const { types } = require('node:util')
const { MillraceError } = require('../error.js')

/** @param {string} path of the option @param {string} message @param {unknown} [cause] */
function invalid(path, message, cause) {
  const text = `${path}: ${message}`
  return new MillraceError({ code: 'TRANSFORM_INVALID', message: text, path }, cause === undefined ? undefined : { cause })
}

/**
 * A function that can be called with a batch.
 *
 * @param {any} transform
 * @param {string} path of the option that names it
 * @throws {MillraceError} `TRANSFORM_INVALID`
 */
function checked(transform, path) {
  if (typeof transform !== 'function') throw invalid(path, `must be a function, not ${kindOf(transform)}`)
  // Calling these does nothing, and says nothing.
  if (types.isGeneratorFunction(transform)) throw invalid(path, 'must not be a generator: calling it would run none of it')
  if (/^class\b/.test(Function.prototype.toString.call(transform))) throw invalid(path, 'must be a function, not a class')
  return transform
}

/**
 * The export of a module.
 *
 * @param {{ module: string, export: string }} source
 * @param {string} path of the option `transform`
 * @throws {MillraceError} `TRANSFORM_INVALID`
 */
async function imported({ module, export: name }, path) {
  let exports
  try {
    exports = await import(moduleUrl(module))
  } catch (error) {
    throw invalid(`${path}.module`, `${module} cannot be imported: ${importFailure(error)}`, error)
  }
  // A module of CommonJS has its exports in `default` too, where the runtime does not know their names.
  const found = name in exports ? exports[name] : exports.default?.[name]
  const transform = name === 'default' && typeof found !== 'function' ? (found?.default ?? found) : found
  if (transform === undefined) {
    const names = Object.keys(exports).join(', ') || 'none'
    throw invalid(`${path}.export`, `${module} has no export ${JSON.stringify(name)}; it has ${names}`)
  }
  return checked(transform, `${path}.export`)
}

function importFailure(error) {
  const message = String(error?.message ?? error)
  return error?.code === 'ERR_UNKNOWN_FILE_EXTENSION' && /\.[mc]?ts\b/.test(message)
    ? `${message}: this runtime does not run TypeScript; Node.js does from 22.18 on, and Bun does`
    : message
}

/**
 * The URL of a module, from a URL or from a path, which counts from the working directory.
 *
 * @param {string} module
 */
function moduleUrl(module) {
  return /^(file|data):/.test(module) ? module : pathToFileURL(resolve(module)).href
}

function kindOf(value) {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list' : `${/^[aeiou]/.test(typeof value) ? 'an' : 'a'} ${typeof value}`
}

module.exports = { checked, imported, invalid, moduleUrl }
