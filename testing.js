'use strict'

// The module that a service's own tests import: `millrace/testing`.

const testing = require('./lib/testing/index.js')

module.exports.decode = testing.decode
module.exports.startServers = testing.startServers
module.exports.startTestPipeline = testing.startTestPipeline
