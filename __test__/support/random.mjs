// Random values from a seed: SEED=<the seed printed> npm test repeats a failure.

export class Random {
  #state

  constructor(seed) {
    this.#state = seed >>> 0
  }

  static seed() {
    return process.env.SEED ? Number(process.env.SEED) : (Date.now() ^ (process.pid << 16)) >>> 0
  }

  /** mulberry32: 32 random bits. */
  bits() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let z = this.#state
    z = Math.imul(z ^ (z >>> 15), z | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return (z ^ (z >>> 14)) >>> 0
  }

  /** An integer from 0 to `below - 1`. */
  below(below) {
    return this.bits() % below
  }

  /**
   * From `min` to `max`, both included.
   *
   * @param {bigint} min
   * @param {bigint} max
   */
  between(min, max) {
    const count = max - min + 1n
    let wide = 0n
    for (let limit = 1n; limit < count; limit <<= 32n) wide = (wide << 32n) | BigInt(this.bits())
    return min + (wide % count)
  }

  chance(probability) {
    return this.bits() / 2 ** 32 < probability
  }

  pick(list) {
    return list[this.below(list.length)]
  }
}
