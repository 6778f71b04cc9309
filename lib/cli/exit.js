'use strict'

// Exit codes and signals. docs/cli.md documents the codes; they are stable.

const OK = 0
/** The command could not start or go on, or it found a problem. */
const FAILED = 1
/** The command line or the configuration is wrong: another attempt will fail too. */
const USAGE = 2
/** Stopped before everything was in ClickHouse. */
const NOT_DRAINED = 3

/** A second signal exits at once, with the code that shells use for it. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 }

/** An error that is printed without its stack. */
class CommandError extends Error {
  exitCode = FAILED
}

/** An error of the command line or of the configuration file. */
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
