// The broker aedes as a program: aedes.mjs <port>. It ends when its standard input ends.

import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const port = Number(process.argv[2])
const aedes = await Aedes.createBroker()
const server = createServer(aedes.handle)

server.on('error', (error) => {
  console.error(error.message)
  process.exit(1)
})
server.listen(port, '127.0.0.1', () => console.log(`aedes running on port ${port}`))

process.stdin.resume()
process.stdin.on('end', () => process.exit())
