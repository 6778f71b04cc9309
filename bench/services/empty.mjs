// A service of the benchmark without a job: a module with the HTTP endpoint only.

import { serve } from './endpoint.mjs'

const metrics = () => `# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes ${process.memoryUsage.rss()}
`
console.log(JSON.stringify({ event: 'started', port: await serve(metrics) }))
