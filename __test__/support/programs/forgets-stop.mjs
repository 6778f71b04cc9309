// Runs a pipeline until some messages are received, then ends without stop().

import { setTimeout as sleep } from 'node:timers/promises'
import { Pipeline } from '../../../index.js'

const { config, messages } = JSON.parse(process.argv[2])
const pipeline = new Pipeline(config)
await pipeline.start()
console.log('running')
while (pipeline.metrics().messages.received < messages) await sleep(5)
console.log('reached its end')
