// Starts the threads of a transform and ends without stopping them.

import { WorkerThreads } from '../../../lib/transform/worker-threads.js'

const { module, program } = JSON.parse(process.argv[2])
const task = { pipeline: 1, path: 'routes[0].transform', where: { route: 0, table: 't', topicFilter: 't' } }
const threads = new WorkerThreads(task, { module, threads: 2, data: { channel: 'none' } }, (warning) => console.error(warning), program)
await threads.start()
console.log('started')
