// RabbitMQ with rabbitmq_mqtt as one program: rabbitmq.mjs <rabbitmq-server> <port> <epmd port> <distribution port>
// <directory>. It has an epmd of its own, on the loopback address, and both end with it.

import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [command, port, epmdPort, distributionPort, directory] = process.argv.slice(2)
writeFileSync(join(directory, 'enabled_plugins'), '[rabbitmq_mqtt].\n')
const config = [`mqtt.listeners.tcp.1 = 127.0.0.1:${port}`, 'mqtt.allow_anonymous = true', 'listeners.tcp = none']
writeFileSync(join(directory, 'rabbitmq.conf'), `${config.join('\n')}\n`)

const WATCHER = `
  const [server, epmd] = process.argv.slice(1).map(Number)
  process.stdin.resume()
  process.stdin.on('end', () => {
    for (const pid of [-server, epmd]) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {}
    }
    process.exit()
  })
`

const env = {
  ...process.env,
  HOME: directory,
  ERL_EPMD_ADDRESS: '127.0.0.1',
  ERL_EPMD_PORT: epmdPort,
  RABBITMQ_NODENAME: `millrace${port}@localhost`,
  RABBITMQ_DIST_PORT: distributionPort,
  RABBITMQ_BASE: directory,
  RABBITMQ_MNESIA_BASE: join(directory, 'mnesia'),
  RABBITMQ_LOG_BASE: join(directory, 'log'),
  RABBITMQ_LOGS: '-',
  RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
  RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
  RABBITMQ_PID_FILE: join(directory, 'pid'),
}
const epmd = spawn('epmd', ['-port', epmdPort, '-address', '127.0.0.1'], { env, stdio: 'ignore' })
// A group of its own: the shell that it is started by, Erlang, and its helpers.
const server = spawn(command, [], { env, stdio: ['ignore', 'inherit', 'inherit'], detached: true })
// Ends both when this program is gone, also when it was killed.
const watcher = spawn(process.execPath, ['-e', WATCHER, String(server.pid), String(epmd.pid)], {
  stdio: ['pipe', 'ignore', 'ignore'],
  detached: true,
})
watcher.unref()
server.on('exit', (code) => process.exit(code ?? 1))
server.on('error', (error) => {
  console.error(error.message)
  process.exit(1)
})
process.on('SIGTERM', () => process.kill(-(server.pid ?? 0), 'SIGTERM'))
