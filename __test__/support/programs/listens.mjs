// Keeps a pipeline alive in each possible way until a line on standard input releases it.

import { createInterface } from 'node:readline'
import { Pipeline } from '../../../index.js'

const { config, how } = JSON.parse(process.argv[2])
const pipeline = new Pipeline(config)
if (how.startsWith('listens')) pipeline.on('metrics', () => {})
await pipeline.start()
console.log('running')
if (how === 'listens, then unref()') pipeline.unref()
if (how === 'ref()') pipeline.ref()

// Standard input alone must not hold the program open.
createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'remove the listeners') pipeline.removeAllListeners('metrics')
  if (line === 'unref') pipeline.unref()
})
process.stdin.unref()
