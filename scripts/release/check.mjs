// Before a release: that the versions are one, that the tag is of it, that this is the repository which package.json names
// (the provenance would be refused otherwise), and that the changelog has the version with a date.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { manifest, ROOT, targets } from './targets.mjs'

const read = (/** @type {string} */ path) => readFileSync(join(ROOT, path), 'utf8')

/** @param {NodeJS.ProcessEnv} env of GitHub Actions @returns {string[]} what is wrong */
export function problems({ GITHUB_REF_TYPE, GITHUB_REF_NAME, GITHUB_REPOSITORY }) {
  const { version, repository } = manifest()
  const found = []
  const cargo = /^\[workspace\.package\]\nversion = "(.+)"$/m.exec(read('Cargo.toml'))?.[1]
  if (cargo !== version) found.push(`Cargo.toml has version ${cargo}, package.json ${version}`)
  for (const target of targets()) {
    const own = JSON.parse(read(`npm/${target.name}/package.json`))
    if (own.version !== version) found.push(`npm/${target.name} has version ${own.version}, package.json ${version}`)
    if (own.name !== target.package) found.push(`npm/${target.name} is called ${own.name}, not ${target.package}`)
  }
  if (GITHUB_REF_TYPE === 'tag') {
    if (GITHUB_REF_NAME !== `v${version}`) found.push(`the tag is ${GITHUB_REF_NAME}, not v${version}`)
    if (!new RegExp(`^## ${version.replaceAll('.', '\\.')} – \\d{4}-\\d\\d-\\d\\d$`, 'm').test(read('CHANGELOG.md'))) {
      found.push(`CHANGELOG.md has no "## ${version} – <date>"`)
    }
  }
  if (GITHUB_REPOSITORY && repository.url !== `git+https://github.com/${GITHUB_REPOSITORY}.git`) {
    found.push(`package.json names the repository ${repository.url}, and this is ${GITHUB_REPOSITORY}`)
  }
  return found
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const found = problems(process.env)
  for (const problem of found) console.error(problem)
  process.exitCode = found.length > 0 ? 1 : 0
}
