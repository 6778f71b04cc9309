// The service of bench:memory: a pipeline with the configuration that CONFIG holds as JSON. It is killed at the end.

import { Pipeline } from '../../index.js'

const log = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

const pipeline = new Pipeline(JSON.parse(process.env.CONFIG))
let letters = 0
pipeline.on('metrics', (metrics) => log('metrics', { ...metrics, letters }))
pipeline.on('deadLetters', (batch) => (letters += batch.length))
pipeline.on('warning', ({ code, message }) => log('warning', { code, message: message.slice(0, 300) }))
pipeline.on('error', ({ code, message }) => log('error', { code, message }))
await pipeline.start()
log('started', {})
