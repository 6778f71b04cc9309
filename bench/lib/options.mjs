import { parseArgs } from 'node:util'

/**
 * The options of a program of which all are numbers, such as `--seconds 20`. `--help` prints `help` and ends.
 *
 * @template {Record<string, { default: number, min: number, max: number }>} T
 * @param {string} help
 * @param {T} known
 * @returns {{ [name in keyof T]: number }}
 */
export function numberOptions(help, known) {
  const names = Object.keys(known)
  /** @type {import('node:util').ParseArgsConfig['options']} */
  const options = { help: { type: 'boolean' } }
  for (const name of names) options[name] = { type: 'string' }
  const { values } = parseArgs({ options })
  if (values.help) {
    console.log(help)
    process.exit()
  }
  const number = (name) => {
    const { default: value, min, max } = known[name]
    if (values[name] === undefined) return value
    const given = Number(values[name])
    if (!Number.isInteger(given) || given < min || given > max) {
      throw new Error(`--${name} takes a whole number from ${min} to ${max}, not "${values[name]}"`)
    }
    return given
  }
  return /** @type {any} */ (Object.fromEntries(names.map((name) => [name, number(name)])))
}
