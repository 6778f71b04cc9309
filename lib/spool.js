'use strict'

// What lies in a spool, for whoever wonders.

const { NativePipeline, configError, unwrap } = require('./native.js')

/** @returns {Promise<any>} */
async function inspectSpool(dir) {
  if (typeof dir !== 'string' || dir === '') {
    throw configError('dir', 'must be the path of a directory')
  }
  const { tables, ...all } = unwrap(await NativePipeline.inspectSpool(dir))
  return {
    ...dated(all),
    tables: Object.fromEntries(Object.entries(tables).map(([table, backlog]) => [table, dated(backlog)])),
  }
}

const dated = ({ oldest, ...backlog }) => ({ ...backlog, oldest: oldest === null ? null : new Date(oldest) })

module.exports = { inspectSpool }
