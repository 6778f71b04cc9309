// The addons for the other Linux systems, each in the Node.js of its system: musl by musl's own loader, arm64 by emulation of
// the processor. The addons are those that zig builds here.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { build } from '../../scripts/release/build.mjs'
import { packMain, packPlatform } from '../../scripts/release/tarballs.mjs'
import { targetNamed } from '../../scripts/release/targets.mjs'
import { waitFor } from '../../tools/servers/index.mjs'
import { usePackage } from './setup.mjs'
import { nodeOf, SYSTEMS } from './systems.mjs'

const timeout = 30 * 60_000
const world = usePackage()

before(() => waitFor(() => world.registry && world.servers.broker?.url, { timeoutMs: 120_000 }), { timeout })

for (const system of SYSTEMS) {
  test(`${system.triple}: the main job, as an ES module and as CommonJS, and with a transform`, { timeout }, async (t) => {
    const node = nodeOf(system)
    if ('missing' in node) return t.skip(node.missing)
    const target = targetNamed(system.triple)
    if (!existsSync(join(target.folder, target.addon))) build(target)
    const project = world.project()
    const folder = join(world.folder, system.triple)
    mkdirSync(folder)
    // The package manager of this system would take the addon of this system.
    unpack(packMain(folder), join(project, 'node_modules', 'millrace'))
    unpack(packPlatform(target, folder), join(project, 'node_modules', target.package))

    const report = `const { header } = process.report.getReport(); console.log(process.arch, header.glibcVersionRuntime ? 'glibc' : 'musl')`
    assert.equal((await world.succeeds(project, [...node.command, '-e', report])).trim(), `${target.cpu} ${target.libc}`)
    await world.works(project, [...node.command, 'job.mjs'])
    await world.works(project, [...node.command, 'job.cjs'])
    await world.transforms(project, [...node.command, 'transform.mjs'], {})
    await world.transforms(project, [...node.command, 'transform.mjs'], { env: { MODULE: '1' } })
  })
}

/** @param {string} tarball @param {string} folder */
function unpack(tarball, folder) {
  mkdirSync(folder, { recursive: true })
  execFileSync('tar', ['-xzf', tarball, '-C', folder, '--strip-components=1'])
}
