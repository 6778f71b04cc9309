// Consumes until it is killed, or until a line on standard input stops it.

import { createInterface } from 'node:readline'
import { Pipeline } from '../../../index.js'

const { config, added, hasFunction } = JSON.parse(process.argv[2])
if (hasFunction) config.routes[0].transform = (await import('./sorts-numbers.mjs')).default
const pipeline = new Pipeline(config)
pipeline.on('warning', ({ code, message }) => console.error(`${code}: ${message}`))
await pipeline.start()
for (const route of added ?? []) await pipeline.addRoute(route)
console.log('running')
createInterface({ input: process.stdin }).once('line', async () => {
  await pipeline.stop()
  process.exit()
})
