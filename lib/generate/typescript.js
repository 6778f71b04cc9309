'use strict'

// Turns the engine's shapes of types into TypeScript types: for a field of a message, as the decoder accepts it, and for a
// column of a row, as `FORMAT JSONEachRow` writes it.

/**
 * The shape of a ClickHouse type in JSON; `src/check/generate_types.rs` documents it.
 *
 * @typedef {{ kind: string, nullable: boolean, parts?: Shape[], names?: string[] }} Shape
 */

/** JavaScript numbers are not exact at 64 bits and more: messages may have text instead, and ClickHouse may return it. */
const WIDE = ['number', 'string']
/** A message may also have a number, since 1970 or since midnight; a row has text. */
const TIME = { message: ['number', 'string'], row: ['string'] }

/**
 * The types that a value may have.
 *
 * @param {Shape | null} shape
 * @param {'message' | 'row'} side
 * @returns {string[]} to be joined by ` | `
 */
function typesOf(shape, side) {
  if (!shape || shape.kind === 'Dynamic') return ['unknown']
  const types = typesOfValue(shape, side)
  return shape.nullable ? unique([...types, 'null']) : types
}

function typesOfValue({ kind, parts = [], names = [] }, side) {
  const typesOfParts = parts.map((part) => typesOf(part, side))
  const texts = typesOfParts.map((types) => types.join(' | '))
  switch (kind) {
    case 'Bool':
      return ['boolean']
    case 'Number':
      return ['number']
    case 'Wide':
      return WIDE
    case 'Time':
    case 'TimeOfDay':
      return TIME[side]
    case 'Enum':
      return names.map((name) => JSON.stringify(name))
    case 'Json':
      return ['Record<string, unknown>']
    case 'Array':
      return [listOf(texts[0])]
    case 'Map':
      return [`Record<string, ${texts[0]}>`]
    case 'Tuple':
      return [names.length > 0 ? objectOf(names, parts, texts, side) : `[${texts.join(', ')}]`]
    case 'Variant':
      return unique(typesOfParts.flat())
    default:
      return ['string']
  }
}

function objectOf(names, parts, texts, side) {
  const members = names.map((name, i) => {
    const mark = side === 'message' && parts[i].nullable ? '?' : ''
    return `${property(name)}${mark}: ${texts[i]}`
  })
  return `{ ${members.join('; ')} }`
}

function listOf(type) {
  return `${inParentheses(type)}[]`
}

function inParentheses(type) {
  return / [|&] /.test(type) ? `(${type})` : type
}

/** The name of a property, quoted unless it is an identifier. */
function property(name) {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name)
}

function unique(items) {
  return [...new Set(items)]
}

module.exports = { inParentheses, listOf, property, typesOf, unique }
