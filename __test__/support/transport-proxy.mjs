// A proxy before a server that ends TLS, or that unwraps a WebSocket.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'

/**
 * Forwards connections to `port` of this machine; ends when the test ends.
 *
 * @param {any} t
 * @param {number} port
 * @param {{ tls?: import('node:tls').TlsOptions, webSocket?: WebSocketOptions }} [options]
 *
 * @typedef {object} WebSocketOptions
 * @property {string} [status] refuses with this status instead of opening a WebSocket
 * @property {string | null} [protocol] the subprotocol that it agrees to
 * @property {import('./random.mjs').Random} [random] cuts what it sends into frames as no one would
 */
export async function startTransportProxy(t, port, { tls, webSocket } = {}) {
  const proxy = new TransportProxy(port, webSocket)
  await proxy.listen(tls)
  t.after(() => proxy.close())
  return proxy
}

class TransportProxy {
  /** The requested paths of WebSockets, with their queries. */
  paths = []
  pongs = 0

  #target
  #webSocket
  #server
  #sockets = new Set()

  constructor(target, webSocket) {
    this.#target = target
    this.#webSocket = webSocket
  }

  async listen(tls) {
    const serve = (socket) => this.#serve(socket)
    this.#server = tls ? createTlsServer(tls, serve) : createServer(serve)
    // Some tests break a handshake off.
    this.#server.on('tlsClientError', () => {})
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.port = this.#server.address().port
  }

  close() {
    this.hangUp()
    this.#server.close()
  }

  hangUp() {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Sends all clients a frame that no broker's bytes stand behind. */
  send(opcode, payload) {
    for (const socket of this.#sockets) if (socket.isOpen) socket.write(frame(opcode, payload))
  }

  #serve(client) {
    const server = connect(this.#target, '127.0.0.1')
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        client.destroy()
        server.destroy()
      })
    }
    if (this.#webSocket) {
      this.#speak(client, server)
    } else {
      client.pipe(server)
      server.pipe(client)
    }
  }

  #speak(client, server) {
    let buffer = Buffer.alloc(0)
    client.on('data', (data) => {
      buffer = Buffer.concat([buffer, data])
      if (!client.isOpen) {
        const end = buffer.indexOf('\r\n\r\n')
        if (end < 0) return
        this.#answer(client, buffer.subarray(0, end).toString('latin1'))
        buffer = buffer.subarray(end + 4)
      }
      for (;;) {
        const next = firstFrame(buffer)
        if (!next) return
        buffer = buffer.subarray(next.end)
        if (next.opcode === CONTINUATION || next.opcode === BINARY) server.write(next.payload)
        if (next.opcode === PING) client.write(frame(PONG, next.payload))
        if (next.opcode === PONG) this.pongs++
        if (next.opcode === CLOSE) client.end(frame(CLOSE, next.payload))
      }
    })
    server.on('data', (data) => {
      const { random } = this.#webSocket
      if (random) writeOddly(client, data, random)
      else client.write(frame(BINARY, data))
    })
  }

  #answer(client, request) {
    const { status, protocol = 'mqtt' } = this.#webSocket
    this.paths.push(request.split(' ')[1])
    const key = /^sec-websocket-key: *(\S+)/im.exec(request)?.[1]
    const offered = /^sec-websocket-protocol: *(.+)$/im.exec(request)?.[1].trim()
    if (status || !key || offered !== 'mqtt') {
      client.end(`HTTP/1.1 ${status ?? '400 Bad Request'}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
      return
    }
    // RFC 6455, 4.2.2.
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
    lines.push(`Sec-WebSocket-Accept: ${accept}`)
    if (protocol) lines.push(`Sec-WebSocket-Protocol: ${protocol}`)
    client.write([...lines, '', ''].join('\r\n'))
    client.isOpen = true
  }
}

export const CONTINUATION = 0
export const TEXT = 1
export const BINARY = 2
export const CLOSE = 8
export const PING = 9
const PONG = 10

/** A frame of a server, which is not masked: RFC 6455, 5.2. */
function frame(opcode, payload, { final = true } = {}) {
  const { length } = payload
  const long = Buffer.alloc(length < 126 ? 0 : length < 65_536 ? 2 : 8)
  if (long.length === 2) long.writeUInt16BE(length)
  if (long.length === 8) long.writeBigUInt64BE(BigInt(length))
  const short = length < 126 ? length : length < 65_536 ? 126 : 127
  return Buffer.concat([Buffer.from([(final ? 0x80 : 0) | opcode, short]), long, payload])
}

/** The bytes in messages of one frame or several, with pings between them. */
function writeOddly(socket, data, random) {
  let isInside = false
  for (let at = 0; at < data.length; ) {
    const bytes = random.chance(0.5) ? 1 + random.below(8) : 1 + random.below(4_000)
    const piece = data.subarray(at, at + bytes)
    at += piece.length
    const final = at === data.length || random.chance(0.5)
    socket.write(frame(isInside ? CONTINUATION : BINARY, piece, { final }))
    isInside = !final
    if (random.chance(0.1)) socket.write(frame(PING, Buffer.from('still there?')))
    if (!isInside && random.chance(0.1)) socket.write(frame(BINARY, Buffer.alloc(0)))
  }
}

/** The first frame of what a client sent, unmasked. */
function firstFrame(buffer) {
  if (buffer.length < 2) return
  let length = buffer[1] & 127
  let at = 2
  if (length === 126) {
    if (buffer.length < 4) return
    length = buffer.readUInt16BE(2)
    at = 4
  } else if (length === 127) {
    if (buffer.length < 10) return
    length = Number(buffer.readBigUInt64BE(2))
    at = 10
  }
  const end = at + 4 + length
  if (buffer.length < end) return
  const mask = buffer.subarray(at, at + 4)
  const payload = Buffer.from(buffer.subarray(at + 4, end))
  for (let i = 0; i < payload.length; i++) payload[i] ^= mask[i % 4]
  return { opcode: buffer[0] & 15, payload, end }
}
