// A certificate authority for tests, and the certificates that it issues. X.509 (RFC 5280) in DER, signed with ECDSA.

import { createPublicKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const DAY_MS = 24 * 3_600_000

/** Issues certificates; `ca` is its own, in PEM. */
export class Authority {
  #name
  #key = newKey()

  constructor(name = 'a test') {
    this.#name = name
    this.ca = this.#issue({ key: this.#key, name, isAuthority: true })
  }

  /**
   * A certificate and its key, in PEM. `hosts` are names, or addresses of IPv4; `expired`: it was valid until yesterday;
   * `early`: it will be from tomorrow on; `version`: 1 has no extensions; `hash`: of the signature; `purpose`: the one that
   * it is limited to.
   *
   * @param {{ name?: string, hosts?: string[], expired?: boolean, early?: boolean, isAuthority?: boolean,
   *   version?: 1 | 3, hash?: 'sha256' | 'sha1', purpose?: 'server' | 'client' }} [options]
   */
  issue({ name = 'somebody', ...options } = {}) {
    const key = newKey()
    return { cert: this.#issue({ key, name, ...options }), key: key.export({ type: 'pkcs8', format: 'pem' }) }
  }

  #issue({
    key,
    name,
    hosts = [],
    expired = false,
    early = false,
    isAuthority = false,
    version = 3,
    hash = 'sha256',
    purpose = undefined,
  }) {
    // ecdsa-with-SHA1 or ecdsa-with-SHA256
    const algorithm = sequence(hash === 'sha1' ? oid(1, 2, 840, 10045, 4, 1) : oid(1, 2, 840, 10045, 4, 3, 2))
    const until = Date.now() + (expired ? -1 : early ? 3 : 1) * DAY_MS
    const extensions = [
      // basicConstraints
      sequence(oid(2, 5, 29, 19), der(0x01, [0xff]), octets(sequence(...(isAuthority ? [der(0x01, [0xff])] : [])))),
    ]
    // subjectAltName
    if (hosts.length > 0) extensions.push(sequence(oid(2, 5, 29, 17), octets(sequence(...hosts.map(altName)))))
    // extendedKeyUsage: serverAuth or clientAuth
    if (purpose) {
      const usage = oid(1, 3, 6, 1, 5, 5, 7, 3, purpose === 'server' ? 1 : 2)
      extensions.push(sequence(oid(2, 5, 29, 37), octets(sequence(usage))))
    }
    const content = sequence(
      ...(version === 3 ? [der(0xa0, integer([2]))] : []),
      integer([1, ...randomBytes(8)]),
      algorithm,
      distinguishedName(this.#name),
      sequence(time(until - 2 * DAY_MS), time(until)),
      distinguishedName(name),
      createPublicKey(key).export({ type: 'spki', format: 'der' }),
      ...(version === 3 ? [der(0xa3, sequence(...extensions))] : []),
    )
    return pem('CERTIFICATE', sequence(content, algorithm, der(0x03, [0], sign(hash, content, this.#key))))
  }
}

/** Writes texts into a directory that is gone when the test ends; the paths, by the same names. */
export function asFiles(t, texts) {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-certificates-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return Object.fromEntries(
    Object.entries(texts).map(([name, text]) => {
      const path = join(directory, `${name}.pem`)
      writeFileSync(path, text)
      return [name, path]
    }),
  )
}

function newKey() {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
}

function pem(label, bytes) {
  const lines = bytes.toString('base64').replace(/.{64}/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

function der(tag, ...parts) {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)))
  const { length } = body
  const header = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...header]), body])
}

function sequence(...parts) {
  return der(0x30, ...parts)
}

function octets(body) {
  return der(0x04, body)
}

function integer(bytes) {
  return der(0x02, bytes)
}

function oid(first, second, ...rest) {
  const base128 = (number) => {
    const digits = [number & 127]
    for (let left = number >> 7; left > 0; left >>= 7) digits.unshift((left & 127) | 128)
    return digits
  }
  return der(0x06, [first * 40 + second, ...rest.flatMap(base128)])
}

/** UTCTime: `YYMMDDHHMMSSZ`. */
function time(ms) {
  const digits = new Date(ms).toISOString().replace(/\D/g, '')
  return der(0x17, Buffer.from(`${digits.slice(2, 14)}Z`))
}

/** Only a common name. */
function distinguishedName(name) {
  return sequence(der(0x31, sequence(oid(2, 5, 4, 3), der(0x0c, Buffer.from(name)))))
}

function altName(host) {
  const isAddress = /^[\d.]+$/.test(host)
  return isAddress ? der(0x87, host.split('.').map(Number)) : der(0x82, Buffer.from(host))
}
