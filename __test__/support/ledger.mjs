// Checks that every snapshot of the metrics accounts for every message received.

import assert from 'node:assert/strict'

/** received = inserted + deadLettered + dropped + skipped + pending, and nothing is negative. */
export function assertLedger(metrics) {
  const { received, inserted, deadLettered, dropped, skipped, pending } = metrics.messages
  for (const [name, count] of Object.entries(metrics.messages)) {
    assert.ok(Number.isSafeInteger(count) && count >= 0, `messages.${name} is ${count}`)
  }
  assert.equal(
    inserted + deadLettered + dropped + skipped + pending,
    received,
    `the ledger does not balance: ${JSON.stringify(metrics.messages)}`,
  )
}

/**
 * Checks the ledger of a pipeline in every 'metrics' event, and in a snapshot every few milliseconds, until `close()`,
 * which throws what was found wrong.
 */
export function watchLedger(pipeline) {
  const faults = []
  let snapshots = 0
  let events = 0
  const look = (metrics) => {
    try {
      assertLedger(metrics)
    } catch (error) {
      faults.push(error)
    }
  }
  const heard = (metrics) => {
    events++
    look(metrics)
  }
  pipeline.on('metrics', heard)
  const timer = setInterval(() => {
    snapshots++
    look(pipeline.metrics())
  }, 5)
  // A test that fails does not get to close().
  timer.unref()
  return {
    get events() {
      return events
    },
    close() {
      clearInterval(timer)
      pipeline.off('metrics', heard)
      look(pipeline.metrics())
      if (faults.length > 0) throw faults[0]
      assert.ok(snapshots > 0, 'no snapshot was looked at')
    },
  }
}
