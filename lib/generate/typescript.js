'use strict'

// What the engine calls shapes, as TypeScript: of a field in a message, as the decoder reads it, and of a column in a row,
// as `FORMAT JSONEachRow` gives it.

/**
 * A type of ClickHouse as far as JSON shows it; `src/describe.rs` says what is in it.
 *
 * @typedef {{ kind: string, nullable: boolean, parts?: Shape[], names?: string[] }} Shape
 */

/** 64 bits and more are not exact as numbers of JavaScript: a text is taken too, and ClickHouse may give one. */
const WIDE = ['number', 'string']
/** A message may also have a number: since 1970, or since midnight. */
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

/** The name of a property, in quotes where it needs them. */
function property(name) {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name)
}

function unique(items) {
  return [...new Set(items)]
}

module.exports = { inParentheses, listOf, property, typesOf, unique }
