// Calls process.exit() while messages are being inserted.

import { Pipeline } from '../../../index.js'

const { config, messages } = JSON.parse(process.argv[2])
const pipeline = new Pipeline(config)
pipeline.on('metrics', (metrics) => {
  if (metrics.messages.received >= messages) process.exit(7)
})
await pipeline.start()
console.log('running')
