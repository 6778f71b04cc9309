// The words of comments, of names of tests and of documents: CONTRIBUTING.md asks for a subject, a verb and a number. This
// holds the part of the rule that can be held: no comment begins with a clause that lacks its noun, and no sentence uses
// words that the field does not have.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** How no sentence of a comment begins, and no name of a test. "Whether" may begin one: it is the form of a flag. */
const BEGINNING = /(?:^|[.;] +)(?:Of|What|Those|That which|That of|So many)\b/
/** Each with a better word: "told" is reported, "letters" are dead letters, "is no row" is "is not a row". */
const WORDS = [
  /\b(?:told|tells?|telling)\b/i,
  /\b(?<!\bdead[- ])letters?\b/i,
  /\bbesides\b/i,
  /\busual(?:ly)?\b/i,
  /\bwholes?\b/i,
  /\bpieces?\b/i,
  /\bspares\b/i,
  /\b(?:hears?|heard)\b/i,
  /\brests\b/i,
  /\bso many\b/i,
  /\bmend(?:s|ed)?\b/i,
  /\b(?:handed|hand(?:s|ed|ing)? (?:over|back))\b/i,
  /\b(?:go|goes|went|gone) in\b/i,
  /(?<!\bthere )\b(?:is|are|was|were|been?|becomes?|became) no\b(?! (?:longer|more))/i,
]
const CODE = /`[^`]*`/g

/** @typedef {{ line: number, text: string }} Text */

/**
 * The comments of a file in Rust or JavaScript, each block as one text without its marks.
 *
 * @param {string} source
 * @returns {Text[]}
 */
function commentsOf(source) {
  /** @type {Text[]} */
  const comments = []
  /** @type {(Text & { mark: string }) | undefined} */
  let open
  for (const [at, line] of source.split('\n').entries()) {
    const [, mark, text] = line.match(/^\s*(\/\/[/!]?|\/\*\*?|\*(?!\/))(?!\/)(.*?)(?:\*\/)?\s*$/) ?? []
    const isInBlock = mark === '*' && open?.mark.startsWith('/*')
    if (mark === undefined || (mark === '*' && !isInBlock)) {
      open = undefined
      const [, behind] = line.match(/^[^'"`]*\s\/\/ (.*)$/) ?? []
      if (behind) comments.push({ line: at + 1, text: behind })
    } else if (open && (isInBlock || open.mark === mark)) {
      open.text += text
    } else {
      open = { line: at + 1, text, mark }
      comments.push(open)
    }
  }
  return comments.map(({ line, text }) => ({ line, text: text.trim() }))
}

/** The names of tests in a file of JavaScript, and of functions in one of Rust, in words. */
function namesOf(source, isRust) {
  const names = isRust ? /\bfn (\w+)/g : /\b(?:test|describe|suite)(?:\.\w+)?\(\s*(?:'((?:[^'\\]|\\.)*)'|"([^"]*)"|`([^`]*)`)/g
  return Array.from(source.matchAll(names), ({ index, 0: _, ...groups }) => {
    const text = Object.values(groups).find((group) => typeof group === 'string') ?? ''
    const line = source.slice(0, index).split('\n').length
    return { line, text: isRust ? text.replaceAll('_', ' ') : text.replace(/\$\{[^}]*\}/g, 'x') }
  })
}

/** The lines of a document, without blocks of code. */
function linesOf(source) {
  let isCode = false
  return source.split('\n').flatMap((text, at) => {
    if (text.startsWith('```')) isCode = !isCode
    return isCode ? [] : [{ line: at + 1, text }]
  })
}

/** @param {Text} name */
const capitalised = ({ line, text }) => ({ line, text: text.charAt(0).toUpperCase() + text.slice(1) })

/** The faults of a file, as text. */
function faultsOf(file, source) {
  const kind = extname(file)
  const isDocument = kind === '.md'
  const isRust = kind === '.rs'
  const comments = isDocument ? [] : commentsOf(source)
  const names = isDocument ? [] : namesOf(source, isRust)
  // A name of two words, such as `of_rows`, is a constructor's.
  const sentences = names.filter(({ text }) => text.split(' ').length > 2).map(capitalised)
  const beginnings = [...comments, ...sentences].filter(({ text }) => BEGINNING.test(text))
  const words = [...comments, ...names, ...(isDocument ? linesOf(source) : [])].flatMap(({ line, text }) => {
    const plain = text.replace(CODE, 'x')
    return WORDS.flatMap((word) => plain.match(word)?.[0] ?? []).map((word) => ({ line, text: `"${word}" in: ${text}` }))
  })
  return [...beginnings, ...words].map(({ line, text }) => `${file}:${line}: ${text.slice(0, 200)}`)
}

test('comments, names of tests and documents keep to the words of the field', () => {
  const found = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: ROOT, encoding: 'utf8' })
  const files = found.split('\n').filter((file) => /\.(rs|[cm]?[jt]s|md)$/.test(file) && file !== 'CHANGELOG.md' && file !== OWN)
  assert.ok(files.length > 400, `${files.length} files`)
  const faults = files.flatMap((file) => faultsOf(file, readFileSync(join(ROOT, file), 'utf8')))
  assert.deepEqual(faults, [])
})

/** This file has to name the words. */
const OWN = '__test__/api/wording.test.mjs'

test('each kind of fault is found', () => {
  const faults = (file, source) => faultsOf(file, source).length
  assert.equal(faults('a.rs', '//! What it is.\n'), 1)
  assert.equal(faults('a.rs', 'let a = 1; // Of the first.\n'), 1)
  assert.equal(faults('a.rs', '/// The first line. Those of the\n/// second are told.\n'), 2)
  assert.equal(faults('a.rs', '/// A dead letter, and `letters`.\nfn what_is_no_row_is_refused() {}\n'), 2)
  assert.equal(faults('a.rs', '/// There is no row.\npub fn of_rows() {}\n'), 0)
  assert.equal(faults('a.mjs', "/** Those of a table. */\ntest('the whole table', () => {})\n"), 2)
  assert.equal(faults('a.mjs', '/**\n * A row.\n *\n * @param {string} a what is told\n */\n'), 1)
  assert.equal(faults('a.md', 'Rows go in.\n```\nRows go in.\n```\nThe row `is no` more.\n'), 1)
})
