// Reading configuration files, and the JSON Schema that editors use for them.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { Ajv } from 'ajv'
import { Pipeline } from '../../index.js'
import { ConfigFile } from '../../lib/cli/config-file.js'
import { configFile } from '../support/config-file.mjs'

const read = (name) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')
const schema = JSON.parse(read('millrace.schema.json'))
const accepts = new Ajv({ strict: true, allowUnionTypes: true, strictRequired: false }).compile(schema)

/** The configuration that a file with this text is read as. */
function config(t, text, environment = {}) {
  return new ConfigFile(configFile(t, text), environment).config
}

/** Asserts that reading fails at this place with this message. */
function assertWrong(t, text, place, message, environment = {}) {
  const file = configFile(t, text)
  assert.throws(
    () => new ConfigFile(file, environment),
    (/** @type {any} */ error) => {
      assert.equal(error.message.slice(0, file.length + place.length + 3), `${file}:${place}: `, error.message)
      assert.match(error.message, message)
      assert.equal(error.exitCode, 2)
      return true
    },
  )
}

test('comments, trailing commas, a byte order mark and $schema', (t) => {
  const text = '\ufeff{\n  // one\n  "$schema": "./millrace.schema.json",\n  "a": [1, /* two */ {"b": null},],\n}\n'
  assert.deepEqual(config(t, text), { a: [1, { b: null }] })
  assert.deepEqual(Object.keys(config(t, '{"__proto__": {"a": 1}}')), ['__proto__'])
})

test('a file that is not JSON is an error with line and column', (t) => {
  assertWrong(t, '{\n  "a": 1\n  "b": 2\n}', '3:3', /comma expected/)
  assertWrong(t, '{ "a": }', '1:8', /value expected/)
  assertWrong(t, '', '1:1', /./)
  assertWrong(t, '[]', '1:1', /must be an object/)
  assertWrong(t, '{\r\n"a": {"b": 1,\r\n"b": 2}}', '3:1', /a\.b: is there twice/)
})

test('${NAME} is read from the environment', (t) => {
  const environment = { HOST: 'broker', EMPTY: '', ODD: '${HOST} $& "' }
  const of = (text) => config(t, JSON.stringify({ a: [text] }), environment).a[0]
  assert.equal(of('mqtt://${HOST}:${PORT:-1883}'), 'mqtt://broker:1883')
  assert.equal(of('${EMPTY}'), '')
  assert.equal(of('${EMPTY:-full}'), 'full')
  assert.equal(of('${NOBODY:-}'), '')
  assert.equal(of('${ODD}'), '${HOST} $& "', 'what comes from there is not read again')
  assert.equal(of('$${HOST} $HOST {HOST} $SYS/{x}'), '${HOST} $HOST {HOST} $SYS/{x}')
  assertWrong(t, '{\n "a": [{"b c": "x${NOBODY}"}]}', '2:16', /^.*: a\[0\]\["b c"\]: .* NOBODY is not set.*\$\{NOBODY:-default\}/)
  for (const text of ['${', '${}', '${1}', '${A B}', '${A-b}']) assertWrong(t, JSON.stringify({ a: text }), '1:6', /\$\{NAME\}/)
})

test('the file of a lookup counts from the configuration', (t) => {
  const file = configFile(t, JSON.stringify({ ...minimal, lookups: { a: { file: 'devices.json' }, b: { entries: {} } } }))
  const { lookups } = new ConfigFile(file).config
  assert.deepEqual(lookups, { a: { file: join(dirname(file), 'devices.json') }, b: { entries: {} } })
})

test('an error of the engine has its place in the file', (t) => {
  const text = `{
  "mqtt": { "url": "mqtt://x", "qos": 3 },
  "clickhouse": { "url": "http://x" },
  "routes": [{ "topic": "a", "table": "t" }, { "topic": "b", "table": "t", "columns": { "a b": { "meta": "all" } } }]
}`
  const placed = (wrong) => {
    const file = new ConfigFile(configFile(t, wrong))
    try {
      new Pipeline(file.config)
    } catch (error) {
      return /millrace\.json:(\d+:\d+: .*)/.exec(file.located(error).message)?.[1]
    }
  }
  assert.match(placed(text), /^2:32: mqtt\.qos: /)
  const rest = text.replace('"qos": 3', '"qos": 2')
  assert.match(placed(rest), /^4:98: routes\[1\]\.columns\["a b"\]\.meta: /)
  assert.match(placed(rest.replace('"all"', '"qos"').replace('"topic": "b", ', '')), /^4:46: routes\[1\]\.topic: is required/)
})

const minimal = {
  mqtt: { url: 'mqtt://localhost:1883' },
  clickhouse: { url: 'http://localhost:8123' },
  routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions' }],
}
const mqtt = (more) => ({ ...minimal, mqtt: { ...minimal.mqtt, ...more } })
const clickhouse = (more) => ({ ...minimal, clickhouse: { ...minimal.clickhouse, ...more } })
const route = (more) => ({ ...minimal, routes: [{ ...minimal.routes[0], ...more }] })
const column = (source) => route({ columns: { lat: source } })

/** With every option there is. */
const full = {
  name: 'fleet',
  mqtt: {
    url: ['mqtts://one', 'wss://two/mqtt'],
    clientId: 'fleet-1',
    username: 'fleet',
    password: 'p',
    protocolVersion: 5,
    qos: 2,
    sharedGroup: 'g',
    connections: 2,
    sessionExpirySeconds: 3600,
    keepAliveSeconds: 30,
    receiveMaximum: 1000,
    topicAliasMaximum: 10,
    maxPacketBytes: 1024,
    coalesceMs: 0,
    ackAfter: 'insert',
    retained: 'skip',
    topicRewrite: 'none',
    reconnect: { minMs: 1, maxMs: 2 },
    tls: { ca: 'ca.pem', cert: 'cert.pem', key: 'key.pem', serverName: 'broker', insecure: true },
  },
  clickhouse: {
    url: ['https://one:8443', 'https://two'],
    database: 'fleet',
    username: 'u',
    password: 'p',
    compression: 'zstd',
    settings: { max_threads: 2, insert_quorum: 'auto', log_queries: false },
    maxInFlight: 4,
    connectTimeoutMs: 1,
    requestTimeoutMs: 1,
    retry: { minMs: 1, maxMs: 2 },
    tls: { ca: 'ca.pem', cert: 'cert.pem', key: 'key.pem' },
  },
  routes: [
    {
      topic: 'a/{b}',
      table: 'd.t',
      columns: {
        a: 'a.b[0]',
        b: { path: 'b', default: null, unit: 'ms', fields: ['x', 'y'] },
        c: { topic: 'b' },
        d: { meta: 'clientId' },
        e: { userProperty: 'p' },
        f: { value: { any: ['thing'] } },
        g: { lookup: 'l', key: 'a.b', field: 'f', default: 0 },
        h: { lookup: 'm', key: { topic: 'b' } },
      },
      rows: 'samples',
      unknownFields: 'ignore',
      schema: 'add-columns',
      addColumns: { afterMessages: 10, maxColumns: 5 },
      missingFields: 'zero',
    },
  ],
  batch: { maxRows: 1, maxBytes: 1, maxDelayMs: 1 },
  spool: { dir: 'spool', maxBytes: 1 << 30, commitMs: 1, segmentBytes: 1 << 20 },
  deadLetters: { dir: 'letters' },
  lookups: { l: { entries: { k: { f: 1 } } }, m: { entries: { k: 'v' } } },
  memory: { maxBytes: 1 << 26 },
  metricsIntervalMs: 0,
}

/** Whether the engine takes it. */
function engineAccepts(config) {
  try {
    new Pipeline(config)
    return true
  } catch {
    return false
  }
}

const RIGHT_CONDITIONS = [
  { path: 'a', eq: 1 },
  { path: ['a', 'b.c[-1]'], in: [1, 'x', true], exists: true },
  { and: [{ path: 'a', lt: 1, ge: 'x' }, { not: { or: [{ path: '$.a', ne: false }] } }] },
]
const WRONG_CONDITIONS = [
  true,
  {},
  { path: 'a' },
  { eq: 1 },
  { path: '', eq: 1 },
  { path: 'a', eq: null },
  { path: 'a', lt: true },
  { path: 'a', in: [] },
  { path: 'a', in: [null] },
  { path: 'a', exists: 1 },
  { path: 'a', equals: 1 },
  { path: 'a', eq: 1, and: [{ path: 'a', eq: 1 }] },
  { and: [] },
  { or: [{ path: 'a', eq: 1 }, {}] },
  { not: { path: 'a', gt: {} } },
  { not: [] },
]

test('the schema and the engine accept the same', () => {
  const right = [
    minimal,
    full,
    mqtt({ url: ['mqtt://one', 'ws://two/path?a=b'], protocolVersion: 4, qos: 0 }),
    clickhouse({ settings: {} }),
    { ...minimal, deadLetters: { table: 'letters' } },
    { ...mqtt({ ackAfter: 'spool' }), spool: { dir: 'spool' } },
    column('$'),
    column({ value: null }),
    ...RIGHT_CONDITIONS.map((where) => route({ where })),
  ]
  for (const config of right) {
    assert.ok(accepts(config), `${JSON.stringify(accepts.errors)} ${JSON.stringify(config)}`)
    assert.ok(engineAccepts(config), JSON.stringify(config))
  }
  assert.ok(accepts(mqtt({ url: '${BROKER}', retained: '${RETAINED:-skip}' })), 'before the environment is read')
})

test('the schema and the engine refuse the same mistakes', () => {
  const wrong = [
    {},
    [],
    { ...minimal, mqtt: undefined },
    { ...minimal, routes: [] },
    { ...minimal, route: minimal.routes },
    { ...minimal, name: 'with spaces' },
    { ...minimal, batch: { maxRow: 5 } },
    { ...minimal, batch: { maxRows: 0 } },
    { ...minimal, batch: { maxRows: '5000' } },
    { ...minimal, deadLetters: { table: 't', dir: 'd' } },
    { ...minimal, memory: 5 },
    { ...minimal, spool: {} },
    { ...minimal, spool: { dir: 'spool', commitMs: 0 } },
    mqtt({ ackAfter: 'spool' }),
    { ...minimal, metricsIntervalMs: 0.5 },
    mqtt({ url: 'localhost:1883' }),
    mqtt({ url: 'tcp://localhost' }),
    mqtt({ url: 'mqtt://me:secret@localhost' }),
    mqtt({ url: [] }),
    mqtt({ clientID: 'x' }),
    mqtt({ clientId: '' }),
    mqtt({ password: 'p' }),
    mqtt({ protocolVersion: 3 }),
    mqtt({ qos: '1' }),
    mqtt({ connections: 2 }),
    mqtt({ sharedGroup: 'a/b' }),
    mqtt({ ackAfter: 'never' }),
    mqtt({ keepAliveSeconds: 0 }),
    mqtt({ url: 'mqtts://x', tls: { cert: 'c' } }),
    mqtt({ url: 'mqtts://x', tls: { insecure: 'yes' } }),
    clickhouse({ url: 'localhost:8123' }),
    clickhouse({ url: 'tcp://localhost:9000' }),
    clickhouse({ compression: 'gzip' }),
    clickhouse({ user: 'default' }),
    clickhouse({ settings: { async_insert: 1 } }),
    clickhouse({ settings: { max_threads: null } }),
    clickhouse({ tls: { insecure: true } }),
    route({ topic: undefined }),
    route({ table: '' }),
    route({ tabel: 't' }),
    route({ columns: [] }),
    route({ unknownFields: 'drop' }),
    column(5),
    column({}),
    column({ path: 'lat', unit: 'minutes' }),
    column({ path: 'lat', defualt: 0 }),
    column({ meta: 'everything' }),
    column({ path: 'lat', value: 0 }),
    ...WRONG_CONDITIONS.map((where) => route({ where })),
  ]
  for (const config of wrong) {
    const plain = JSON.parse(JSON.stringify(config))
    assert.ok(!accepts(plain), `the schema takes ${JSON.stringify(config)}`)
    assert.ok(!engineAccepts(plain), `the engine takes ${JSON.stringify(config)}`)
  }
})

/** Every option there is in the schema: `mqtt.reconnect.minMs`. */
function optionsOf({ $ref, properties = {}, items, additionalProperties, anyOf = [] }, path = '', around = []) {
  // A condition within a condition has the same options.
  if (around.includes($ref)) return []
  if ($ref) return optionsOf(schema.definitions[$ref.replace('#/definitions/', '')], path, [...around, $ref])
  return [
    ...Object.entries(properties).flatMap(([name, its]) => {
      const whole = path ? `${path}.${name}` : name
      return [whole, ...optionsOf(its, whole, around)]
    }),
    ...(items ? optionsOf(items, path, around) : []),
    ...(typeof additionalProperties === 'object' ? optionsOf(additionalProperties, path, around) : []),
    ...anyOf.flatMap((one) => optionsOf(one, path, around)),
  ]
}

/** Options that only a program can set. */
const NOT_IN_A_FILE = /^(logger|tracer|tracing|meter)\b/

test('the schema names the options of index.d.ts, all of them and no others', () => {
  const text = read('index.d.ts').replace(/\/\*[^]*?\*\//g, '')
  const interfaces = new Map([...text.matchAll(/export (?:interface (\w+) \{|type (\w+) =)/g)].map((match) => [match[1] ?? match[2], match.index]))
  /** The options of a type, from where it begins to the line that ends it. */
  const declared = (name, path) => {
    const begin = interfaces.get(name)
    if (begin === undefined) return []
    const block = text.slice(begin, /\n(\}|\n)/.exec(text.slice(begin)).index + begin)
    const found = []
    const open = [path]
    for (const line of block.split('\n').slice(1)) {
      for (const [, option, type] of line.matchAll(/(?:^\s*|\{ |; )(\w+)\??: ([^;]*)/g)) {
        const whole = [...open.filter(Boolean), option].join('.')
        found.push(whole)
        for (const [, inner] of type.matchAll(/\{ (\w+)\??: /g)) found.push(`${whole}.${inner}`)
        const named = type.match(/[A-Z]\w+/g) ?? []
        for (const other of named) if (other !== name) found.push(...declared(other, whole))
        if (/\{$/.test(type.trim())) open.push(option)
      }
      // `} | {` is another object of the same option.
      if (/^\s*\}/.test(line) && !line.endsWith('{') && open.length > 1) open.pop()
    }
    return found
  }
  const options = declared('PipelineConfig', '').filter((option) => !NOT_IN_A_FILE.test(option))
  assert.ok(options.includes('mqtt.tls.ca') && options.includes('routes.columns.userProperty'), options.join(' '))
  assert.deepEqual([...new Set(optionsOf(schema))].filter((option) => option !== '$schema').sort(), [...new Set(options)].sort())
})

test('the configurations for deployment are right', () => {
  for (const name of ['deploy/config/millrace.json', 'deploy/kubernetes/millrace.json']) {
    assert.ok(accepts(JSON.parse(read(name))), `${name}: ${JSON.stringify(accepts.errors)}`)
  }
})

test('the example of the help, and those of the documentation, are right', () => {
  const help = read('lib/cli/index.js')
  const example = /\n {2}(\{\n[^]*?\n {2}\})/.exec(help)[1].replaceAll('\\${', '${')
  const parsed = JSON.parse(example)
  assert.ok(accepts(parsed), JSON.stringify(accepts.errors))
  for (const [, text] of read('docs/cli.md').matchAll(/```jsonc\n([^]*?)```/g)) {
    const plain = JSON.parse(text.replace(/^\s*\/\/.*$/gm, '').replace(/,(\s*[}\]])/g, '$1'))
    assert.ok(accepts(plain), `${JSON.stringify(accepts.errors)} ${text}`)
  }
})
