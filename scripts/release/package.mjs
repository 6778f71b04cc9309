// npm run package: the tarballs of the main package and of one platform package, in target/package.
//
//   npm run package                         for this machine
//   npm run package -- <target>             for another Linux: x86_64-unknown-linux-musl, aarch64-unknown-linux-gnu, …
//   npm run package -- --all                all nine, from the addons that lie in npm/ (`npm run artifacts`)
//   npm run package -- --built [<target>]   from the addon that lies in npm/ already
//
// Both tarballs can be installed together before anything is published: npm install ./target/package/*.tgz

import { rmSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from './build.mjs'
import { packMain, packPlatform } from './tarballs.mjs'
import { hostTarget, ROOT, targetNamed, targets } from './targets.mjs'

const OUTPUT = join(ROOT, 'target', 'package')

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { all: { type: 'boolean' }, built: { type: 'boolean' } },
  })
  const wanted = values.all ? targets() : [positionals[0] ? targetNamed(positionals[0]) : hostTarget()]
  if (!values.all && !values.built) build(wanted[0])
  rmSync(OUTPUT, { recursive: true, force: true })
  const tarballs = [...wanted.map((target) => packPlatform(target, OUTPUT)), packMain(OUTPUT)]
  for (const tarball of tarballs) {
    console.log(`${relative(process.cwd(), tarball)}  ${(statSync(tarball).size / 1e6).toFixed(2)} MB`)
  }
} catch (error) {
  console.error(/** @type {Error} */ (error).message)
  process.exitCode = 1
}
