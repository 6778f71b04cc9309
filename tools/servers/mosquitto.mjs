import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

// Debian installs it where only root's PATH looks.
const BESIDE_PATH = ['/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin', 'C:\\Program Files\\mosquitto']

/** @returns {string | undefined} the path of the mosquitto broker */
export function findMosquitto() {
  const name = process.platform === 'win32' ? 'mosquitto.exe' : 'mosquitto'
  return [...(process.env.PATH ?? '').split(delimiter), ...BESIDE_PATH]
    .filter(Boolean)
    .map((directory) => join(directory, name))
    .find((path) => existsSync(path))
}
