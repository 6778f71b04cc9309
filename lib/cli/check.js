'use strict'

// `millrace check`: prints the report of checkPipeline() as text.

const { checkPipeline } = require('../check.js')
const { ConfigFile } = require('./config-file.js')
const { FAILED, OK } = require('./exit.js')
const { sanitize } = require('./output.js')

/**
 * @param {string} file
 * @param {{ sample?: number, sampleTimeout?: number, clientId?: string, strict?: boolean, json?: boolean }} options
 * @returns {Promise<number>} the exit code
 */
async function check(file, { sample, sampleTimeout, clientId, strict, json }) {
  const source = new ConfigFile(file)
  let report
  try {
    report = await checkPipeline(source.config, { sample, sampleTimeoutMs: sampleTimeout, clientId })
  } catch (error) {
    throw error.path?.startsWith('options.') ? error : source.located(error)
  }
  process.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : print(report, source))
  const isFine = strict ? report.findings.every(({ level }) => level === 'note') : report.ok
  return isFine ? OK : FAILED
}

function print({ brokers, clickhouse, routes, sample, findings }, source) {
  return [
    ...brokers.map(printBroker),
    ...clickhouse.map(printServer),
    ...routes.map(printRoute),
    ...(sample ? [printSample(sample, routes)] : []),
    ...findings.map((finding) => printFinding(finding, source)),
    summary(findings),
  ].join('\n')
}

function printBroker({ url, reachable, version, protocolVersion, limits, tls, granted }) {
  const speaks = protocolVersion === 5 ? 'MQTT 5' : 'MQTT 3.1.1'
  const lines = [`broker ${url}: ${reachable ? `${version ?? 'it does not tell its version'}, ${speaks}` : 'no connection'}`]
  if (tls) lines.push(printTls(tls))
  if (limits) lines.push(printLimits(limits))
  else if (reachable) lines.push('  limits: MQTT 3.1.1 does not tell')
  if (granted.length > 0) lines.push(`  subscriptions granted: ${granted.join(', ')}`)
  return block(lines)
}

function printLimits(limits) {
  const has = Object.entries({
    retained: 'retained messages',
    wildcardSubscriptions: 'wildcards',
    sharedSubscriptions: 'shared subscriptions',
    subscriptionIds: 'subscription identifiers',
  })
  const [available, missing] = [true, false].map((is) => has.filter(([name]) => limits[name] === is).map(([, text]) => text))
  const lines = [
    `  limits: QoS ${limits.maxQos}, packets ${limits.maxPacketBytes ? `of ${limits.maxPacketBytes} bytes` : 'of any size'}, ` +
      `sessions kept ${limits.sessionExpirySeconds} s, keep-alive ${limits.keepAliveSeconds} s, ` +
      `receive maximum ${limits.receiveMaximum} (of what is sent to it), topic aliases ${limits.topicAliasMaximum}`,
    `  has: ${available.join(', ') || 'none of the options'}`,
  ]
  if (missing.length > 0) lines.push(`  lacks: ${missing.join(', ')}`)
  return lines.join('\n')
}

function printTls({ version, cipher, certificate }) {
  return `  ${version.replace('TLSv1_', 'TLS 1.')}, ${cipher}; certificate for ${certificate.names || certificate.subject}, valid until ${certificate.validUntil}`
}

function printServer({ url, reachable, version, user, tls }) {
  const lines = [`ClickHouse ${url}: ${reachable ? `${version}, as ${user}` : 'no answer'}`]
  if (tls) lines.push(printTls(tls))
  return block(lines)
}

function printRoute({ topic, table, engine, columns, rules, insert, deduplication }, i) {
  const lines = [`routes[${i}]: ${topic} to ${table}${engine ? `, ${engine}` : ''}`]
  if (insert !== null) lines.push(`  INSERT: ${insert ? 'allowed' : 'refused'}`)
  for (const { table, engine, view, on, window } of deduplication) {
    const behind = view ? `${table} (${engine}, filled by ${view})` : table
    const remembers = window ? `on, remembers ${window} INSERTs` : 'on'
    lines.push(`  deduplication of ${behind}: ${on ? remembers : 'off'}`)
  }
  lines.push(...rules.map((rule) => `  ${sanitize(rule)}`))
  if (columns.length > 0) {
    lines.push(
      ...aligned([
        ['column', 'type', 'from', 'if it is missing'],
        ...columns.map(({ name, type, defaultKind, source, required, missing }) => [
          name,
          type,
          source ?? (/^(|DEFAULT)$/.test(defaultKind) ? 'not filled' : `ClickHouse: ${defaultKind}`),
          required ? 'required: a dead letter' : (missing ?? ''),
        ]),
      ]),
    )
  }
  return block(lines)
}

/** The counts of a sample, how its times were understood, and its dead letters by reason, each with an example. */
function printSample({ messages, rows, deadLetters, dropped, seconds, routes: seen, reasons }, routes) {
  const notTaken = (count) => (count > 0 ? `, ${count} dropped` : '')
  return block([
    `sample: ${many(messages, 'message')} in ${seconds.toFixed(1)} s, ${many(rows, 'row')}, ${many(deadLetters, 'dead letter')}${notTaken(dropped)}`,
    ...seen.flatMap((its, i) => [
      `  routes[${i}] ${routes[i]?.topic ?? ''}: ${many(its.messages, 'message')}, ${many(its.rows, 'row')}${notTaken(its.dropped)}`,
      ...storedLines(its),
      ...its.times.map(({ column, text, time }) => `    ${sanitize(column)}: ${sanitize(text)} is ${time}`),
      ...transformLines(its.transform),
    ]),
    ...reasons.flatMap(({ count, code, message, topic, payload }) => [
      `  ${count} ${code}: ${sanitize(message)}`,
      `    such as ${sanitize(topic)} ${sanitize(payload)}`,
    ]),
  ])
}

/** Describes what ClickHouse would do with the rows. */
function storedLines({ partitions, expired }) {
  const parts = [...(partitions ? [`of ${many(partitions, 'partition')}`] : []), ...(expired ? [`${expired} past the TTL`] : [])]
  return parts.length > 0 ? [`    its rows: ${parts.join(', ')}`] : []
}

/** Describes what a transform did with the rows. */
function transformLines(transform) {
  if (!transform) return []
  const { rows, dropped, rejected, emitted, error, reasons } = transform
  if (error) return [`    its transform failed: ${sanitize(error)}`]
  return [
    `    its transform: ${many(rows, 'row')}, ${dropped} dropped, ${rejected} rejected, ${emitted} emitted`,
    ...reasons.map((reason) => `      rejected: ${sanitize(reason)}`),
  ]
}

function printFinding({ level, code, path, message, advice }, source) {
  const place = path ? ` ${path} (${source.placeOf(path)})` : ''
  // The engine's messages begin with the path, which `place` has already.
  const own = path && message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message
  // ClickHouse's message about a wrong password has several paragraphs: only the first is printed.
  const [text] = own.split(/\n\s*\n/)
  return block([`${level}: ${code}${place}`, `  ${sanitize(text)}`, ...(advice ? [`  → ${advice}`] : [])])
}

function summary(findings) {
  const counts = ['error', 'warning', 'note'].map((level) => many(findings.filter((its) => its.level === level).length, level))
  return `${counts.join(', ')}\n`
}

function many(count, what) {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

/** Rows of cells, each column as wide as its widest. */
function aligned(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)))
  return rows.map((row) => `    ${row.map((cell, i) => cell.padEnd(widths[i])).join('  ')}`.trimEnd())
}

function block(lines) {
  return `${lines.join('\n')}\n`
}

module.exports = { check }
