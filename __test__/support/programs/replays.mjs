// Replays dead letters, and reports when the first rows are inserted.

import { replayDeadLetters } from '../../../index.js'

const { config, source } = JSON.parse(process.argv[2])
let told = false
const report = await replayDeadLetters(config, source, {
  onProgress: ({ inserted }) => {
    if (inserted > 0 && !told) console.log('begun')
    told ||= inserted > 0
  },
})
console.log(JSON.stringify(report))
