// A transform by row views, for runtimes that make no code from text: prints what it wrote.

import { Runner } from '../../../lib/transform/runner.js'
import { FakeCall, column, runOn } from '../fake-transform-call.mjs'

let names
const runner = new Runner({ table: 't', route: 0, topicFilter: 't' }, (batch) => {
  names = Object.keys(batch.columns)
  for (const row of batch.rows()) {
    row.kmh = row.speed * 3.6
    if (row.kmh > 50) batch.drop(row)
  }
})
const columns = [
  column('speed', 'Float64', [10, 20]),
  column('kmh', 'Float64', [null, null], { computed: true }),
  column('__proto__', 'UInt8', [1, 2]),
]
const { written, finished, failed } = await runOn(runner, new FakeCall(columns))
if (failed) throw new Error(failed.stack)
console.log(JSON.stringify({ written, verdicts: finished.verdicts, names }))
