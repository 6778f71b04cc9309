'use strict'

// The module that users import. `index.d.ts` documents it; the files of lib/ do the work, and src/ is the engine.

const { MillraceError } = require('./lib/native.js')
const { Pipeline } = require('./lib/pipeline.js')

// These are loaded by the first call: each file takes time, and node:http and certificates alone take megabytes of memory.

function replayDeadLetters(...args) {
  return require('./lib/replay.js').replayDeadLetters(...args)
}

function describeTables(config, options) {
  return require('./lib/generate/types.js').describeTables(config, options)
}

function proposeTable(...args) {
  return require('./lib/generate/create-table.js').proposeTable(...args)
}

function checkPipeline(...args) {
  return require('./lib/check.js').checkPipeline(...args)
}

function registerMetrics(...args) {
  return require('./lib/observe/prom-client.js').registerMetrics(...args)
}

function observeMetrics(...args) {
  return require('./lib/observe/open-telemetry.js').observeMetrics(...args)
}

function metricProducer(pipeline) {
  return require('./lib/observe/open-telemetry.js').metricProducer(pipeline)
}

function serveHttp(pipeline, options) {
  return require('./lib/observe/http.js').serveHttp(pipeline, options)
}

function httpHandler(pipeline, options) {
  return require('./lib/observe/http.js').httpHandler(pipeline, options)
}

function inspectSpool(...args) {
  return require('./lib/spool.js').inspectSpool(...args)
}

/** For its types: they know the names of each route's topic. */
function definePipeline(config) {
  return config === undefined ? (own) => own : config
}

module.exports.Pipeline = Pipeline
module.exports.definePipeline = definePipeline
module.exports.MillraceError = MillraceError
module.exports.replayDeadLetters = replayDeadLetters
module.exports.describeTables = describeTables
module.exports.proposeTable = proposeTable
module.exports.checkPipeline = checkPipeline
module.exports.serveHttp = serveHttp
module.exports.httpHandler = httpHandler
module.exports.registerMetrics = registerMetrics
module.exports.observeMetrics = observeMetrics
module.exports.metricProducer = metricProducer
module.exports.inspectSpool = inspectSpool
