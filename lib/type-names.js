'use strict'

// ClickHouse's type names, taken apart: `Array(Nullable(UInt8))`, `Tuple(lat Float64, lng Float64)`, `Enum8('a' = 1)`.

/**
 * The name before the parentheses, and the texts of the arguments within them.
 *
 * @param {string} text
 * @returns {{ name: string, args: string[] }}
 */
function parseType(text) {
  const open = text.indexOf('(')
  if (open < 0) return { name: text.trim(), args: [] }
  return { name: text.slice(0, open).trim(), args: split(text.slice(open + 1, text.lastIndexOf(')'))) }
}

/** Splits at the commas that are in no parentheses and in no quotes. */
function split(text) {
  const parts = []
  let depth = 0
  let begin = 0
  for (let at = 0; at < text.length; at++) {
    const c = text[at]
    if (c === "'" || c === '`') at = endOfQuoted(text, at)
    else if (c === '(') depth++
    else if (c === ')') depth--
    else if (c === ',' && depth === 0) {
      parts.push(text.slice(begin, at).trim())
      begin = at + 1
    }
  }
  const last = text.slice(begin).trim()
  return last === '' ? parts : [...parts, last]
}

/** Where what is quoted from `at` on ends. */
function endOfQuoted(text, at) {
  const quote = text[at]
  for (let end = at + 1; end < text.length; end++) {
    if (text[end] === '\\') end++
    else if (text[end] === quote) return end
  }
  return text.length
}

const NAMED = /^(`(?:[^`\\]|\\.)*`|[A-Za-z_]\w*)\s+(.+)$/s

/**
 * An element of a Tuple or a Nested: its type, and its name if it has one.
 *
 * @param {string} arg
 * @returns {{ name?: string, type: string }}
 */
function parseElement(arg) {
  const [, name, type] = NAMED.exec(arg) ?? []
  return name === undefined ? { type: arg } : { name: unquote(name), type }
}

/**
 * The names of an enum.
 *
 * @param {string[]} args such as `'a' = 1`
 */
function enumNames(args) {
  return args.map((arg) => unquote(arg.slice(0, endOfQuoted(arg, 0) + 1)))
}

const ESCAPES = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', 0: '\0', a: '\x07', v: '\v' }

function unquote(text) {
  if (text[0] !== "'" && text[0] !== '`') return text
  return text.slice(1, -1).replace(/\\(.)/gs, (_, c) => ESCAPES[c] ?? c)
}

/** An identifier in backticks. */
function quoteName(name) {
  return `\`${name.replace(/[\\`]/g, '\\$&')}\``
}

module.exports = { enumNames, parseElement, parseType, quoteName }
