// A program whose listener throws; on request it catches such exceptions and continues.

import { createInterface } from 'node:readline'
import { Pipeline } from '../../../index.js'

const { config, catches } = JSON.parse(process.argv[2])
if (catches) process.once('uncaughtException', (error) => console.log(`caught: ${error.message}`))

const pipeline = new Pipeline(config)
let thrown = false
pipeline.on('metrics', () => {
  if (thrown) return
  thrown = true
  throw new Error('thrown on purpose')
})
await pipeline.start()

createInterface({ input: process.stdin }).once('line', async () => {
  await pipeline.stop()
  process.exit()
})
