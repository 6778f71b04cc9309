'use strict'

// User names and passwords that functions of the program give: what the engine calls when it needs one.

const { AsyncResource } = require('node:async_hooks')
const { inspect } = require('node:util')
const { NativeCredentials } = require('./native.js')

/**
 * The functions of a configuration, for the engine.
 *
 * @param {any} config
 */
function credentialsOf(config) {
  const native = new NativeCredentials()
  for (const [section, name] of [
    ['mqtt', 'username'],
    ['mqtt', 'password'],
    ['clickhouse', 'password'],
  ]) {
    const given = config[section]?.[name]
    if (typeof given === 'function') native.onAsk(`${section}.${name}`, caller(given))
  }
  return native
}

/** The function that the engine calls. It does not throw, and answers each call once, unless the function never settles. */
function caller(give) {
  // Without it, calls would run in the context of AsyncLocalStorage of whatever ran last.
  const context = new AsyncResource('millrace.credentials')
  return async (call) => {
    try {
      const value = await context.runInAsyncScope(give)
      if (typeof value === 'string') call.answer(value)
      else call.fail(`the function gave ${kindOf(value)}, not a string`)
    } catch (error) {
      call.fail(`the function failed: ${textOf(error)}`)
    }
  }
}

function kindOf(value) {
  if (value === null || value === undefined) return String(value)
  return `${/^[aeiou]/.test(typeof value) ? 'an' : 'a'} ${typeof value}`
}

/** Whatever was thrown, in one line. */
function textOf(error) {
  try {
    const text = error instanceof Error ? error.message : typeof error === 'string' ? error : inspect(error, { depth: 0 })
    return String(text).split('\n')[0] || 'without a message'
  } catch {
    return 'with a value that cannot be printed'
  }
}

module.exports = { credentialsOf }
