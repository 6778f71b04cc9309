// The texts of refused connections: certificates that TLS does not take, servers that speak something
// else, and brokers that do not answer. Each text says what it is and what to do.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPipeline } from '../../index.js'
import { externalBroker, externalClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { asFiles, Authority } from '../support/certificates.mjs'
import { COLUMNS, route } from '../support/positions.mjs'
import { startScriptedBroker } from '../support/scripted-broker.mjs'
import { unique, useServers } from '../support/servers.mjs'
import { startTransportProxy } from '../support/transport-proxy.mjs'

const servers = useServers()
const timeout = 60_000
const skip = externalBroker || externalClickHouse

const authority = new Authority('the authority of the tests')
const { ca } = authority
const hosts = ['localhost', '127.0.0.1']
const here = authority.issue({ hosts })

/** The errors of start() and check() for this configuration, both with the same code. */
async function refusal(t, code, config) {
  const table = await servers.table(COLUMNS)
  const routes = [route(unique('topic'), table)]
  const pipeline = servers.pipeline(t, { routes, ...config })
  let said
  try {
    await pipeline.start()
  } catch (error) {
    said = error
  }
  assert.ok(said, 'it started')
  assert.equal(said.code, code, said.message)
  const { findings } = await checkPipeline(servers.config({ routes, ...config }))
  const found = findings.filter((finding) => finding.code === code)
  assert.ok(found.length > 0, JSON.stringify(findings))
  return [said.message, ...found.map(({ message }) => message)]
}

/** Each of the texts matches. */
function assertSay(texts, text) {
  assert.ok(texts.length > 1)
  for (const said of texts) assert.match(said, text)
}

/** The errors of both clients for a server with this certificate. */
async function ofServer(t, certificate, tls = { ca }) {
  const before = [
    { port: servers.broker.port, code: 'MQTT_UNREACHABLE', side: 'mqtt', scheme: 'mqtts' },
    { port: servers.clickhouse.port, code: 'CLICKHOUSE_UNREACHABLE', side: 'clickhouse', scheme: 'https' },
  ]
  const said = []
  for (const { port, code, side, scheme } of before) {
    const proxy = await startTransportProxy(t, port, { tls: certificate })
    said.push(...await refusal(t, code, { [side]: { url: `${scheme}://127.0.0.1:${proxy.port}`, tls } }))
  }
  return said
}

for (const [what, options, text] of /** @type {[string, any, RegExp][]} */ ([
  ['of X.509 version 1', { version: 1 }, /its certificate is one of X\.509 version 1 or 2.*`-extfile names\.txt`.*subjectAltName/],
  ['that has expired', { expired: true }, /its certificate expired at \d{4}-.*: renew it; our clock says \d{4}-/],
  ['that is not valid yet', { early: true }, /its certificate is not valid before \d{4}-.*: our clock says \d{4}-/],
  ['for another host', { hosts: ['other.example'] }, /its certificate is not valid for 127\.0\.0\.1, but for .*other\.example/],
  ['without a host', { hosts: [] }, /its certificate is not valid for 127\.0\.0\.1: it names no host \(subjectAltName\)/],
  ['signed with SHA-1', { hash: 'sha1' }, /its certificate is signed in a way that is too weak.*SHA-256/],
  ['for clients', { purpose: 'client' }, /its certificate is not one for servers: its extendedKeyUsage lacks serverAuth/],
  ['of an authority', { isAuthority: true }, /its certificate is that of an authority \(CA:TRUE\)/],
])) {
  test(`a server certificate ${what}`, { timeout, skip }, async (t) => {
    const ciphers = 'DEFAULT@SECLEVEL=0' // or it would not show what is weak
    assertSay(await ofServer(t, { ciphers, ...authority.issue({ hosts, ...options }) }), text)
  })
}

test('a server certificate of another host, and of a namesake', { timeout, skip }, async (t) => {
  assertSay(
    await ofServer(t, here, { ca: new Authority('somebody else').ca }),
    /its certificate was not issued by an authority that we trust.*Name the authority in tls\.ca/,
  )
  assertSay(
    await ofServer(t, here, { ca: new Authority('the authority of the tests').ca }),
    /has a wrong signature: the authority in tls\.ca has the name of the one that issued it and another key/,
  )
})

/** Certificates of `openssl`, as people make them. */
function openssl(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-openssl-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const run = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' })
  run('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=us', '-days', '2')
  run('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'our.key', '-out', 'our.csr', '-subj', '/CN=localhost')
  const signed = ['x509', '-req', '-in', 'our.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2']
  run(...signed, '-out', 'our.pem')
  const read = (name) => readFileSync(join(dir, name), 'utf8')
  return { ca: read('ca.pem'), cert: read('our.pem'), key: read('our.key') }
}

test('a certificate of plain `openssl x509 -req`', { timeout, skip }, async (t) => {
  const made = openssl(t)
  // OpenSSL 3.4 and newer make version 3 of themselves, without a subjectAltName.
  const text = /is one of X\.509 version 1 or 2|it names no host \(subjectAltName\)/
  assertSay(await ofServer(t, { cert: made.cert, key: made.key }, { ca: made.ca }), text)
})

test('a client certificate that cannot be used is CONFIG_INVALID', { timeout, skip }, async (t) => {
  const old = authority.issue({ version: 1 })
  const other = authority.issue()
  for (const side of ['mqtt', 'clickhouse']) {
    const url = side === 'mqtt' ? 'mqtts://127.0.0.1:1' : 'https://127.0.0.1:1'
    const said = (tls) => refusal(t, 'CONFIG_INVALID', { [side]: { url, tls: { ca, ...tls } } })
    assertSay(await said(old), new RegExp(`${side}\\.tls\\.cert: is one of X\\.509 version 1 or 2`))
    assertSay(await said({ cert: other.cert, key: here.key }), /tls\.key: is not the key of cert/)
    const bare = here.key.replace(/-----.*-----|\n/g, '')
    const texts = await said({ cert: other.cert, key: bare })
    assertSay(texts, /tls\.key: is base64 without the lines of PEM around it/)
    assert.ok(texts.every((text) => !text.includes(bare.slice(0, 20))))
  }
})

/** A server of OpenSSL that requires a client certificate, and says in an alert what it has against ours. */
async function startDemandingServer(t, version) {
  const files = asFiles(t, { ca, ...here })
  const server = spawn(
    'openssl',
    ['s_server', '-accept', '127.0.0.1:0', '-cert', files.cert, '-key', files.key, '-CAfile', files.ca, `-${version}`]
      .concat(['-Verify', '3', '-verify_return_error']),
    { stdio: ['pipe', 'pipe', 'ignore'] },
  )
  t.after(() => server.kill())
  let said = ''
  server.stdout.on('data', (data) => (said += data))
  await waitFor(() => /ACCEPT .*:(\d+)/.test(said), { message: () => `the port in ${said}` })
  return Number(/ACCEPT .*:(\d+)/.exec(said)?.[1])
}

for (const version of ['tls1_2', 'tls1_3']) {
  test(`a client certificate that the server refuses, ${version}`, { timeout, skip }, async (t) => {
    const port = await startDemandingServer(t, version)
    for (const [tls, text] of /** @type {[any, RegExp][]} */ ([
      [{ ca }, /it requires a client certificate/],
      [{ ca, ...new Authority('somebody else').issue() }, /it does not know the authority that issued our client certificate/],
      [{ ca, ...authority.issue({ expired: true }) }, /our client certificate has expired: renew tls\.cert/],
      [{ ca, ...authority.issue({ early: true }) }, /it refuses our client certificate/],
      [{ ca, ...authority.issue({ purpose: 'server' }) }, /lack clientAuth in its extendedKeyUsage/],
    ])) {
      assertSay(await refusal(t, 'MQTT_UNREACHABLE', { mqtt: { url: `mqtts://127.0.0.1:${port}`, tls } }), text)
      const clickhouse = { url: `https://127.0.0.1:${port}`, tls }
      assertSay(await refusal(t, 'CLICKHOUSE_UNREACHABLE', { clickhouse }), text)
    }
  })
}

test('a server that is not encrypted, and one that is', { timeout, skip }, async (t) => {
  const broker = servers.broker.url
  const ofBroker = (url, tls = undefined) => refusal(t, 'MQTT_UNREACHABLE', { mqtt: { url, ...(tls && { tls }) } })
  const ofClickHouse = (url, tls = undefined) =>
    refusal(t, 'CLICKHOUSE_UNREACHABLE', { clickhouse: { url, ...(tls && { tls }) } })
  const mqtts = broker.replace('mqtt', 'mqtts')
  assertSay(await ofBroker(mqtts, { ca }), /it is not encrypted here, which mqtt:\/\/ or ws:\/\//)
  const https = `https://127.0.0.1:${await startStranger(t, 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')}`
  const notEncrypted = /what it sent is not TLS: .*it is not encrypted here, which .*http:\/\/ is for/
  assertSay(await ofClickHouse(https, { ca }), notEncrypted)
  const tls = await startTransportProxy(t, servers.broker.port, { tls: here })
  const encrypted = /it is encrypted here, which mqtts:\/\/ or wss:\/\/ is for/
  assertSay(await ofBroker(`mqtt://127.0.0.1:${tls.port}`), encrypted)
  const alerting = await startStranger(t, Buffer.from([0x15, 3, 1, 0, 2, 2, 70]))
  assertSay(await ofBroker(`mqtt://127.0.0.1:${alerting}`), /an alert of TLS: it is encrypted here, which mqtts:\/\//)
  for (const port of [tls.port, alerting]) {
    assertSay(await ofClickHouse(`http://127.0.0.1:${port}`), /a server that is encrypted here wants https:\/\//)
  }
  const page = 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'
  const http = await startStranger(t, Buffer.from(page + ' '.repeat(80)))
  assertSay(await ofBroker(`mqtt://127.0.0.1:${http}`), /an answer of HTTP: ws:\/\/ or wss:\/\/ is for WebSockets/)
})

/** Answers the first bytes of a connection with these, and ends it. */
async function startStranger(t, bytes) {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(bytes))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return /** @type {import('node:net').AddressInfo} */ (server.address()).port
}

test('a server that answers in HTTP is reachable', { timeout, skip }, async (t) => {
  for (const [answer, text] of /** @type {[string, RegExp][]} */ ([
    ['HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\n\r\nslow down', /it answered 429 Too Many Requests: slow down/],
    ['HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n', /it answered 429 Too Many Requests$/],
    ['HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops', /it answered 500 Internal Server Error: oops/],
    ['HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n', /it answered 500 Internal Server Error$/],
    ['220 mail.example ESMTP\r\n', /it does not answer in HTTP/],
  ])) {
    const port = await startStranger(t, answer)
    const clickhouse = { url: `http://127.0.0.1:${port}` }
    const texts = await refusal(t, 'CLICKHOUSE_UNREACHABLE', { clickhouse, startTimeoutMs: 200 })
    assertSay(texts, text)
    assert.ok(texts.every((said) => !said.includes('cannot be reached')))
  }
})

for (const protocolVersion of /** @type {(4 | 5)[]} */ ([4, 5])) {
  test(`a broker that does not answer CONNECT or SUBSCRIBE, MQTT ${protocolVersion}`, { timeout, skip }, async (t) => {
    const silent = await startScriptedBroker(t, { connect: null })
    const mqtt = { protocolVersion }
    const first = await refusal(t, 'MQTT_REFUSED', { mqtt: { ...mqtt, url: silent.url } })
    assertSay(first, /it did not answer CONNECT in time/)
    const deaf = await startScriptedBroker(t, { subscribe: null })
    const second = await refusal(t, 'SUBSCRIPTION_REFUSED', { mqtt: { ...mqtt, url: deaf.url } })
    assertSay(second, /did not answer SUBSCRIBE in time/)
  })
}
