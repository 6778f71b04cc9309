// Writes the two files that `clickhouse local` reads: its configuration, and its users.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * An element by its name: text, further elements, or several of the same name.
 *
 * @typedef {string | number | boolean | { [name: string]: Xml } | Xml[]} Xml
 */

/**
 * @param {string} directory to write into
 * @param {{
 *   settings: Record<string, string | number | boolean>,
 *   config: Record<string, Xml>,
 *   users: Record<string, string | Record<string, Xml>>,
 * }} options
 * @returns {string} the path of the configuration
 */
export function writeClickHouseConfig(directory, { settings, config, users }) {
  const usersFile = join(directory, 'users.xml')
  /** @type {Record<string, Xml>} */
  const all = { default: user('') }
  for (const [name, value] of Object.entries(users)) all[name] = user(value)
  write(usersFile, { profiles: { default: settings }, quotas: { default: {} }, users: all })

  const file = join(directory, 'config.xml')
  write(file, { users_config: usersFile, ...config })
  return file
}

/**
 * @param {string | Record<string, Xml>} value a password, or the user
 * @returns {Xml}
 */
function user(value) {
  const given = typeof value === 'string' ? { password: value } : value
  return { networks: { ip: '::/0' }, profile: 'default', quota: 'default', ...given }
}

/**
 * @param {string} file
 * @param {Record<string, Xml>} content
 */
function write(file, content) {
  writeFileSync(file, `${element('clickhouse', content)}\n`)
}

/**
 * @param {string} name
 * @param {Xml} value
 * @returns {string}
 */
function element(name, value) {
  if (Array.isArray(value)) return value.map((one) => element(name, one)).join('')
  const content =
    typeof value === 'object'
      ? Object.entries(value).map(([inner, its]) => element(inner, its)).join('')
      : String(value).replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`)
  return `<${name}>${content}</${name}>`
}
