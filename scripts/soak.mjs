// npm run test:soak, a part of npm run test:full: everything that can go wrong, at random, and in the end each number that the
// publisher saw acknowledged is there, once. `SEED=<seed>` draws the same faults again; what is under way then depends on the
// machine.

import { soak } from '../__test__/support/soak.mjs'
import { numberOptions } from '../bench/lib/options.mjs'

const HELP = `npm run test:soak -- [options]

  --minutes <n>   for so long     [30]
  --rate <n>      messages per second     [1000]`

const { minutes, rate } = numberOptions(HELP, {
  minutes: { default: 30, min: 1, max: 100_000 },
  rate: { default: 1_000, min: 1, max: 20_000 },
})
const { missing, doubled, faults, hasDisk, said, ...counts } = await soak({ minutes, perSecond: rate, log: console.log })
const line = (what, value) => console.log(`${what.padEnd(24)} ${value}`)
console.log()
line('seed', counts.seed)
for (const what of ['kills', 'stops of ClickHouse', 'kills of ClickHouse', 'stops of the broker']) line(what, counts[what])
line('full disks', hasDisk ? counts['full disks'] : 'none: only root can mount one')
for (const [fault, count] of Object.entries(faults)) line(`proxy: ${fault}`, count)
line('published', counts.published)
line('acknowledged', counts.acknowledged)
line('rows', counts.rows)
line('dead letters', counts.deadLetters)
line('acknowledged and lost', missing.length)
line('doubled', doubled.length)
line('minutes', counts.minutes.toFixed(1))
if (missing.length > 0) console.log(`lost: ${missing.slice(0, 20)}`)
if (doubled.length > 0) console.log(`doubled: ${doubled.slice(0, 20)}`)
if (missing.length + doubled.length > 0) console.log(said.slice(-200).join('\n'))
process.exit(missing.length > 0 || doubled.length > 0 ? 1 : 0)
