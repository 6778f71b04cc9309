// The HTTP endpoint of the services in JavaScript, by the server that comes with the runtime.
//
//   /metrics            Prometheus text
//   /ping               what the latency of an endpoint is measured on
//   /event-loop/start   begins to measure the delay of the event loop, which costs wake-ups of its own
//   /event-loop/stop    ends it, and gives its quantiles in milliseconds

import { createServer } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'

/**
 * @param {() => string | Promise<string>} metrics
 * @returns {Promise<number>} the port
 */
export async function serve(metrics) {
  const eventLoop = new EventLoop()
  const routes = {
    '/metrics': metrics,
    '/ping': () => 'pong\n',
    '/event-loop/start': () => eventLoop.start(),
    '/event-loop/stop': () => eventLoop.stop(),
  }
  const { Bun } = /** @type {any} */ (globalThis)
  if (Bun) {
    const answer = async (request) => {
      const route = routes[new URL(request.url).pathname]
      return route ? new Response(await route()) : new Response('', { status: 404 })
    }
    return Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: answer }).port
  }
  const server = createServer(async (request, response) => {
    const route = routes[request.url]
    if (!route) response.statusCode = 404
    response.end(await route?.())
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)))
  return /** @type {import('node:net').AddressInfo} */ (server.address()).port
}

class EventLoop {
  #histogram

  start() {
    this.#histogram = monitorEventLoopDelay({ resolution: 10 })
    this.#histogram.enable()
    return ''
  }

  stop() {
    this.#histogram.disable()
    const ms = (quantile) => this.#histogram.percentile(quantile) / 1e6
    return JSON.stringify({ p50: ms(50), p99: ms(99), max: this.#histogram.max / 1e6 })
  }
}
