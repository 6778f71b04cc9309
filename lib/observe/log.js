'use strict'

// Passes a pipeline's events 'state', 'warning' and 'error' to a logger with the methods of pino.

const { configError } = require('../native.js')

const LEVELS = ['info', 'warn', 'error']

/** Throws unless the logger has the three methods. */
function checkLogger(logger) {
  if (typeof logger !== 'object' || logger === null) throw configError('logger', 'must be a logger: an object with info, warn and error')
  for (const level of LEVELS) {
    if (typeof logger[level] !== 'function') throw configError(`logger.${level}`, 'must be a function: (object, message)')
  }
}

/** Dead letters and metrics are not logged: there can be many, and both have events of their own. */
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
