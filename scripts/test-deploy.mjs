// npm run test:deploy: checks the files of deploy/ with the tools that read them in operation. Debian's packages and PyPI's are
// unpacked into a cache folder, without rights of an administrator, and without a change of the machine.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const CACHE = join(ROOT, 'node_modules', '.cache', 'deploy-tools')
/** promtool and amtool. */
const DEBIAN = ['prometheus', 'prometheus-alertmanager']
const PYPI = ['kubernetes-validate', 'yamllint']

/** Runs a program, whose output is shown where it fails. */
function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', ...options })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? ''}${stdout ?? ''}${stderr ?? ''}`)
}

function debian() {
  const root = join(CACHE, 'debian')
  if (existsSync(join(root, 'usr', 'bin', 'promtool')) && existsSync(join(root, 'usr', 'bin', 'amtool'))) return root
  const packages = join(CACHE, 'packages')
  rmSync(packages, { recursive: true, force: true })
  mkdirSync(packages, { recursive: true })
  run('apt-get', ['download', ...DEBIAN], { cwd: packages })
  for (const file of readdirSync(packages)) run('dpkg', ['--extract', join(packages, file), root])
  return root
}

function pypi() {
  const folder = join(CACHE, 'python')
  if (!existsSync(join(folder, 'bin', 'kubernetes-validate'))) {
    run('python3', ['-m', 'venv', folder])
    run(join(folder, 'bin', 'pip'), ['install', '--quiet', '--disable-pip-version-check', ...PYPI])
  }
  return folder
}

const PATH = [join(debian(), 'usr', 'bin'), join(pypi(), 'bin'), process.env.PATH].join(delimiter)
const env = { ...process.env, PATH, MILLRACE_TEST_DEPLOY: '1' }
const { status } = spawnSync(process.execPath, ['--test', '--test-reporter=spec', '__test__/ops/deploy.test.mjs'], {
  cwd: ROOT,
  env,
  stdio: 'inherit',
})
process.exitCode = status ?? 1
