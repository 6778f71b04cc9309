// Publishes the numbers 0, 1, 2, … at QoS 1 or 2, each once: a number that the broker has not acknowledged when a connection
// ends is never sent again, because whether it has arrived is not known.

import { setTimeout as sleep } from 'node:timers/promises'
import { connectAsync } from 'mqtt'

/** How many numbers may wait for their acknowledgement. */
const WINDOW = 200

export class Numbers {
  /** How many were published. */
  published = 0
  /** The numbers that the broker has acknowledged. */
  acknowledged = new Set()

  #url
  #topic
  #qos
  #payload
  #goes = true
  #work

  /**
   * @param {{ url: string, topic: string | ((number: number) => string), qos: 1 | 2, perSecond: number, payload?: (number: number) => object }} options
   */
  constructor({ url, topic, qos, perSecond, payload = (number) => ({ number }) }) {
    this.#payload = payload
    this.#url = url
    this.#topic = topic
    this.#qos = qos
    this.#work = this.#run(perSecond)
  }

  /** Publishes no more, and waits for what is under way. */
  async stop() {
    this.#goes = false
    await this.#work
  }

  /** @param {number} perSecond */
  async #run(perSecond) {
    while (this.#goes) {
      try {
        const client = await connectAsync(this.#url, { reconnectPeriod: 0, connectTimeout: 2_000 })
        client.on('error', () => {})
        await this.#publish(client, perSecond)
        await client.endAsync(true)
      } catch {
        // The broker is away.
        await sleep(50)
      }
    }
  }

  async #publish(client, perSecond) {
    let open = 0
    const from = this.published
    const start = performance.now()
    while (client.connected && (this.#goes || open > 0)) {
      const due = Math.floor(((performance.now() - start) * perSecond) / 1000)
      while (this.#goes && open < WINDOW && this.published - from < due) {
        const number = this.published++
        open++
        client.publish(typeof this.#topic === 'string' ? this.#topic : this.#topic(number), JSON.stringify(this.#payload(number)), { qos: this.#qos }, (error) => {
          open--
          if (!error) this.acknowledged.add(number)
        })
      }
      await sleep(5)
    }
  }
}
