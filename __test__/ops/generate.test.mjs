// The output of `npm run generate` for a table of options with every kind. `npm test` compares the
// files of the repository with that of the real table by `npm run generate -- --check`.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Ajv } from 'ajv'
import { updateTables } from '../../scripts/generate/docs.mjs'
import { jsonSchema } from '../../scripts/generate/json-schema.mjs'
import { updateCodes, updateTypes } from '../../scripts/generate/types.mjs'

const row = (name, kind, rest = {}) => ({ name, kind, default: 'absent', unit: null, sentence: `The ${name}.`, note: '', example: null, ...rest })
const object = (name, rows, rest = {}) => ({ kind: 'object', object: { name, about: `About ${name}.`, includes: [], rows, rules: '{}', ...rest } })
const text = { kind: 'text', empty: 'allowed', max_bytes: null, pattern: null }
const integer = { kind: 'integer', min: 0, max: 50, is_listed: false }
const auto = { kind: 'choice', words: ['auto'] }
const required = { default: { required: '' } }
const secret = {
  kind: 'named',
  name: 'Secret',
  about: 'A text, a function that gives it, or a file.',
  of: { kind: 'union', of: [text, { kind: 'code', typescript: '() => string', phrase: 'a function' }, object(null, [row('file', text, required)])] },
}
const certificates = object('Certificates', [row('ca', { kind: 'pem' }, { note: 'In PEM.' })]).object

/** @type {any[]} */
const roots = [
  object('Config', [
    row('wait', { kind: 'union', of: [integer, auto] }, { unit: 'milliseconds', default: { text: 'auto' } }),
    row('version', { kind: 'union', of: [{ kind: 'integer', min: 4, max: 5, is_listed: true }, auto] }),
    row('bytes', { kind: 'integer', min: 1024, max: 2 ** 21, is_listed: false }, { unit: 'bytes', default: { integer: 2 ** 20 } }),
    row('share', { kind: 'number', min: null, max: null }, { default: { number: 0.5 } }),
    row('user', secret, required),
    row('password', secret),
    row('urls', { kind: 'oneOrMore', item: { ...text, pattern: '^x' } }),
    row('nulls', { kind: 'list', item: { kind: 'union', of: [text, integer] } }),
    row('limits', object(null, [row('rows', integer), row('on', { kind: 'flag' }, { default: { flag: true } })])),
    row('tls', object(null, [row('name', text)], { includes: [certificates] })),
    row('inputs', { kind: 'record', value: secret, refused: ['mine'] }, { note: 'By name.' }),
    row('map', { kind: 'record', value: { kind: 'any' }, refused: [] }),
    row('transform', { kind: 'union', of: [text, { kind: 'code', typescript: '(batch: Batch) => void', phrase: 'a function' }] }),
    row('tracing', object(null, [row('tracer', { kind: 'code', typescript: 'Tracer', phrase: 'a Tracer' }, required)])),
  ], { rules: '{"dependencies":{"password":["urls"]}}' }),
]

test('the JSON Schema accepts every option of a file', () => {
  const accepts = new Ajv({ strict: true, allowUnionTypes: true, strictRequired: false }).compile(jsonSchema(roots))
  for (const config of [
    { user: 'me' },
    { user: { file: 'f' }, wait: 5, version: 4, bytes: 1024, share: -3.5, limits: { rows: 3, on: false } },
    { user: 'me', wait: 'auto', version: 'auto', password: { file: 'f' }, urls: ['x'], nulls: ['a', 1] },
    { user: 'me', wait: '${WAIT}', urls: '${URL}', tls: { ca: 'a', name: 'b' }, inputs: { a: 'b' }, map: { a: [1] }, transform: 'a.js' },
  ]) {
    assert.ok(accepts(config), `${JSON.stringify(config)}: ${JSON.stringify(accepts.errors)}`)
  }
  for (const wrong of [
    {},
    { user: 5 },
    { user: {} },
    { user: 'me', wait: 51 },
    { user: 'me', wait: 'soon' },
    { user: 'me', version: 6 },
    { user: 'me', bytes: 1023 },
    { user: 'me', password: 'p' },
    { user: 'me', urls: 'y' },
    { user: 'me', urls: [] },
    { user: 'me', nulls: [] },
    { user: 'me', tls: { ca: '' } },
    { user: 'me', tls: { cert: 'c' } },
    { user: 'me', inputs: { mine: 'b' } },
    { user: 'me', tracing: {} },
    { user: 'me', limits: { columns: 1 } },
  ]) {
    assert.ok(!accepts(wrong), JSON.stringify(wrong))
  }
})

test('the types have the codes, and what options ask of each other', () => {
  const codes = updateCodes({ A: ['B', 'C'] }, '// Generated from src/core/codes.rs by `npm run generate`: A\nold\n// End of the generated part\n')
  assert.match(codes, /export type A =\n {2}\| 'B'\n {2}\| 'C'\n\/\/ End/)
  const text = (name) => ({ name, kind: { kind: 'text' }, default: 'absent', unit: null, sentence: name, note: '', example: null })
  const typed = (rules) => {
    const object = { name: 'Config', about: 'Config.', includes: [], rows: [text('a'), text('b')], rules: JSON.stringify(rules) }
    return updateTypes([/** @type {any} */ ({ kind: 'object', object })], '// Generated from src/config/schema.rs by `npm run generate`: Config\n// End of the generated part\n')
  }
  assert.match(typed({ maxProperties: 1 }), /\} & \(\{ b\?: undefined \} \| \{ a\?: undefined \}\)\n/)
  assert.match(typed({ dependencies: { b: ['a'] } }), /\} & \(\{ b\?: undefined \} \| \{ a: string \}\)\n/)
})

test('the types have every option of a program', () => {
  const marked = '// Generated from src/config/schema.rs by `npm run generate`: Config\nold\n// End of the generated part\nby hand\n'
  const types = updateTypes(roots, marked)
  for (const line of [
    "  /** The wait. In milliseconds, 0 to 50. @default 'auto' */\n  wait?: number | 'auto' | undefined\n",
    "  version?: 4 | 5 | 'auto' | undefined\n",
    '  /** The bytes. In bytes, 1024 (1 KiB) to 2097152 (2 MiB). @default 1048576 (1 MiB) */\n  bytes?: number | undefined\n',
    '  /** The share. @default 0.5 */\n  share?: number | undefined\n',
    '  user: Secret\n',
    '  urls?: string | readonly string[] | undefined\n',
    '  nulls?: readonly (string | number)[] | undefined\n',
    '  limits?: {\n    /** The rows. From 0 to 50. */\n    rows?: number | undefined\n    /** The on. @default true */\n    on?: boolean | undefined\n  } | undefined\n',
    '  tls?: Certificates & {\n    /** The name. */\n    name?: string | undefined\n  } | undefined\n',
    '  inputs?: Readonly<Record<string, Secret>> | undefined\n',
    '  map?: Readonly<Record<string, JsonValue>> | undefined\n',
    '  transform?: string | ((batch: Batch) => void) | undefined\n',
    '  tracing?: { tracer: Tracer } | undefined\n',
    '/** A text, a function that gives it, or a file. */\nexport type Secret =\n  | string\n  | (() => string)\n  /** About null. */\n  | { file: string }\n',
    '/** About Certificates. */\nexport interface Certificates {\n  /** The ca. */\n  ca?: string | Buffer | undefined\n}\n',
    '// End of the generated part\nby hand\n',
  ]) {
    assert.ok(types.includes(line), `${line}\nis not in\n${types}`)
  }
  assert.equal(types.split('export type Secret').length, 2, 'it is written once')
  assert.equal(updateTypes(roots, types), types)
})

test('the tables have a row for each option, and the notes below', () => {
  const marked = ['.', 'tls'].map((path) => `<!-- generated by \`npm run generate\`: ${path} -->\nold\n<!-- end of the generated part -->\n`).join('between\n')
  const page = updateTables(roots, marked)
  for (const line of [
    "| `wait` | 0 to 50 ms or `'auto'` | `'auto'` | The wait. |",
    "| `version` | 4, 5 or `'auto'` |  | The version. |",
    '| `bytes` | 1024 (1 KiB) to 2097152 (2 MiB) bytes | 1048576 (1 MiB) | The bytes. |',
    '| `user` | text or a function or object | required | The user. |',
    '| `limits` | object |  | The limits. |\n| `limits.rows` | 0 to 50 |  | The rows. |\n| `limits.on` | `true`, `false` | `true` | The on. |',
    '| `tls` | object |  | The tls. |\n| `inputs` |',
    '\n- `inputs`: By name. Refused are `mine`.\n',
    'between\n<!-- generated by `npm run generate`: tls -->\n\n| option |',
    '| `ca` | PEM, or the path of a file |  | The ca. |\n| `name` | text |  | The name. |\n\n- `ca`: In PEM.\n',
  ]) {
    assert.ok(page.includes(line), `${line}\nis not in\n${page}`)
  }
  assert.equal(updateTables(roots, page), page)
  assert.throws(() => updateTables(roots, marked.replace(': tls', ': nothing')), /no option nothing/)
})
