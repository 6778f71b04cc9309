'use strict'

// What a pipeline tells by its events, told to a logger with pino's shape as well.

const { configError } = require('../native.js')

const LEVELS = ['info', 'warn', 'error']

/** Refuses what cannot log. */
function checkLogger(logger) {
  if (typeof logger !== 'object' || logger === null) throw configError('logger', 'must be a logger: an object with info, warn and error')
  for (const level of LEVELS) {
    if (typeof logger[level] !== 'function') throw configError(`logger.${level}`, 'must be a function: (object, message)')
  }
}

/** Dead letters and metrics are not logged: both can be many, and have ways of their own. */
function log(logger, pipeline, kind, value) {
  if (kind === 'state') {
    const [state, previous] = value
    logger.info({ pipeline, state, previous }, `the pipeline is ${state}`)
  } else if (kind === 'warning') {
    logger.warn({ pipeline, code: value.code }, value.message)
  } else if (kind === 'error') {
    logger.error({ pipeline, code: value.code, err: value }, value.message)
  }
}

module.exports = { checkLogger, log }
