import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Asks again and again until the condition gives something truthy, and returns that.
 *
 * A condition that throws is not met yet: while a server restarts, its queries fail. The last error is the
 * `cause` of the error at the deadline, so that a mistake in the condition itself is not hidden.
 *
 * @template T
 * @param {() => T | Promise<T>} condition
 * @param {{ timeoutMs?: number, intervalMs?: number, message?: string | (() => string) }} [options] `message`
 *   completes the sentence "… did not come true within"; a function is called at the deadline
 * @returns {Promise<T>}
 */
export async function waitFor(condition, { timeoutMs = 10_000, intervalMs = 10, message = 'the condition' } = {}) {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    let cause
    try {
      const value = await condition()
      if (value) return value
    } catch (error) {
      cause = error
    }
    if (Date.now() >= deadline) {
      const what = typeof message === 'function' ? message() : message
      throw new Error(`${what} did not come true within ${timeoutMs} ms`, { cause })
    }
    await sleep(intervalMs)
  }
}
