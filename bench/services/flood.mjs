// The broker of bench:memory: it sends messages of one size to the one subscriber as fast as TCP and the window of MQTT allow.
//
//   node bench/services/flood.mjs <payload bytes> <compressible: 0 | 1> <valid: 0 | 1>
//
// It begins with a line on standard input.

import { randomFillSync } from 'node:crypto'
import { createServer } from 'node:net'

const [bytes, isCompressible, isValid] = process.argv.slice(2).map(Number)
/** Packet ids, and so messages in flight. */
const WINDOW = 65_535
/** Bytes of different payloads, so that a batch does not consist of one. */
const VARIETY = 8 * 2 ** 20
const TOPIC = Buffer.from('memory/flood')
const log = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

/** A JSON object of about `bytes` bytes; an invalid one has a text for a number. */
function payload(number) {
  const head = isValid ? `{"id":${number},"data":"` : `{"id":"x${number}","data":"`
  const length = Math.max(1, bytes - head.length - 2)
  const data = isCompressible
    ? 'temperature 21.5 of the third room, '.repeat(Math.ceil(length / 36)).slice(0, length)
    : randomFillSync(Buffer.alloc(Math.ceil((length * 3) / 4) + 3)).toString('base64url').slice(0, length)
  return Buffer.from(`${head}${data}"}`)
}

/** Everything of a PUBLISH before its packet id. */
function head(payloadBytes) {
  let left = 2 + TOPIC.length + 2 + 1 + payloadBytes
  const length = []
  do {
    length.push((left % 128) | (left >= 128 ? 128 : 0))
    left = Math.floor(left / 128)
  } while (left > 0)
  return Buffer.concat([Buffer.from([0x32, ...length, 0, TOPIC.length]), TOPIC])
}

const variety = Math.min(WINDOW, Math.max(4, Math.ceil(VARIETY / bytes)))
const payloads = Array.from({ length: variety }, (_, number) => payload(number))
/** Packet ids of a chunk that is written at once. */
const perChunk = Math.max(1, Math.floor(65_536 / bytes))
/** Chunks of small messages, by the first packet id: made once, and sent again and again. */
const chunks = new Map()

/** The packets with the ids from `first` on, as buffers. */
function packets(first, count) {
  const made = chunks.get(first)
  if (made?.count === count) return made.buffers
  const buffers = []
  for (let id = first; id < first + count; id++) {
    const body = payloads[id % variety]
    // No properties.
    buffers.push(Buffer.concat([head(body.length), Buffer.from([id >> 8, id & 255, 0])]), body)
  }
  if (perChunk === 1) return buffers
  const joined = [Buffer.concat(buffers)]
  if (bytes < 1024) chunks.set(first, { count, buffers: joined })
  return joined
}

class Subscriber {
  #socket
  #input = Buffer.alloc(0)
  #next = 1
  #sent = 0
  #acknowledged = 0
  #isSending = false

  constructor(socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('error', () => {})
    socket.on('data', (data) => this.#read(data))
    socket.on('drain', () => this.#send())
  }

  get counts() {
    return { sent: this.#sent, acknowledged: this.#acknowledged }
  }

  begin() {
    this.#isSending = true
    this.#send()
  }

  #read(data) {
    this.#input = Buffer.concat([this.#input, data])
    let at = 0
    for (;;) {
      let [length, scale, header] = [0, 1, 1]
      let byte = 128
      while (byte >= 128 && at + header < this.#input.length) {
        byte = this.#input[at + header++]
        length += (byte & 127) * scale
        scale *= 128
      }
      const end = at + header + length
      if (byte >= 128 || this.#input.length < end) break
      this.#answer(this.#input[at] >> 4, this.#input.subarray(at + header, end))
      at = end
    }
    this.#input = this.#input.subarray(at)
    if (this.#isSending) this.#send()
  }

  #answer(kind, body) {
    if (kind === 1) this.#socket.write(Buffer.from([0x20, 3, 0, 0, 0]))
    if (kind === 8) {
      this.#socket.write(Buffer.from([0x90, 4, body[0], body[1], 0, 1]))
      log('subscribed', {})
    }
    if (kind === 12) this.#socket.write(Buffer.from([0xd0, 0]))
    if (kind === 4) this.#acknowledged++
  }

  #send() {
    if (!this.#isSending || this.#socket.writableNeedDrain) return
    let takes = true
    while (takes) {
      const room = WINDOW - (this.#sent - this.#acknowledged)
      const count = Math.min(perChunk, room, WINDOW + 1 - this.#next)
      if (count <= 0) return
      this.#socket.cork()
      for (const buffer of packets(this.#next, count)) takes = this.#socket.write(buffer)
      this.#socket.uncork()
      takes &&= !this.#socket.writableNeedDrain
      this.#sent += count
      this.#next = this.#next + count > WINDOW ? 1 : this.#next + count
    }
  }
}

let subscriber
const server = createServer((socket) => (subscriber = new Subscriber(socket)))
server.listen(0, '127.0.0.1', () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  log('ready', { port })
})
process.stdin.once('data', () => subscriber?.begin())
setInterval(() => subscriber && log('counts', subscriber.counts), 500)
