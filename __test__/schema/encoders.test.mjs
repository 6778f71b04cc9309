// Payloads as the encoders that devices and programs use write them: MessagePack, CBOR, Protocol
// Buffers and Sparkplug B. The rows must have the encoded values.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { encode as encodeMessagePack } from '@msgpack/msgpack'
import { Encoder as CborX } from 'cbor-x'
import { encode as encodeCbor } from 'cbor2'
import protobuf from 'protobufjs'
import 'protobufjs/ext/descriptor/index.js'
import sparkplug from 'sparkplug-payload'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

/** Integers of 64 bits, as protobufjs and sparkplug-payload take them. */
const { Long } = /** @type {any} */ (protobuf.util)

const servers = useServers()
const timeout = 60_000

/**
 * Publishes payloads through a route to a new table with the columns `table`; gives the rows of `select`, each as a list of
 * texts, and the dead letters.
 *
 * @param {any} options
 */
async function arrive(t, options) {
  const { table: columns, select, order = 'n', payloads, topic = unique('topic'), ...route } = options
  const table = await servers.table(columns)
  const pipeline = await servers.started(t, { routes: [{ topic: route.filter ?? topic, table, ...without(route, 'filter') }] })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const payload of payloads) await publisher.publish(payload.topic ?? topic, Buffer.from(payload.bytes ?? payload))
  await settled(pipeline, payloads.length, { warnings })
  await heard(pipeline, letters)
  const texts = select.map((column, at) => `ifNull(toString(${column}), 'NULL') AS c${at}`)
  const rows = await servers.rows(`SELECT ${texts.join(', ')} FROM ${table} ORDER BY ${order}`)
  return { rows: rows.map((row) => Object.values(row)), letters: letters.map(({ code, message }) => `${code}: ${message}`) }
}

function without(object, name) {
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== name))
}

const MAX_U64 = 2n ** 64n - 1n
const MIN_I64 = -(2n ** 63n)
/** Where encodings of integers become longer, or other libraries give up. */
const UNSIGNED = [0n, 23n, 24n, 127n, 128n, 255n, 256n, 65_535n, 65_536n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, MAX_U64]
const SIGNED = [-1n, -24n, -25n, -32n, -33n, -128n, -129n, -32_769n, -(2n ** 31n), -(2n ** 31n) - 1n, -(2n ** 53n) - 1n, MIN_I64 + 1n, MIN_I64]
const FLOATS = [0, -0.5, 1.5, 7, 2 ** 40, 0.1, 1e300, 5e-324, -1e-7, 16_777_217, 3.4028234663852886e38]
const TIMES = ['1970-01-01T00:00:00.000Z', '2026-11-30T12:00:00.000Z', '2026-11-30T12:00:00.123Z', '2026-11-30T12:00:00.999Z', '2105-12-31T23:59:59.001Z']

/** Each kind of value in a document; `n` is its number. */
const DOCUMENTS = Array.from({ length: UNSIGNED.length }, (_, n) => ({
  n,
  unsigned: UNSIGNED[n],
  signed: SIGNED[n % SIGNED.length],
  float: FLOATS[n % FLOATS.length],
  whole: n * 2 ** 33,
  flag: n % 2 === 0,
  text: ['', 'plain', 'Grüße', '温度', 'x'.repeat(40), 'y'.repeat(300)][n % 6],
  bytes: Uint8Array.from({ length: (n * 37) % 300 }, (_, i) => (i * 7 + n) % 256),
  at: new Date(TIMES[n % TIMES.length]),
  nothing: n % 3 === 0 ? null : n % 3 === 1 ? undefined : 'something',
  list: Array.from({ length: n * 3 }, (_, i) => i * n),
  nested: { deep: { value: n / 4, names: ['a', 'b'].slice(0, n % 3) } },
  objects: Array.from({ length: n % 4 }, (_, i) => ({ k: `k${i}`, v: i + 0.25 })),
}))

const TABLE = `n UInt32, unsigned UInt64, signed Int64, float Float64, whole UInt64, flag Bool, text String, bytes String,
  at DateTime64(3, 'UTC'), nothing Nullable(String), list Array(Int64), value Float64, names Array(String), objects Nested(k String, v Float64)`

const READ = {
  table: TABLE,
  columns: { value: 'nested.deep.value', names: 'nested.deep.names' },
  select: ['n', 'unsigned', 'signed', 'reinterpretAsUInt64(float)', 'whole', 'flag', 'text', 'hex(bytes)', 'at', 'nothing', 'list', 'value', 'names', 'objects.k', 'objects.v'],
}

const list = (items) => `[${items.join(',')}]`
const quoted = (items) => list(items.map((item) => `'${item}'`))
const bits = (float) => new BigUint64Array(new Float64Array([float]).buffer)[0]

/** The row of a document, as `READ` selects it. */
function rowOf({ n, unsigned, signed, float, whole, flag, text, bytes, at, nothing, list: items, nested, objects }) {
  return [
    n,
    unsigned,
    signed,
    bits(float),
    whole,
    flag,
    text,
    Buffer.from(bytes).toString('hex').toUpperCase(),
    at.toISOString().replace('T', ' ').replace('Z', ''),
    nothing ?? 'NULL',
    list(items),
    nested.deep.value,
    quoted(nested.deep.names),
    quoted(objects.map(({ k }) => k)),
    list(objects.map(({ v }) => v)),
  ].map(String)
}

const ENCODERS = {
  '@msgpack/msgpack': { format: 'msgpack', encode: (value) => encodeMessagePack(value, { useBigInt64: true }) },
  cbor2: { format: 'cbor', encode: (value) => encodeCbor(value) },
  'cbor-x': { format: 'cbor', encode: (value) => new CborX({ useRecords: false }).encode(value) },
}

for (const [name, { format, encode }] of Object.entries(ENCODERS)) {
  test(`${name}: values of each kind`, { timeout }, async (t) => {
    const { rows, letters } = await arrive(t, { ...READ, format, payloads: DOCUMENTS.map(encode) })
    assert.deepEqual(letters, [])
    assert.deepEqual(rows, DOCUMENTS.map(rowOf))
  })

  test(`${name}: values that are not numbers, and a list as rows`, { timeout }, async (t) => {
    const floats = [NaN, Infinity, -Infinity, 1.5]
    const payload = encode(floats.map((float, n) => ({ n, float })))
    const { rows, letters } = await arrive(t, { table: 'n UInt8, float Float64', select: ['n', 'float'], format, payloads: [payload] })
    assert.deepEqual(letters, [])
    assert.deepEqual(rows, [['0', 'nan'], ['1', 'inf'], ['2', '-inf'], ['3', '1.5']])
  })
}

for (const name of ['cbor2', 'cbor-x']) {
  test(`${name}: integers beyond 64 bits`, { timeout }, async (t) => {
    const { format, encode } = ENCODERS[name]
    const numbers = [MAX_U64 + 1n, MIN_I64 - 1n, 2n ** 127n - 1n, -(2n ** 127n), 2n ** 200n + 1n, -(2n ** 255n)]
    const payloads = numbers.map((big, n) => encode({ n, big }))
    const { rows, letters } = await arrive(t, { table: 'n UInt8, big Int256', select: ['big'], format, payloads })
    assert.deepEqual(letters, [])
    assert.deepEqual(rows, numbers.map((number) => [String(number)]))
  })
}

test('cbor-x: records are refused, and the message says what to do', { timeout }, async (t) => {
  const payloads = [new CborX({ structures: [] }).encode({ n: 1 }), new CborX().encode({ n: 2 })]
  const { rows, letters } = await arrive(t, { table: 'n UInt8', select: ['n'], format: 'cbor', payloads })
  assert.deepEqual(rows, [])
  assert.deepEqual(letters.map((letter) => letter.split(':')[0]), ['PAYLOAD_INVALID', 'PAYLOAD_INVALID'])
  for (const letter of letters) assert.match(letter, /useRecords/)
})

const SCHEMA = `syntax = "proto3";
package fleet;
enum State { UNKNOWN = 0; MOVING = 1; PARKED = 2; }
message Time { int64 seconds = 1; int32 nanos = 2; }
message Reading {
  message Sensor { string name = 1; optional double value = 2; }
  uint32 n = 1;
  uint64 u64 = 2; int64 i64 = 3; sint64 s64 = 4; fixed64 f64 = 5; sfixed64 sf64 = 6;
  int32 i32 = 7; sint32 s32 = 8; fixed32 f32 = 9; sfixed32 sf32 = 10;
  float single = 11; double precise = 12; bool flag = 13; string text = 14; bytes raw = 15;
  State state = 16; repeated sint64 packed = 17; repeated string words = 18;
  map<string, int64> counts = 19; repeated Sensor sensors = 20; optional string maybe = 21;
  oneof choice { int32 number = 22; string word = 23; }
}`

test('protobufjs: values of each kind', { timeout }, async (t) => {
  const { root } = protobuf.parse(SCHEMA, { keepCase: true })
  const Reading = root.lookupType('fleet.Reading')
  // @ts-expect-error protobufjs/ext/descriptor adds it.
  const descriptor = root.toDescriptor('proto3')
  const schema = Buffer.from(descriptor.constructor.encode(descriptor).finish())
  const long = (number) => Long.fromString(String(BigInt.asIntN(64, number)))
  const signed = (n) => SIGNED[n % SIGNED.length]
  const count = UNSIGNED.length
  const payloads = Array.from({ length: count }, (_, n) => {
    const [i64, i32] = [long(signed(n)), Number(BigInt.asIntN(32, signed(n)))]
    return Reading.encode(Reading.create({
      n, u64: long(UNSIGNED[n]), i64, s64: i64, f64: long(UNSIGNED[n]), sf64: i64,
      i32, s32: i32, f32: Number(BigInt.asUintN(32, UNSIGNED[n])), sf32: i32,
      single: Math.fround(0.1 * n), precise: FLOATS[n % FLOATS.length], flag: n % 2 === 1, text: DOCUMENTS[n].text, raw: DOCUMENTS[n].bytes,
      state: n % 3, packed: Array.from({ length: n }, (_, i) => long(-BigInt(i) * 2n ** 40n)), words: ['a', 'b'].slice(0, n % 3),
      counts: n ? { [`k${n}`]: long(BigInt(n)) } : {}, sensors: [{ name: 's' }, { name: 't', value: n / 4 }].slice(0, n % 3),
      ...(n % 2 && { maybe: `m${n}` }), ...(n % 3 === 1 && { number: n }), ...(n % 3 === 2 && { word: `w${n}` }),
    })).finish()
  })
  const { rows, letters } = await arrive(t, {
    table: `n UInt32, u64 UInt64, i64 Int64, s64 Int64, f64 UInt64, sf64 Int64, i32 Int32, s32 Int32, f32 UInt32, sf32 Int32,
      single Float32, precise Float64, flag Bool, text String, raw String, state Enum8('UNKNOWN' = 0, 'MOVING' = 1, 'PARKED' = 2),
      state_number UInt8, packed Array(Int64), words Array(String), counts Map(String, Int64),
      sensors Nested(name String, value Nullable(Float64)), maybe Nullable(String), number Nullable(Int32), word Nullable(String)`,
    columns: { state_number: 'state' },
    format: { type: 'protobuf', schema, message: 'fleet.Reading' },
    payloads,
    select: ['n', 'u64', 'i64', 's64', 'f64', 'sf64', 'i32', 's32', 'f32', 'sf32', 'reinterpretAsUInt32(single)', 'reinterpretAsUInt64(precise)', 'flag', 'text', 'hex(raw)',
      'state', 'state_number', 'packed', 'words', 'counts', 'sensors.name', 'sensors.value', 'maybe', 'number', 'word'],
  })
  assert.deepEqual(letters, [])
  assert.deepEqual(rows, Array.from({ length: count }, (_, n) => {
    const [i64, i32] = [signed(n), BigInt.asIntN(32, signed(n))]
    return [
      n, UNSIGNED[n], i64, i64, UNSIGNED[n], i64, i32, i32, BigInt.asUintN(32, UNSIGNED[n]), i32,
      new Uint32Array(new Float32Array([0.1 * n]).buffer)[0], bits(FLOATS[n % FLOATS.length]), n % 2 === 1, DOCUMENTS[n].text,
      Buffer.from(DOCUMENTS[n].bytes).toString('hex').toUpperCase(),
      ['UNKNOWN', 'MOVING', 'PARKED'][n % 3], n % 3, list(Array.from({ length: n }, (_, i) => -BigInt(i) * 2n ** 40n)),
      quoted(['a', 'b'].slice(0, n % 3)), n ? `{'k${n}':${n}}` : '{}',
      quoted(['s', 't'].slice(0, n % 3)), list(['NULL', n / 4].slice(0, n % 3)),
      n % 2 ? `m${n}` : 'NULL', n % 3 === 1 ? n : 'NULL', n % 3 === 2 ? `w${n}` : 'NULL',
    ].map(String)
  }))
})

test('sparkplug-payload: metrics of each type, by name and by alias', { timeout }, async (t) => {
  const { encodePayload } = sparkplug.get('spBv1.0')
  const at = Date.parse('2026-11-30T12:00:00.250Z')
  const long = (number) => Long.fromString(String(BigInt.asIntN(64, number)), false)
  /** Type, value, and how the row has it. */
  const metrics = [
    ['Int8', -5, -5], ['Int16', -300, -300], ['Int32', -5, -5], ['Int64', long(MIN_I64), MIN_I64],
    ['UInt8', 255, 255], ['UInt16', 65_535, 65_535], ['UInt32', 4_294_967_295, 4_294_967_295], ['UInt64', long(2n ** 63n - 1n), 2n ** 63n - 1n],
    ['Float', 0.25, 0.25], ['Double', 0.1, 0.1], ['Boolean', true, true], ['Boolean', false, false],
    ['String', 'idle', 'idle'], ['Text', 'a longer text', 'a longer text'], ['UUID', '3ac7e3c4-4401-4b8d-9386-a5c902f9202d', '3ac7e3c4-4401-4b8d-9386-a5c902f9202d'],
    ['DateTime', long(BigInt(at)), '2026-11-30 12:00:00.250'], ['Double', null, 'NULL'],
  ].map(([type, value, expected], i) => ({ name: `m${String(i).padStart(2, '0')}`, alias: i + 1, type, value, expected, timestamp: at }))
  const birth = { timestamp: at, seq: 0, metrics: metrics.map(({ expected: _, ...metric }) => metric) }
  const data = { timestamp: at + 1_000, seq: 1, metrics: metrics.map(({ expected: _, name: __, ...metric }) => ({ ...metric, timestamp: at + 1_000 })) }
  const [group, node] = [unique('group'), 'node']
  const topics = { NBIRTH: `spBv1.0/${group}/NBIRTH/${node}`, NDATA: `spBv1.0/${group}/NDATA/${node}` }
  const { rows, letters } = await arrive(t, {
    table: `type String, name String, timestamp DateTime64(3, 'UTC'), is_null Bool, value Variant(Bool, DateTime64(3, 'UTC'), Float64, Int64, String, UInt64)`,
    filter: `spBv1.0/${group}/#`,
    format: 'sparkplug',
    select: ['type', 'name', 'timestamp', 'is_null', "if(isNull(value), 'NULL', toString(value))"],
    order: 'type, name',
    payloads: [{ topic: topics.NBIRTH, bytes: encodePayload(birth) }, { topic: topics.NDATA, bytes: encodePayload(data) }],
  })
  assert.deepEqual(letters, [])
  const expected = (type, time) => metrics.map((metric) => [type, metric.name, time, String(metric.value === null), String(metric.expected)])
  assert.deepEqual(rows, [...expected('NBIRTH', '2026-11-30 12:00:00.250'), ...expected('NDATA', '2026-11-30 12:00:01.250')])
})

/** Runs Python with a package of PyPI; `undefined` where it is not installed. */
function python(lines) {
  const { status, stdout } = spawnSync('python3', ['-c', lines.join('\n')], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : undefined
}

const CHIRPSTACK = python([
  'from chirpstack_api.integration import integration_pb2 as pb',
  'from google.protobuf import descriptor_pb2, json_format',
  'files = {}',
  'def add(d):',
  '    [add(i) for i in d.dependencies]',
  '    files.setdefault(d.name, d.serialized_pb)',
  'add(pb.DESCRIPTOR)',
  'schema = descriptor_pb2.FileDescriptorSet()',
  '[schema.file.add().ParseFromString(p) for p in files.values()]',
  'event = pb.UplinkEvent(deduplication_id="d1", dev_addr="00189440", adr=True, dr=5, f_cnt=70000, f_port=2, data=b"T2\\x00\\xff")',
  'event.time.FromJsonString("2026-11-30T12:00:00.775023Z")',
  'event.device_info.device_name = "field-7"',
  'event.object.update({"moisture": 38.25})',
  'event.rx_info.add(gateway_id="0016c001f153a14c", rssi=-36, snr=10.5)',
  'event.rx_info.add(gateway_id="0016c001f153a14d", rssi=-112)',
  'print(schema.SerializeToString().hex(), event.SerializeToString().hex(), json_format.MessageToJson(event, indent=None).encode().hex())',
])

test('chirpstack-api: an uplink in Protocol Buffers and in JSON', { timeout, skip: !CHIRPSTACK && 'pip install chirpstack-api' }, async (t) => {
  const [schema, event, json] = String(CHIRPSTACK).split(' ').map((digits) => Buffer.from(digits, 'hex'))
  const columns = { name: 'deviceInfo.deviceName', port: 'fPort', gateways: 'rxInfo', moisture: 'object.moisture' }
  const table = `n UInt32, name String, at DateTime64(6, 'UTC'), port UInt8, data String, gateways Nested(gatewayId String, rssi Int16, snr Float32)`
  const select = ['n', 'name', 'at', 'port', 'hex(data)', 'gateways.gatewayId', 'gateways.rssi', 'gateways.snr']
  const options = { table, select, missingFields: 'zero', columns: { ...without(columns, 'moisture'), n: 'fCnt', at: 'time' } }
  const row = ['70000', 'field-7', '2026-11-30 12:00:00.775023', '2', '543200FF', "['0016c001f153a14c','0016c001f153a14d']", '[-36,-112]', '[10.5,0]']
  const format = { type: 'protobuf', schema, message: 'integration.UplinkEvent' }
  assert.deepEqual(await arrive(t, { ...options, format, payloads: [event] }), { rows: [row], letters: [] })
  const base64 = { ...options, columns: { ...options.columns, data: { path: 'data', parse: 'base64' } } }
  assert.deepEqual(await arrive(t, { ...base64, payloads: [json] }), { rows: [row], letters: [] })
})

const THEENGS = python([
  'from TheengsDecoder import decodeBLE',
  'import json',
  'print(decodeBLE(json.dumps({"manufacturerdata": "990405" + "12FC5394C37C0004FFFC040CAC364200CDCBB8334C884F", "id": "CB:B8:33:00:00:01", "rssi": -60})))',
])

test('TheengsDecoder: its output for an advertisement', { timeout, skip: !THEENGS && 'pip install TheengsDecoder' }, async (t) => {
  const decoded = JSON.parse(String(THEENGS))
  const { rows, letters } = await arrive(t, {
    table: 'id String, rssi Int16, model_id String, tempc Float64, hum Float64',
    select: ['id', 'rssi', 'model_id', 'tempc', 'hum'],
    order: 'id',
    payloads: [String(THEENGS)],
  })
  assert.deepEqual(letters, [])
  assert.deepEqual(rows, [[decoded.id, decoded.rssi, decoded.model_id, decoded.tempc, decoded.hum].map(String)])
})
