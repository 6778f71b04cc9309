'use strict'

// inspectSpool(): reports what a directory of a spool holds. It may be in use by a running pipeline.

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

/** The engine reports times in milliseconds since 1970. */
const dated = ({ oldest, ...backlog }) => ({ ...backlog, oldest: oldest === null ? null : new Date(oldest) })

module.exports = { inspectSpool }
