// JSON texts for values with parts: lists, objects and variants, composed of the `Texts` of values.mjs.

import { float, float64, string } from './values.mjs'

/** @typedef {import('./values.mjs').Texts} Texts */

/** Types that cannot be Nullable. */
const WHOLE = { canBeNull: false }

/** The same, or null. */
export function optional({ edges, random }) {
  return { edges: [...edges, 'null'], random: (r) => (r.chance(0.2) ? 'null' : random(r)) }
}

/** An Array; the first edges are all of the items' edges at once, and none. */
export function array(items, { most = 5 } = {}) {
  const list = (texts) => `[${texts.join(',')}]`
  return {
    ...WHOLE,
    edges: [list(items.edges), '[]', '[ ]', ...items.edges.map((text) => list([text]))],
    random: (r) => list(Array.from({ length: r.below(most) }, () => some(r, items))),
  }
}

/** An unnamed Tuple: a list. */
export function tuple(...parts) {
  const list = (texts) => `[${texts.join(', ')}]`
  return { ...WHOLE, edges: transpose(parts, list), random: (r) => list(parts.map((part) => some(r, part))) }
}

/**
 * A named Tuple: an object, in any order and, unless `closed`, with members that no column reads. The
 * members in `omissible` may be missing.
 *
 * @param {Record<string, Texts>} parts
 */
export function record(parts, { omissible = [], closed = false } = {}) {
  const names = Object.keys(parts)
  const member = (name, text) => `${JSON.stringify(name)}:${text}`
  const object = (members) => `{${members.join(',')}}`
  return {
    ...WHOLE,
    edges: transpose(Object.values(parts), (texts) => object(texts.map((text, i) => member(names[i], text)))),
    random: (r) => {
      const kept = names.filter((name) => !omissible.includes(name) || r.chance(0.7))
      const members = kept.map((name) => member(name, some(r, parts[name])))
      while (!closed && r.chance(0.2)) members.push(member(`other ${members.length}`, junk(r, 2)))
      return object(shuffled(r, members))
    },
  }
}

/** A Map; no key is there twice, and none is a boolean. */
export function map(keys, values) {
  const object = (entries) => `{${entries.map(([key, text]) => `${key}:${text}`).join(',')}}`
  const quoted = (text) => (text.startsWith('"') ? text : `"${text}"`)
  const unique = (list) => {
    const kept = list.filter((text) => text !== 'true' && text !== 'false')
    return [...new Map(kept.map((text) => [JSON.parse(quoted(text)), quoted(text)])).values()]
  }
  return {
    ...WHOLE,
    edges: ['{}', ...unique(keys.edges).map((key, i) => object([[key, values.edges[i % values.edges.length]]]))],
    random: (r) => {
      const names = unique(Array.from({ length: r.below(4) }, () => keys.random(r)))
      return object(names.map((name) => [name, some(r, values)]))
    },
  }
}

/** One of several kinds of text. */
export function either(...kinds) {
  return {
    ...WHOLE,
    edges: kinds.flatMap((kind) => kind.edges),
    random: (r) => r.pick(kinds).random(r),
  }
}

/** Strings that cannot be taken for anything else. */
export function word() {
  const said = (text) => `"word ${text.slice(1)}`
  return { edges: string().edges.slice(0, -1).map(said), random: (r) => said(string().random(r)) }
}

/** Numbers that cannot be taken for integers. */
export function fraction() {
  const edges = ['0.5', '-1.5', '1.5e300', '2.5e-3', '0.1']
  return { edges, random: (r) => `${r.pick(['', '-'])}${r.below(1_000)}.${1 + r.below(1_000_000)}` }
}

/** Any object without a path that is there twice: what a JSON column takes. */
export function json() {
  const edges = [
    '{}', '{"a":1}', '{"a":{"b":{"c":[1,2,3]}}}', '{"a":null}', '{"a":{}}', '{"":1}', ' { "a" : 1 } ',
    '{"a":18446744073709551615,"b":-9223372036854775808,"c":1.0,"d":1e2,"e":1.7976931348623157e308}',
    '{"a":[1,"x",null,1.5,{"b":[{"c":1}]}]}', '{"a":"2024-10-27","b":"2024-10-27 03:33:20","c":"1.5","d":"true"}',
    '{"a":true,"b":[true,false],"c":[[1],[2,3]],"d":[{"e":1},{"e":"x"}]}', '{"ü \\n":"\\ud83d\\ude9a"}',
    '{"a.b":1,"c":{"d":2}}', `${'{"a":'.repeat(60)}1${'}'.repeat(60)}`,
  ]
  return { edges, random: (r) => object(r, 3) }
}

function object(random, depth) {
  const names = ['a', 'b', 'c d', 'é', 'dot.ted'].filter(() => random.chance(0.5))
  return `{${names.map((name) => `${JSON.stringify(name)}:${anything(random, depth - 1)}`).join(', ')}}`
}

function anything(random, depth) {
  switch (random.below(depth > 0 ? 7 : 5)) {
    case 0:
      return random.pick(['null', 'true', 'false'])
    case 1:
      return String(random.between(-(2n ** 63n), 2n ** 64n - 1n) >> BigInt(random.below(64)))
    case 2:
      return float(random, 17, 290)
    case 3:
      return string().random(random)
    case 4:
      return random.pick(['""', '{}', '0', '-1'])
    case 5: {
      // The type that ClickHouse infers for an empty list, or one of different kinds, changes from one
      // INSERT to the next.
      const item = random.pick([() => string().random(random), () => object(random, depth), () => String(random.below(300))])
      return `[${Array.from({ length: 1 + random.below(3) }, item).join(',')}]`
    }
    default:
      return object(random, depth)
  }
}

/** Any JSON, for fields that no column reads. */
export function junk(random, depth) {
  switch (random.below(depth > 0 ? 6 : 4)) {
    case 0:
      return random.pick(['null', 'true', 'false'])
    case 1:
      return float64().random(random)
    case 2:
      return string().random(random)
    case 3:
      return random.pick(['""', '{}', '[]', '"}"', '"\\""'])
    case 4:
      return `[${Array.from({ length: random.below(4) }, () => junk(random, depth - 1)).join(', ')}]`
    default:
      return `{${Array.from({ length: random.below(4) }, (_, i) => `"c${i}": ${junk(random, depth - 1)}`).join(',')}}`
  }
}

/** The list in another order. */
export function shuffled(random, list) {
  const copy = [...list]
  for (let i = copy.length - 1; i > 0; i--) {
    const j = random.below(i + 1)
    ;[copy[i], copy[j]] = [copy[j], copy[i]]
  }
  return copy
}

/** A random text, or now and then an edge. */
export function some(random, { edges, random: text }) {
  return random.chance(0.1) ? random.pick(edges) : text(random)
}

/** Texts of all parts together, until each of their edges was there. */
function transpose(parts, joined) {
  const count = Math.max(...parts.map((part) => part.edges.length))
  return Array.from({ length: count }, (_, i) => joined(parts.map(({ edges }) => edges[i % edges.length])))
}
