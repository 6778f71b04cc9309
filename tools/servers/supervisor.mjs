// A process between a test and one server, which outlives neither.
//
// A server must end when the process that started it ends, also when that one is killed with no chance to clean up.
// The supervisor holds on to its standard input: the system closes that pipe however its other end dies. Then the supervisor
// kills the server, and removes the temporary directory as soon as the server is gone.
//
//   supervisor.mjs <log file> <directory to remove at the end> <command> [arguments]
//
// Commands are lines of one word: `start`, or the name of a signal for the server. The answers are `started <pid>` and
// `ended <exit code, signal or error>`. A server may be started again after it ended; the log is of the last start.

import { spawn } from 'node:child_process'
import { closeSync, openSync, rmSync } from 'node:fs'
import { createInterface } from 'node:readline'

const [log, temporary, command, ...args] = process.argv.slice(2)

/** @type {import('node:child_process').ChildProcess | undefined} */
let server
let letGo = false

function start() {
  const output = openSync(log, 'w')
  // The pipe as standard input lets a server that watches it end even when the supervisor itself is killed.
  const child = spawn(command, args, { stdio: ['pipe', output, output] })
  closeSync(output)
  // A server may be gone before its pipe is closed.
  child.stdin?.on('error', () => {})
  child.once('spawn', () => console.log(`started ${child.pid}`))
  child.once('error', (error) => ended(error.message))
  child.once('exit', (code, signal) => ended(signal ?? code))
  server = child
}

/** @param {unknown} how */
function ended(how) {
  if (!server) return
  server = undefined
  console.log(`ended ${how}`)
  if (letGo) leave()
}

function release() {
  if (letGo) return
  letGo = true
  if (server) server.kill('SIGKILL')
  else leave()
}

function leave() {
  rmSync(temporary, { recursive: true, force: true, maxRetries: 10 })
  process.exit()
}

// The reader may be dead already; there is still work to do.
process.stdout.on('error', () => {})
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.on(signal, release)

const lines = createInterface({ input: process.stdin })
lines.on('line', (word) => {
  if (word === 'start') start()
  else server?.kill(/** @type {NodeJS.Signals} */ (word))
})
lines.on('close', release)
