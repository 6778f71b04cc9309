// A pool of mqtt.js clients that publishes many messages at once and records which of them the broker acknowledged.

import { connectAsync } from 'mqtt'

export class Publisher {
  #clients
  #inFlight

  /**
   * `inFlight` is how many messages of each of the `clients` may wait for their acknowledgement; the rest is mqtt.js's.
   *
   * @param {any} options
   */
  static async open({ url, clients = 4, inFlight = 500, ...options }) {
    const opened = []
    for (let i = 0; i < clients; i++) {
      const client = await connectAsync(url, { protocolVersion: 4, reconnectPeriod: 100, ...options })
      client.on('error', () => {}) // A broker that is away is part of some tests; mqtt.js connects again by itself.
      opened.push(client)
    }
    return new Publisher(opened, inFlight)
  }

  constructor(clients, inFlight) {
    this.#clients = clients
    this.#inFlight = inFlight
  }

  /** One message. Resolves when the broker has it (QoS 1), or when it is written (QoS 0). */
  async publish(topic, payload, options = {}) {
    const text = typeof payload === 'string' || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload)
    await this.#clients[0].publishAsync(topic, text, { qos: 1, ...options })
  }

  /**
   * Messages `0 .. count - 1` as `message(i)` gives them: `{ topic, payload }`. Resolves when all are acknowledged.
   * `acknowledged(i)` is called for each one.
   */
  async flood(count, message, { qos = 1, acknowledged = (_number) => {} } = {}) {
    let next = 0
    await Promise.all(
      this.#clients.map(async (client) => {
        let open = 0
        let wake
        while (next < count) {
          if (open >= this.#inFlight) {
            await new Promise((resolve) => (wake = resolve))
          } else {
            const i = next++
            open++
            const { topic, payload } = message(i)
            client.publish(topic, payload, { qos }, (error) => {
              open--
              if (!error) acknowledged(i)
              if (open <= this.#inFlight / 2) wake?.()
            })
          }
        }
        while (open > 0) await new Promise((resolve) => (wake = resolve))
      }),
    )
  }

  async close() {
    await Promise.all(this.#clients.map((client) => client.endAsync(true)))
  }
}

/**
 * Publishes messages as `publisher.flood()` does until `end()` is called, so that no machine is too slow to stop a
 * pipeline in the middle of them. `end()` publishes 1,000 more and resolves to the number of all that were published.
 *
 * @param {Publisher} publisher
 * @param {(number: number) => { topic: string, payload: string | Buffer }} message
 */
export function endlessFlood(publisher, message) {
  const LIMIT = 1_000_000
  let count = 0
  let isEnded = false
  const publish = async (more) => {
    const from = count
    count += more
    await publisher.flood(more, (i) => message(from + i))
  }
  const publishing = (async () => {
    while (!isEnded && count < LIMIT) await publish(5_000)
  })()
  return {
    async end() {
      isEnded = true
      await publishing
      await publish(1_000)
      return count
    },
  }
}
