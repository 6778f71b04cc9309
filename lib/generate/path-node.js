'use strict'

// A tree of the paths that a route's columns read. It merges them into the TypeScript type of a payload.

const { inParentheses, listOf, property, unique } = require('./typescript.js')

/**
 * @typedef {object} Leaf
 * @property {string[]} types without null
 * @property {boolean} isOptional
 * @property {boolean} isText a String column accepts any value: other columns of the same path decide the type
 * @property {string} doc
 */

/** One place of a payload: the columns that read it, and its members, items and elements. */
class PathNode {
  /** @type {Leaf[]} */
  #leaves = []
  /** @type {Map<string, PathNode>} */
  #fields = new Map()
  /** @type {Map<number, PathNode>} */
  #items = new Map()
  /** @type {PathNode | undefined} */
  #element
  #isListNeeded = false

  /** @param {(string | number)[]} segments */
  at(segments) {
    let node = /** @type {PathNode} */ (this)
    for (const segment of segments) {
      const children = /** @type {Map<string | number, PathNode>} */ (
        typeof segment === 'number' ? node.#items : node.#fields
      )
      if (!children.has(segment)) children.set(segment, new PathNode())
      node = /** @type {PathNode} */ (children.get(segment))
    }
    return node
  }

  /** The node of each element, if this place is a list. */
  get element() {
    this.#element ??= new PathNode()
    return this.#element
  }

  /** Makes the list at this place required, whatever its elements need. */
  needList() {
    this.#isListNeeded = true
  }

  /** @param {Leaf} leaf */
  put(leaf) {
    this.#leaves.push(leaf)
  }

  get isEmpty() {
    return this.#leaves.length + this.#fields.size + this.#items.size === 0 && !this.#element
  }

  get isOptional() {
    const isOptional = (/** @type {PathNode} */ node) => node.isOptional
    return (
      !this.#isListNeeded &&
      this.#leaves.every((leaf) => leaf.isOptional) &&
      [...this.#fields.values()].every(isOptional) &&
      [...this.#items.values()].every(isOptional)
    )
  }

  get isObject() {
    return this.#fields.size > 0 && this.#kinds('').length === 1
  }

  /** The TypeScript type of this place; lines after the first begin with `indent`. */
  type(indent) {
    const kinds = this.#kinds(indent)
    if (kinds.length === 0) return 'unknown'
    return kinds.length === 1 ? kinds[0] : kinds.map(inParentheses).join(' & ')
  }

  /** The types that this place must have at the same time: they are joined by `&`. */
  #kinds(indent) {
    const kinds = []
    if (this.#fields.size > 0) kinds.push(this.#object(indent))
    if (this.#items.size > 0) kinds.push(this.#tuple(indent))
    if (this.#element) {
      const type = this.#element.type(indent)
      kinds.push(this.#element.isObject ? `${type}[]` : listOf(type))
    }
    const strong = this.#leaves.filter((leaf) => !leaf.isText)
    const chosen = strong.length > 0 || kinds.length > 0 ? strong : this.#leaves
    const texts = chosen.map((leaf) => [...leaf.types].sort().join(' | '))
    return [...kinds, ...unique(texts)]
  }

  #object(indent) {
    const inner = `${indent}  `
    const lines = [...this.#fields].flatMap(([name, node]) => {
      const type = node.type(inner)
      const member = node.isOptional ? `${property(name)}?: ${type} | null` : `${property(name)}: ${type}`
      const docs = unique(node.#leaves.map((leaf) => leaf.doc))
      return [...docs.map((doc) => `${inner}/** ${doc} */`), `${inner}${member}`]
    })
    return ['{', ...lines, `${indent}}`].join('\n')
  }

  /** A tuple up to the last item that is read, with any further items. */
  #tuple(indent) {
    const length = Math.max(...this.#items.keys()) + 1
    const items = []
    let isEnd = true
    for (let i = length - 1; i >= 0; i--) {
      const node = this.#items.get(i)
      isEnd &&= node !== undefined && node.isOptional
      const type = node ? node.type(indent) : 'unknown'
      if (isEnd) items.unshift(`(${type} | null)?`)
      else items.unshift(node?.isOptional ? `${type} | null` : type)
    }
    return `[${items.join(', ')}, ...unknown[]]`
  }
}

module.exports = { PathNode }
