// npm run test:crash: a consumer with a spool is killed again and again while ClickHouse and the broker come and go, and
// every number that the publisher saw acknowledged must be in the table in the end, once. `SEED=<seed>` draws the same
// instants again, but what is under way then depends on the machine.

import { crash, PROMISED } from '../__test__/support/crashes.mjs'
import { numberOptions } from '../bench/lib/options.mjs'

const HELP = `npm run test:crash -- [options]

  --kills <n>   of the consuming process     [200]
  --rate <n>    messages per second          [2000]
  --spool <0|1> 0 does without, to see what is doubled then  [1]`

const { kills, rate, spool } = numberOptions(HELP, {
  kills: { default: 200, min: 1, max: 1_000_000 },
  rate: { default: 2_000, min: 1, max: 20_000 },
  spool: { default: 1, min: 0, max: 1 },
})
const outcome = await crash({ kills, perSecond: rate, config: spool ? PROMISED : {}, log: console.log })
const { missing, doubled, ...counts } = outcome
console.log(`
seed                     ${counts.seed}
kills                    ${counts.kills}, of which ${counts.running} while it consumed
restarts of ClickHouse   ${counts.clickhouse}
restarts of the broker   ${counts.broker}
published                ${counts.published}
acknowledged             ${counts.acknowledged}
rows                     ${counts.rows}
acknowledged and lost    ${missing.length}
in the table twice       ${doubled.length}
seconds                  ${counts.seconds.toFixed(0)}`)
if (missing.length > 0) console.log(`lost: ${missing.slice(0, 20)}`)
if (doubled.length > 0) console.log(`doubled: ${doubled.slice(0, 20)}`)
process.exit(missing.length > 0 || (spool && doubled.length > 0) ? 1 : 0)
