// Positions of drivers from MQTT into ClickHouse: the README beside it says what must run.

import { Pipeline } from 'millrace'

const pipeline = new Pipeline({
  mqtt: { url: 'mqtt://localhost:1883', clientId: 'minimal-1' },
  clickhouse: { url: 'http://localhost:8123', database: 'default' },
  routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions' }],
})

pipeline.on('metrics', ({ messages, rates }) => console.log(messages, rates.rowsPerSecond, 'rows/s'))
pipeline.on('deadLetters', (letters) => letters.forEach(({ topic, code, message }) => console.warn(topic, code, message)))
pipeline.on('warning', ({ code, message }) => console.warn(code, message))
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => pipeline.stop())

await pipeline.start().catch((error) => {
  if (error.code !== 'ABORTED') throw error // stop() was called meanwhile
})
