'use strict'

// serveHttp() and httpHandler(): metrics, probes and the dashboard of a pipeline over HTTP. Everything is read-only and needs no
// password, so the server listens on the loopback unless `host` says otherwise. On the loopback it accepts only loopback names
// in the Host header: a web page can make a browser resolve the page's own name to 127.0.0.1.

const { createServer } = require('node:http')
const { dashboard } = require('../dashboard/page.js')
const { configError } = require('../native.js')
const { Monitor } = require('./monitor.js')

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]']
const TEXT = 'text/plain; charset=utf-8'
const EXPOSITION = 'text/plain; version=0.0.4; charset=utf-8'

/**
 * Answers requests for a pipeline's paths; see index.d.ts.
 *
 * @param {any} pipeline
 * @param {{ hosts?: string[] }} [options]
 */
function httpHandler(pipeline, { hosts } = {}) {
  const monitor = new Monitor(pipeline)
  const pages = {
    '/': () => {
      const { html, policy } = dashboard()
      return { type: 'text/html; charset=utf-8', body: html, policy }
    },
    '/status.json': (query) => {
      const from = Number(query.get('from')) || 0
      return { type: 'application/json', body: JSON.stringify(monitor.status(from)) }
    },
    '/metrics': () => ({ type: EXPOSITION, body: pipeline.prometheus() }),
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
      return ready ? { body: 'ready\n' } : { status: 503, body: `not ready\n${reasons.join('\n')}\n` }
    },
  }

  const handle = (request, response) => {
    const [path, query] = split(request.url)
    if (!Object.hasOwn(pages, path)) return false
    if (hosts && !hosts.includes(hostName(request))) {
      answer(request, response, { status: 421, body: 'this host name is not answered to\n' })
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD')
      answer(request, response, { status: 405, body: 'GET and HEAD alone\n' })
    } else {
      answer(request, response, pages[path](new URLSearchParams(query)))
    }
    return true
  }
  handle.close = () => monitor.close()
  return handle
}

/**
 * An HTTP server with that handler.
 *
 * @param {any} pipeline
 * @param {{ host?: string, port?: number, hosts?: string[] }} [options]
 */
async function serveHttp(pipeline, { host = '127.0.0.1', port = 0, hosts } = {}) {
  if (typeof host !== 'string' || host === '') throw configError('host', 'must be a name or an address')
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw configError('port', 'must be a port, 0 to 65535')
  const handle = httpHandler(pipeline, { hosts: hosts ?? (isLoopback(host) ? [...LOOPBACK, host] : undefined) })
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

module.exports = { httpHandler, serveHttp }
