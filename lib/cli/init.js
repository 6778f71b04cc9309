'use strict'

// `millrace init`: writes the CREATE TABLE statements for the routes of a configuration, from live messages, and on request makes the
// tables. A table that is there is left as it is.

const { writeFileSync } = require('node:fs')
const { checkPipeline } = require('../check.js')
const { createTables } = require('../generate/create-table.js')
const { proposeForRoute } = require('../generate/route-table.js')
const { ConfigFile } = require('./config-file.js')
const { CommandError, FAILED, OK } = require('./exit.js')

/**
 * @param {string} file
 * @param {{ sample: number, sampleTimeout?: number, clientId?: string, out?: string, execute?: boolean }} options
 * @returns {Promise<number>} the exit code
 */
async function init(file, { sample, sampleTimeout, clientId, out, execute }) {
  const source = new ConfigFile(file)
  let report
  try {
    report = await checkPipeline(source.config, { sample, sampleTimeoutMs: sampleTimeout, clientId, payloads: Math.min(sample, 1_000) })
  } catch (error) {
    throw error.path?.startsWith('options.') ? error : source.located(error)
  }
  if (!report.sample) {
    const reasons = report.findings.filter(({ level }) => level === 'error').map(({ message }) => message)
    throw new CommandError(`there is no sample: ${reasons.join('; ')}`)
  }
  const statements = []
  const lines = []
  let isComplete = true
  const seen = new Set()
  for (const [i, route] of source.config.routes.entries()) {
    const { payloads = [] } = report.sample.routes[i]
    const place = `routes[${i}], ${route.topic}`
    if (route.tables !== undefined) {
      lines.push(...ofChoice(route, place, payloads, report.findings, statements))
      continue
    }
    const { columns } = report.routes[i]
    if (seen.has(route.table)) continue
    if (columns.length > 0) {
      lines.push(`-- ${place}: the table ${route.table} is there`)
      seen.add(route.table)
    } else if (payloads.length === 0) {
      lines.push(`-- ${place}: no message came, so nothing is known of the table ${route.table}`)
      isComplete = false
    } else {
      const statement = proposeForRoute(route, payloads)
      statements.push(statement)
      lines.push(`-- ${place}: from ${payloads.length} messages`, `${statement};`)
      seen.add(route.table)
    }
    lines.push('')
  }
  const text = lines.join('\n')
  if (out === undefined) process.stdout.write(text)
  else writeFileSync(out, text)
  if (execute && statements.length > 0) await createTables(source.config, statements)
  return isComplete ? OK : FAILED
}

/** The lines for a route whose messages choose their table: a table for each that is named. */
function ofChoice(route, place, payloads, findings, statements) {
  const named = [route.tables.allow].flat().filter((table) => !table.includes('*'))
  if (named.length === 0) return [`-- ${place}: no table is named in tables.allow without a *`, '']
  if (payloads.length === 0) return [`-- ${place}: no message came, so nothing is known of the tables ${named.join(', ')}`, '']
  return named.flatMap((table) => {
    const isMissing = findings.some(({ code, message }) => code === 'TABLE_NOT_FOUND' && message.includes(table))
    if (!isMissing) return [`-- ${place}: the table ${table} is there`, '']
    const statement = proposeForRoute({ ...route, table }, payloads)
    statements.push(statement)
    return [`-- ${place}: from ${payloads.length} messages`, `${statement};`, '']
  })
}

module.exports = { init }
