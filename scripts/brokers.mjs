// npm run brokers: plays the scenarios of __test__/delivery/brokers.test.mjs with each broker that is installed, as npm run
// test:full does, and writes what was seen into the table of docs/brokers.md.
//
//   npm run brokers                    all brokers: about an hour
//   npm run brokers -- NATS aedes      some of them; the other columns stay
//   npm run brokers -- --check         writes nothing, and fails where the table says something else

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CHECK = '--check'
const args = process.argv.slice(2)
const names = args.filter((arg) => arg !== CHECK)
const env = {
  ...process.env,
  MILLRACE_TEST_FULL: '1',
  ...(names.length > 0 && { MILLRACE_TEST_BROKERS: names.join(',') }),
  ...(!args.includes(CHECK) && { MILLRACE_WRITE_BROKERS: '1' }),
}
const file = fileURLToPath(new URL('../__test__/delivery/brokers.test.mjs', import.meta.url))
const { status } = spawnSync(process.execPath, ['--test', '--test-reporter=spec', file], { env, stdio: 'inherit' })
process.exitCode = status ?? 1
