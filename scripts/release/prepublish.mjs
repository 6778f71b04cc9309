// prepublishOnly: `npm publish` in the repository is refused, unless it is a dry run, in which nothing is looked at.
//
// scripts/release/publish.mjs publishes the nine tarballs of `npm run package -- --all`: the
// package.json here has no optional dependencies (see tarballs.mjs). An artifact that is missing is
// named first: a main package whose platform packages are not all there fails for users of yarn, deno
// and `npm ci`.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { faults } from './binary.mjs'
import { GLIBC_FLOOR, targets } from './targets.mjs'

if (process.env.npm_config_dry_run === 'true') {
  console.log('a dry run: nothing is checked')
} else {
  const problems = targets().flatMap((target) => {
    const path = join(target.folder, target.addon)
    if (!existsSync(path)) return [`${target.package}: ${target.addon} is missing`]
    return faults(readFileSync(path), target, GLIBC_FLOOR).map((fault) => `${target.package}: ${fault}`)
  })
  if (problems.length > 0) {
    console.error(`not published:\n  ${problems.join('\n  ')}`)
    console.error('npm run artifacts brings what the release workflow has built from artifacts/ into npm/')
  } else {
    console.error('not published from here: npm run package -- --all, then node scripts/release/publish.mjs')
  }
  process.exitCode = 1
}
