// Starts pipelines that cannot start, one after another, and ends without stopping any.

import { Pipeline } from '../../../index.js'

for (const config of JSON.parse(process.argv[2])) {
  try {
    await new Pipeline(config).start()
    console.log('started')
  } catch (error) {
    console.log(error.code)
  }
}
