'use strict'

// serveHttp() and httpHandler(): metrics, probes and the dashboard of a pipeline over HTTP. Everything is read-only and needs no
// password, so the server listens on the loopback unless `host` says otherwise. On the loopback it accepts only loopback names
// in the Host header: a web page can make a browser resolve the page's own name to 127.0.0.1.

const { createServer } = require('node:http')
const { dashboard } = require('../dashboard/page.js')
const { configError } = require('../native.js')
const { withLabels } = require('./exposition.js')
const { Monitor } = require('./monitor.js')

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]']
const TEXT = 'text/plain; charset=utf-8'
const EXPOSITION = 'text/plain; version=0.0.4; charset=utf-8'
/** Names that begin with `__` are reserved by Prometheus. */
const LABEL_NAME = /^(?!__)[A-Za-z_]\w*$/

/**
 * Answers requests for a pipeline's paths; see index.d.ts.
 *
 * @param {any} pipeline
 * @param {{ hosts?: string[], labels?: Record<string, string> }} [options]
 */
function httpHandler(pipeline, { hosts, labels = {} } = {}) {
  checkLabels(labels)
  const monitor = new Monitor(pipeline)
  const handle = pagesHandler(
    {
      '/': dashboardPage,
      '/status.json': (query) => {
        const from = Number(query.get('from')) || 0
        return { type: 'application/json', body: JSON.stringify({ ...monitor.status(from), labels }) }
      },
      '/metrics': () => ({ type: EXPOSITION, body: withLabels(pipeline.prometheus(), labels) }),
      '/healthz': () => {
        const { failure } = monitor
        return failure ? { status: 503, body: `failed: ${failure}\n` } : { body: 'alive\n' }
      },
      '/startupz': () => {
        const { isStarted, reasons } = monitor.startup()
        return isStarted ? { body: 'started\n' } : { status: 503, body: `not started\n${reasons.join('\n')}\n` }
      },
      '/readyz': () => {
        const { ready, reasons } = monitor.readiness()
        return readiness(ready, reasons)
      },
    },
    hosts,
  )
  return Object.assign(handle, { close: () => monitor.close() })
}

/**
 * Answers requests for these pages: functions of the query that give what `answer` takes, or a promise of it.
 *
 * @param {Record<string, (query: URLSearchParams) => any>} pages
 * @param {string[] | undefined} hosts accepted in the Host header; undefined: all
 * @param {(path: string, query: string) => any} [other] a page that is found by its path; undefined: there is none
 */
function pagesHandler(pages, hosts, other = () => undefined) {
  return (request, response) => {
    const [path, query] = split(request.url)
    const page = Object.hasOwn(pages, path) ? () => pages[path](new URLSearchParams(query)) : other(path, query)
    if (page === undefined) return false
    if (hosts && !hosts.includes(hostName(request))) {
      answer(request, response, { status: 421, body: 'this host name is not answered to\n' })
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD')
      answer(request, response, { status: 405, body: 'GET and HEAD alone\n' })
    } else {
      const content = page()
      if (typeof content.then === 'function') void content.then((its) => answer(request, response, its))
      else answer(request, response, content)
    }
    return true
  }
}

function dashboardPage() {
  const { html, policy } = dashboard()
  return { type: 'text/html; charset=utf-8', body: html, policy }
}

function readiness(ready, reasons) {
  return ready ? { body: 'ready\n' } : { status: 503, body: `not ready\n${reasons.join('\n')}\n` }
}

function checkLabels(labels) {
  if (typeof labels !== 'object' || labels === null) throw configError('labels', 'must be an object')
  for (const [name, value] of Object.entries(labels)) {
    const path = `labels.${name}`
    if (!LABEL_NAME.test(name)) throw configError(path, 'must be a name of letters, digits and _, not beginning with __ or a digit')
    if (typeof value !== 'string') throw configError(path, 'must be a string')
  }
}

/**
 * An HTTP server with that handler.
 *
 * @param {any} pipeline
 * @param {{ host?: string, port?: number, hosts?: string[], labels?: Record<string, string> }} [options]
 */
function serveHttp(pipeline, { labels, ...address } = {}) {
  return listen(({ hosts }) => httpHandler(pipeline, { hosts, labels }), address)
}

/**
 * An HTTP server with the handler that `makeHandler` gives for the accepted host names.
 *
 * @param {(options: { hosts?: string[] }) => any} makeHandler
 * @param {{ host?: string, port?: number, hosts?: string[] }} [options]
 */
async function listen(makeHandler, { host = '127.0.0.1', port = 0, hosts } = {}) {
  if (typeof host !== 'string' || host === '') throw configError('host', 'must be a name or an address')
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw configError('port', 'must be a port, 0 to 65535')
  const handle = makeHandler({ hosts: hosts ?? (isLoopback(host) ? [...LOOPBACK, host] : undefined) })
  const server = createServer((request, response) => {
    if (!handle(request, response)) answer(request, response, { status: 404, body: 'there is nothing here\n' })
  })
  try {
    await new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, () => resolve(undefined))
    })
  } catch (error) {
    handle.close()
    throw error
  }

  let closed
  const close = () => {
    handle.close()
    closed ??= new Promise((resolve) => {
      server.close(() => resolve(undefined))
      server.closeAllConnections()
    })
    return closed
  }
  const name = host.includes(':') ? `[${host}]` : host
  const address = /** @type {import('node:net').AddressInfo} */ (server.address())
  return { url: `http://${name}:${address.port}/`, close }
}

function answer(request, response, { status = 200, type = TEXT, body, policy = "default-src 'none'" }) {
  const bytes = Buffer.from(body)
  response.writeHead(status, {
    'content-type': type,
    'content-length': bytes.length,
    'cache-control': 'no-store',
    'content-security-policy': `${policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  })
  response.end(request.method === 'HEAD' ? undefined : bytes)
}

function split(url) {
  const at = url.indexOf('?')
  return at < 0 ? [url, ''] : [url.slice(0, at), url.slice(at + 1)]
}

/** The Host header without its port. */
function hostName({ headers }) {
  return (headers.host ?? '').replace(/:\d+$/, '').toLowerCase()
}

function isLoopback(host) {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}

module.exports = { EXPOSITION, dashboardPage, httpHandler, listen, pagesHandler, readiness, serveHttp }
