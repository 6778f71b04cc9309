// A proxy before ClickHouse that is bad at it: it answers with a login page, with 413, 502 or nothing, cuts bodies on their way and
// answers on theirs. `faults` says which of these, and how often.

import { once } from 'node:events'
import { createServer, request } from 'node:http'

/** The faults of a request. */
export const FAULTS = /** @type {const} */ (['page', 'empty', 'too large', 'bad gateway', 'cut body', 'lost answer', 'reset'])

/**
 * Forwards requests to `target`, an http URL.
 *
 * @param {string} target
 * @param {import('./random.mjs').Random} random
 */
export async function startFaultProxy(target, random) {
  const proxy = new FaultProxy(target, random)
  await proxy.listen()
  return proxy
}

class FaultProxy {
  /** The faults that requests meet now, and with what probability one of them. */
  faults = /** @type {string[]} */ ([])
  probability = 0.3
  /** How often each was played. */
  played = Object.fromEntries(FAULTS.map((fault) => [fault, 0]))

  #target
  #random
  #server

  constructor(target, random) {
    this.#target = target
    this.#random = random
    this.#server = createServer((incoming, answer) => this.#serve(incoming, answer))
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.url = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (this.#server.address()).port}`
  }

  close() {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  async #serve(incoming, answer) {
    incoming.on('error', () => {})
    answer.on('error', () => {})
    const chunks = []
    try {
      for await (const chunk of incoming) chunks.push(chunk)
    } catch {
      return
    }
    const body = Buffer.concat(chunks)
    const fault = this.faults.length > 0 && this.#random.chance(this.probability) ? this.#random.pick(this.faults) : undefined
    // A small enough body always passes, as with a real limit.
    const plays = fault === 'too large' ? body.length > 2_000 : fault !== undefined
    if (!fault || !plays) return this.#forward(incoming, body, answer)
    this.played[fault]++
    switch (fault) {
      case 'page':
        return answer.writeHead(200, { 'content-type': 'text/html' }).end('<html>Please log in</html>')
      case 'empty':
        return answer.writeHead(200).end()
      case 'too large':
        return answer.writeHead(413).end('<html>413 Request Entity Too Large</html>')
      case 'bad gateway':
        return answer.writeHead(502).end('<html>502 Bad Gateway</html>')
      case 'reset':
        return incoming.socket.destroy()
      case 'cut body':
        return this.#forward(incoming, body.subarray(0, this.#random.below(body.length + 1)), answer)
      case 'lost answer':
        return this.#forward(incoming, body, answer, () => incoming.socket.destroy())
    }
  }

  #forward(incoming, body, answer, lose = undefined) {
    const { host, 'transfer-encoding': _, ...headers } = incoming.headers
    const url = new URL(incoming.url, this.#target)
    const outgoing = request(url, { method: incoming.method, headers: { ...headers, 'content-length': body.length } }, (response) => {
      if (lose) {
        response.resume()
        return lose()
      }
      answer.writeHead(response.statusCode ?? 502, response.headers)
      response.pipe(answer)
      response.on('error', () => answer.destroy())
    })
    outgoing.on('error', () => incoming.socket.destroy())
    outgoing.end(body)
  }
}
