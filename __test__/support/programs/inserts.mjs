// Inserts numbers from the one given on until it is killed, 20 calls at a time, and says which are safe.

import { Pipeline } from '../../../index.js'

const [config, first] = process.argv.slice(2)
const { tables } = JSON.parse(config)
const pipeline = new Pipeline(JSON.parse(config))
await pipeline.start()
let next = Number(first)
for (;;) {
  const numbers = Array.from({ length: 20 }, () => next++)
  await Promise.all(
    numbers.map(async (number) => {
      await pipeline.insert(tables[0], { number })
      process.stdout.write(`${number}\n`)
    }),
  )
}
