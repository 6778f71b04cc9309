// The types of the options in index.d.ts, between a pair of markers for each root of the table.

import { defaultText, described, isRequired, listed, replaceRegions, rowsOf } from './table.mjs'

/** @typedef {import('./table.mjs').Kind} Kind */
/** @typedef {import('./table.mjs').ObjectType} ObjectType */
/** @typedef {import('./table.mjs').Row} Row */

const WIDTH = 120
const REGION = /^(\/\/ Generated from src\/config\/schema\.rs by `npm run generate`: (\w+)\n)([^]*?)(\/\/ End of the generated part\n)/gm

/**
 * @param {Kind[]} roots
 * @param {string} text of index.d.ts
 */
export function updateTypes(roots, text) {
  return replaceRegions(text, REGION, (name) => {
    const root = roots.find((one) => nameOf(one) === name)
    if (!root) throw new Error(`index.d.ts: the table of options has no ${name}`)
    return `\n${namedTypes(root).map((one) => `${declaration(one)}\n\n`).join('')}`
  })
}

const CODES = /^(\/\/ Generated from src\/core\/codes\.rs by `npm run generate`: (\w+)\n)([^]*?)(\/\/ End of the generated part\n)/gm

/**
 * The unions of codes.
 *
 * @param {Record<string, string[]>} codes by the name of their type
 * @param {string} text of index.d.ts
 */
export function updateCodes(codes, text) {
  return replaceRegions(text, CODES, (name) => {
    if (!codes[name]) throw new Error(`index.d.ts: src/core/codes.rs has no ${name}`)
    return `export type ${name} =\n${codes[name].map((code) => `  | '${code}'\n`).join('')}`
  })
}

/**
 * The types with a name that a kind uses, each once, in the order of their depth.
 *
 * @param {Kind} root
 */
function namedTypes(root) {
  const found = new Map([[nameOf(root), root]])
  const queue = [root]
  for (let kind = queue.shift(); kind; kind = queue.shift()) {
    for (const used of uses(kind)) {
      const name = nameOf(used)
      if (name !== null && found.has(name)) continue
      if (name !== null) found.set(name, used)
      queue.push(used)
    }
  }
  return [...found.values()]
}

/**
 * @param {Kind} kind
 * @returns {Kind[]}
 */
function uses(kind) {
  switch (kind.kind) {
    case 'object':
      return [...kind.object.includes.map(asKind), ...kind.object.rows.map((row) => row.kind)]
    case 'list':
    case 'oneOrMore':
      return [kind.item]
    case 'record':
      return [kind.value]
    case 'union':
      return kind.of
    case 'named':
      return [kind.of]
    default:
      return []
  }
}

/**
 * @param {ObjectType} object
 * @returns {Kind}
 */
function asKind(object) {
  return { kind: 'object', object }
}

/** @param {Kind} kind */
function nameOf(kind) {
  if (kind.kind === 'object') return kind.object.name
  return kind.kind === 'named' ? kind.name : null
}

/** @param {Kind} kind one with a name */
function declaration(kind) {
  if (kind.kind === 'object') {
    const { about, name } = kind.object
    const block = members(rowsOf(kind.object), '')
    const needs = needed(kind.object)
    if (needs === '') return `${comment(about)}export interface ${name} ${block}`
    return `${comment(about)}export type ${name} = ${block}${needs}`
  }
  if (kind.kind !== 'named') throw new Error(`a ${kind.kind} has no name`)
  const forms = kind.of.kind === 'union' ? kind.of.of : [kind.of]
  const isInline = (/** @type {Kind} */ form) => form.kind === 'object' && form.object.name === null
  const objects = forms.filter(isInline)
  // An object that mixes the options of two forms is none of them.
  const isExclusive = objects.length > 1
  const lines = (isExclusive ? forms.filter((form) => !isInline(form)) : forms).map((form) => formOf(form, '  '))
  if (isExclusive) lines.push(`  | Exclusive<\n${objects.map((form) => formOf(form, '    ')).join('\n')}\n  >`)
  return `${comment(kind.about)}export type ${kind.name} =\n${lines.join('\n')}`
}

/**
 * One form of a union, on a line of its own.
 *
 * @param {Kind} form
 * @param {string} indent
 */
function formOf(form, indent) {
  const about = form.kind === 'object' && form.object.name === null ? comment(form.object.about, indent) : ''
  return `${about}${indent}| ${grouped(form, `${indent}  `)}`
}

/**
 * The demands of an object's options on each other, as a type beside its members: which ones need another, and whether all of
 * them exclude each other.
 *
 * @param {ObjectType} object
 */
function needed(object) {
  const { dependencies = {}, maxProperties } = JSON.parse(object.rules)
  const rows = rowsOf(object)
  const isLone = maxProperties === 1
  const alone = rows.map((row) => `{ ${rows.filter((one) => one !== row).map((one) => `${one.name}?: undefined`).join('; ')} }`)
  const pairs = Object.entries(dependencies).map(([name, [other]]) => {
    const type = typeOf(rows[rows.findIndex((row) => row.name === other)].kind, '')
    return ` & ({ ${name}?: undefined } | { ${other}: ${type} })`
  })
  return `${isLone ? ` & (${alone.join(' | ')})` : ''}${pairs.join('')}`
}

/**
 * @param {Kind} kind
 * @param {string} indent of the line that it is on
 * @returns {string}
 */
function typeOf(kind, indent) {
  switch (kind.kind) {
    case 'text':
      return 'string'
    case 'file':
    case 'pem':
      return 'string | Buffer'
    case 'flag':
      return 'boolean'
    case 'any':
      return 'JsonValue'
    case 'integer':
      return kind.is_listed ? listed(kind).join(' | ') : 'number'
    case 'number':
      return 'number'
    case 'choice':
      return kind.words.map((word) => `'${word}'`).join(' | ')
    case 'object':
      return objectType(kind.object, indent)
    case 'list':
      return listType(kind.item, indent)
    case 'oneOrMore':
      return `${typeOf(kind.item, indent)} | ${listType(kind.item, indent)}`
    case 'record':
      return `Readonly<Record<string, ${typeOf(kind.value, indent)}>>`
    case 'union':
      return kind.of.map((one) => grouped(one, indent)).join(' | ')
    case 'named':
    case 'again':
      return kind.name
    case 'code':
      return kind.typescript
  }
}

/**
 * @param {Kind} item
 * @param {string} indent
 */
function listType(item, indent) {
  const type = grouped(item, indent)
  return type.includes(' | ') && !type.startsWith('(') ? `readonly (${type})[]` : `readonly ${type}[]`
}

/**
 * A function needs parentheses within a union.
 *
 * @param {Kind} kind
 * @param {string} indent
 */
function grouped(kind, indent) {
  const type = typeOf(kind, indent)
  return kind.kind === 'code' && type.includes('=>') ? `(${type})` : type
}

/**
 * @param {ObjectType} object
 * @param {string} indent
 */
function objectType(object, indent) {
  if (object.name !== null) return object.name
  const named = object.includes.filter(({ name }) => name !== null)
  const unnamed = object.includes.filter(({ name }) => name === null)
  const own = [...unnamed.flatMap(rowsOf), ...object.rows]
  const [only] = own
  const isShort = own.length === 1 && only.kind.kind !== 'object' && isRequired(only)
  const block = isShort ? `{ ${only.name}: ${typeOf(only.kind, indent)} }` : members(own, indent)
  return [...named.map(({ name }) => name), ...(own.length > 0 ? [block] : [])].join(' & ')
}

/**
 * @param {Row[]} rows
 * @param {string} indent
 */
function members(rows, indent) {
  const inner = `${indent}  `
  const lines = rows.map((row) => {
    const value = defaultText(row)
    const tag = value === undefined ? undefined : `@default ${value}`
    const mark = isRequired(row) ? '' : '?'
    return `${comment(described(row), inner, tag)}${inner}${row.name}${mark}: ${typeOf(row.kind, inner)}${isRequired(row) ? '' : ' | undefined'}\n`
  })
  return `{\n${lines.join('')}${indent}}`
}

/**
 * @param {string} text paragraphs
 * @param {string} [indent]
 * @param {string} [tag] behind the text, or on a line of its own
 */
function comment(text, indent = '', tag) {
  const short = `${indent}/** ${[text, tag].filter(Boolean).join(' ')} */`
  if (short.length <= WIDTH && !text.includes('\n')) return `${short}\n`
  const lines = [text, ...(tag ? [tag] : [])]
    .flatMap((part) => part.split('\n'))
    .flatMap((paragraph) => wrap(paragraph, WIDTH - indent.length - 3))
  return [`${indent}/**`, ...lines.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`, ''].join('\n')
}

/**
 * @param {string} text
 * @param {number} width
 */
function wrap(text, width) {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = `${lines[lines.length - 1]} ${word}`.trimStart()
    if (line.length <= width) lines[lines.length - 1] = line
    else lines.push(word)
  }
  return lines
}
