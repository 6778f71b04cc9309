'use strict'

// `millrace spool`: prints the report of inspectSpool() as text.

const { inspectSpool } = require('../spool.js')
const { FAILED, OK } = require('./exit.js')
const { count } = require('./output.js')

/**
 * @param {string} dir
 * @param {{ json?: boolean }} options
 * @returns {Promise<number>} the exit code
 */
async function spool(dir, { json }) {
  const found = await inspectSpool(dir)
  process.stdout.write(json ? `${JSON.stringify(found, null, 2)}\n` : print(dir, found))
  return found.damaged.length + found.missing.length > 0 ? FAILED : OK
}

function print(dir, { segments, bytes, tables, damaged, setAside, torn, missing, missingMessages, foreign, ...backlog }) {
  const lines = [`${dir}: ${count(segments)} segments, ${count(bytes)} bytes`]
  if (backlog.messages === 0) lines.push('nothing waits: all is in ClickHouse')
  else lines.push(`waiting: ${printBacklog(backlog)}`)
  for (const [table, its] of Object.entries(tables)) {
    if (its.messages > 0) lines.push(`  ${table}: ${printBacklog(its)}, ${count(its.bytes)} bytes`)
  }
  for (const { segment, at, bytes, file } of damaged) {
    lines.push(`damaged: ${segment}, ${count(bytes)} bytes at ${at}: the next start puts them aside in ${file}`)
  }
  for (const { segment, at, bytes } of missing) {
    lines.push(`missing: ${segment}, ${count(bytes)} bytes at ${at} that had been synced`)
  }
  if (damaged.length + missing.length > 0) {
    lines.push(`acknowledged messages that are missing: ${missingMessages === null ? 'not known' : count(missingMessages)}`)
  }
  for (const { segment, at, bytes } of torn) {
    lines.push(`unfinished: ${segment}, ${count(bytes)} bytes at ${at}: a write that is under way, or that a crash ended`)
  }
  for (const file of setAside) lines.push(`set aside earlier: ${file}`)
  if (foreign.length > 0) lines.push(`not the spool's: ${foreign.join(', ')}`)
  return `${lines.join('\n')}\n`
}

/** @param {any} backlog */
function printBacklog({ messages, rows, records, oldest }) {
  const since = oldest ? `, the oldest from ${oldest.toISOString()}` : ''
  return `${count(messages)} messages, ${count(rows)} rows in ${count(records)} records${since}`
}

module.exports = { spool }
