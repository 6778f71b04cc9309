// A registry of npm packages on the loopback, for tests of installing and publishing: it has the
// tarballs it is given and those published to it, and takes others from `upstream`, if that is given.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { manifestIn } from '../../scripts/release/tarballs.mjs'

/**
 * @typedef {object} Version
 * @property {any} manifest
 * @property {Buffer} tarball
 */

export class Registry {
  /** @type {Map<string, Map<string, Version>>} */
  #packages = new Map()
  #server = createServer((request, response) => {
    this.#answer(request, response).catch((error) => response.writeHead(500).end(String(error)))
  })
  /** @type {string | undefined} */
  #upstream
  /** Answers a publication of it with an error: how a release fails half way. @type {string | undefined} */
  refuses
  /** Each package that was published, in order. @type {string[]} */
  published = []
  url = ''

  /** @param {{ upstream?: string }} [options] */
  static async start({ upstream } = {}) {
    const registry = new Registry()
    registry.#upstream = upstream?.replace(/\/$/, '')
    await new Promise((resolve) => registry.#server.listen(0, '127.0.0.1', () => resolve(undefined)))
    const { port } = /** @type {import('node:net').AddressInfo} */ (registry.#server.address())
    registry.url = `http://127.0.0.1:${port}`
    return registry
  }

  async stop() {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** @param {string} path of a tarball @returns {{ name: string, version: string }} */
  add(path) {
    const tarball = readFileSync(path)
    const manifest = manifestIn(tarball)
    this.#put(manifest, tarball)
    return manifest
  }

  /** @param {string} name @param {string} version */
  remove(name, version) {
    this.#packages.get(name)?.delete(version)
  }

  /** @param {any} manifest @param {Buffer} tarball */
  #put(manifest, tarball) {
    const versions = this.#packages.get(manifest.name) ?? new Map()
    versions.set(manifest.version, { manifest, tarball })
    this.#packages.set(manifest.name, versions)
  }

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  async #answer(request, response) {
    const path = decodeURIComponent(new URL(request.url ?? '/', this.url).pathname).slice(1)
    if (request.method === 'PUT') return this.#publish(request, response)
    const [name, file] = path.split('/-/')
    const versions = this.#packages.get(name)
    if (!versions || versions.size === 0) return this.#ask(path, request, response)
    if (file) {
      const version = [...versions.entries()].find(([number]) => file.endsWith(`-${number}.tgz`))?.[1]
      if (!version) return response.writeHead(404).end()
      return response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(version.tarball)
    }
    const numbers = [...versions.keys()]
    const entries = numbers.map((number) => [number, this.#described(/** @type {Version} */ (versions.get(number)))])
    const [one, two] = [numbers.at(-1), numbers.find((number) => /^\d+\.\d+\.\d+$/.test(number))]
    const time = Object.fromEntries(['created', 'modified', ...numbers].map((key) => [key, '2020-01-01T00:00:00.000Z']))
    const packument = { name, 'dist-tags': { latest: one ?? two }, versions: Object.fromEntries(entries), time }
    return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(packument))
  }

  /** @param {Version} version */
  #described({ manifest, tarball }) {
    const file = `${manifest.name.split('/').at(-1)}-${manifest.version}.tgz`
    const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
    const shasum = createHash('sha1').update(tarball).digest('hex')
    return { ...manifest, _id: `${manifest.name}@${manifest.version}`, dist: { integrity, shasum, tarball: `${this.url}/${manifest.name}/-/${file}` } }
  }

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  async #publish(request, response) {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const body = JSON.parse(Buffer.concat(chunks).toString())
    if (body.name === this.refuses) return response.writeHead(503).end('{"error":"not now"}')
    const [number] = Object.keys(body.versions)
    if (this.#packages.get(body.name)?.has(number)) return response.writeHead(403).end('{"error":"it is there"}')
    const { data } = /** @type {{ data: string }[]} */ (Object.values(body._attachments))[0]
    this.#put(body.versions[number], Buffer.from(data, 'base64'))
    this.published.push(body.name)
    return response.writeHead(201, { 'content-type': 'application/json' }).end('{"ok":true}')
  }

  /**
   * Hands a request on to the other registry, and makes the addresses of tarballs in its answer ours.
   *
   * @param {string} path
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   */
  async #ask(path, request, response) {
    // Packages of our own scope are here or nowhere.
    if (!this.#upstream || /^@?millrace/.test(path)) return response.writeHead(404).end('{"error":"not found"}')
    const { accept = '*/*' } = request.headers
    const address = `${this.#upstream}/${path.startsWith('@') ? path.replace('/', path.includes('/-/') ? '/' : '%2f') : path}`
    const answer = await fetch(address, { headers: { accept } })
    const type = answer.headers.get('content-type') ?? 'application/octet-stream'
    let body = Buffer.from(await answer.arrayBuffer())
    if (type.includes('json')) body = Buffer.from(body.toString().replaceAll(this.#upstream, this.url))
    return response.writeHead(answer.status, { 'content-type': type }).end(body)
  }
}
