// Starts a program as a child process of the same runtime, and gives its lines and its end.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { waitFor } from '../../tools/servers/index.mjs'

/**
 * Starts `programs/<name>` with `config` as its argument, and `env` beside our environment. It is killed when the test
 * ends, if it has not ended.
 */
export function startProgram(t, name, config, env = {}) {
  return start(t, name, [fileURLToPath(new URL(`programs/${name}`, import.meta.url)), JSON.stringify(config)], env)
}

/** The same with the command line `millrace <args>`. */
export function startCommand(t, args, env = {}) {
  return start(t, 'millrace', [fileURLToPath(new URL('../../bin/millrace.js', import.meta.url)), ...args], env)
}

function start(t, name, args, env) {
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const lines = []
  const errors = []
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line))
  createInterface({ input: child.stderr }).on('line', (line) => errors.push(line))
  let end
  child.on('close', (code, signal) => (end = { code, signal }))
  t.after(() => {
    if (!end) child.kill('SIGKILL')
  })
  const told = () => `${name} said ${JSON.stringify(lines)}, and on stderr ${errors.join('\n')}`
  return {
    lines,
    errors,
    running: () => end === undefined,
    /** Its output is no longer read. */
    deafen: () => child.stdout.destroy(),
    kill: () => child.kill('SIGKILL'),
    signal: (name) => child.kill(name),
    say: (line) => child.stdin.write(`${line}\n`),
    line: async (text) => {
      await waitFor(() => lines.includes(text) || end, { timeoutMs: 30_000, message: () => `'${text}': ${told()}` })
      if (!lines.includes(text)) throw new Error(`ended before '${text}': ${JSON.stringify(end)}; ${told()}`)
    },
    end: async ({ timeoutMs = 30_000 } = {}) => {
      await waitFor(() => end, { timeoutMs, message: () => `the end of ${told()}` })
      return { ...end, stderr: errors.join('\n') }
    },
  }
}
