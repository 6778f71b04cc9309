'use strict'

// How a command ends. The codes are documented in docs/cli.md and stable.

const OK = 0
/** It could not start or go on, or what it found is not as it should be. */
const FAILED = 1
/** The command line or the configuration is wrong: the same again will fail again. */
const USAGE = 2
/** Stopped before everything was in ClickHouse. */
const NOT_DRAINED = 3

/** A second signal ends at once, with the code that shells give to it. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 }

/** An error of which `message` is all that is to be told. */
class CommandError extends Error {
  exitCode = FAILED
}

/** The user is to mend the command line or the configuration file. */
class UsageError extends CommandError {
  exitCode = USAGE
}

/**
 * Calls `first` with the name of the first SIGINT or SIGTERM; a second one ends the process.
 *
 * @param {(signal: string) => void} first
 * @returns {() => void} stops listening
 */
function onSignal(first) {
  let count = 0
  const heard = (/** @type {keyof typeof SIGNALS} */ signal) => {
    if (++count > 1) process.exit(SIGNALS[signal])
    first(signal)
  }
  for (const signal of Object.keys(SIGNALS)) process.on(signal, heard)
  return () => {
    for (const signal of Object.keys(SIGNALS)) process.off(signal, heard)
  }
}

module.exports = { CommandError, FAILED, NOT_DRAINED, OK, SIGNALS, USAGE, UsageError, onSignal }
