// A service of the benchmark without its job: a module with the endpoint, and nothing behind it.

import { serve } from './endpoint.mjs'

const metrics = () => `# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes ${process.memoryUsage.rss()}
`
console.log(JSON.stringify({ event: 'started', port: await serve(metrics) }))
