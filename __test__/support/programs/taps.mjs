// A pipeline with a tap, which throws, rejects or counts. A line on standard input ends the tap.

import { createInterface } from 'node:readline'
import { Pipeline } from '../../../index.js'

const { config, how, catches = false } = JSON.parse(process.argv[2])
if (catches) {
  for (const kind of ['uncaughtException', 'unhandledRejection']) process.on(kind, (error) => console.log(`uncaught: ${error.message}`))
}
const pipeline = new Pipeline(config)
/** @type {Record<string, () => any>} */
const FUNCTIONS = {
  throws() {
    throw new Error('no')
  },
  async rejects() {
    throw new Error('no')
  },
  counts() {
    console.log('sample')
  },
}
const untap = pipeline.tap(0, FUNCTIONS[how], { everyMs: 1 })
await pipeline.start()
const input = createInterface({ input: process.stdin })
input.once('line', () => {
  untap()
  input.close()
  process.stdin.destroy()
})
// Only the tap keeps the process alive.
process.stdin.unref()
console.log('running')
