'use strict'

// checkPipeline(): checks a configuration against its broker and ClickHouse without starting a pipeline. The engine does the
// check; this file reads the certificates that it returns, because Node.js has an X.509 parser.

const { X509Certificate } = require('node:crypto')
const { credentialsOf } = require('./credentials.js')
const { NativeCheck, callNative, configToJson, toJson, unwrap } = require('./native.js')

const DAY_MS = 24 * 3_600_000
const SOON_DAYS = 21

async function checkPipeline(config, options = {}) {
  const configText = configToJson(config)
  const optionsText = toJson(options, 'options')
  const native = callNative(() => new NativeCheck(configText, credentialsOf(config), optionsText))
  const report = await run(native, config.routes, Boolean(options.sample))
  // The engine reports MQTT filters; users know the topics of their configuration.
  const { routes } = JSON.parse(configText)
  report.routes.forEach((route, i) => Object.assign(route, { topic: routes[i].topic }))
  for (const [path, ends] of [
    ['mqtt.tls', report.brokers],
    ['clickhouse.tls', report.clickhouse],
  ]) {
    for (const { url, tls } of ends) if (tls) readCertificate(tls, url, path, report.findings)
  }
  return { ok: report.findings.every(({ level }) => level !== 'error'), ...report }
}

/** Runs the check; transforms are needed where there is a sample. */
async function run(native, routes, hasSample) {
  if (!hasSample || routes.every(({ transform }) => transform === undefined)) return unwrap(await native.run())
  const { Transforms } = require('./transform/transforms.js')
  const transforms = new Transforms(routes, native, () => {})
  try {
    await transforms.start()
    return unwrap(await native.run())
  } finally {
    await transforms.stop()
  }
}

function readCertificate(tls, url, path, findings) {
  const certificate = new X509Certificate(Buffer.from(tls.certificate, 'base64'))
  const until = new Date(certificate.validTo)
  tls.certificate = {
    subject: certificate.subject ?? '',
    issuer: certificate.issuer ?? '',
    names: certificate.subjectAltName ?? '',
    validUntil: until.toISOString(),
  }
  const days = Math.floor((until.getTime() - Date.now()) / DAY_MS)
  if (days >= SOON_DAYS) return
  findings.push({
    level: 'warning',
    code: 'CERTIFICATE_EXPIRES',
    path,
    message: `the certificate of ${url} is valid until ${until.toISOString()}: ${days < 1 ? 'less than a day' : `${days} days`}`,
    advice: 'renew it before, on the server: without a valid one no connection is made',
  })
}

module.exports = { checkPipeline }
