import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const MODULES = fileURLToPath(new URL('../../node_modules', import.meta.url))

/**
 * The Bun of the devDependencies. npm may not have run the script with which the package puts its program in place:
 * `bun/bin/bun.exe` is a placeholder then, on every platform, and the program still lies in the platform's package.
 *
 * @returns {string | undefined} the path of the program
 */
export function findBun() {
  const scope = join(MODULES, '@oven')
  const platforms = existsSync(scope) ? readdirSync(scope) : []
  const candidates = [
    join(MODULES, 'bun', 'bin', 'bun.exe'),
    ...platforms.flatMap((name) => ['bun', 'bun.exe'].map((file) => join(scope, name, 'bin', file))),
  ]
  return candidates.find((path) => existsSync(path) && statSync(path).size > 1_000_000)
}
