'use strict'

// Row views: a batch row by row, with a getter and a setter for each column. Their classes are made of source text, once per
// shape of a route: engines compile a property that each class has by itself to a read of memory, and one that all classes share
// to a search that takes ten times as long. Where making code from text is forbidden, they are made of closures.

const { KINDS, unfilledOf } = require('./cell-types.js')

/** The number of the row that a view is at. A symbol, because any name may be a column's. */
const ROW = Symbol('row')

/**
 * The class of `batch.columns`: an object without a prototype, in which any name is a column's.
 *
 * @param {string[]} names
 * @returns {new (columns: any[]) => any}
 */
function columnsClass(names) {
  const members = names.map((name, i) => `this[${JSON.stringify(name)}] = columns[${i}]\n`)
  const Columns = compiled([], `return function Columns(columns) { ${members.join('')} }`)
  const closure = function Columns(columns) {
    for (const [i, name] of names.entries()) this[name] = columns[i]
  }
  const constructor = Columns ?? closure
  constructor.prototype = Object.freeze(Object.create(null))
  return constructor
}

/**
 * The class of row views.
 *
 * @param {import('./shape.js').Descriptor[]} descriptors
 * @returns {new (columns: any[], cells: any[]) => any}
 */
function rowViewClass(descriptors) {
  const source = `return class RowView {
    ${descriptors.map((_, i) => `#column${i}; #cells${i};`).join('\n')}
    constructor(columns, cells) {
      this[ROW] = -1
      ${descriptors.map((_, i) => `this.#column${i} = columns[${i}]; this.#cells${i} = cells[${i}]`).join('\n')}
    }
    ${descriptors.map(accessors).join('\n')}
  }`
  return compiled([['ROW', ROW]], source) ?? closures(descriptors)
}

function accessors(descriptor, i) {
  const { kind, nullable } = descriptor
  const key = `[${JSON.stringify(descriptor.name)}]`
  const slow = `get ${key}() { return this.#column${i}.get(this[ROW]) }
    set ${key}(value) { this.#column${i}.set(this[ROW], value) }`
  if (!isPlain(descriptor)) return slow
  // A row may be filled where `nulls` still has 1.
  const ofNull = unfilledOf(descriptor) === undefined ? 'null' : `this.#column${i}.get(this[ROW])`
  const check = CHECKS[kind]?.(KINDS[kind])
  return `get ${key}() {
      const { values${nullable ? ', nulls' : ''} } = this.#cells${i}
      if (values === undefined) return this.#column${i}.get(this[ROW])
      return ${nullable ? `nulls[this[ROW]] === 1 ? ${ofNull} : ` : ''}values[this[ROW]]
    }
    set ${key}(value) {
      const cells = this.#cells${i}
      if (cells.values === undefined || !(${check ?? 'false'})) {
        this.#column${i}.set(this[ROW], value)
      } else {
        cells.values[this[ROW]] = value
        ${nullable ? 'cells.nulls[this[ROW]] = 0' : ''}
        cells.isWritten = true
      }
    }`
}

/** Whether the value of the array is what `get` gives. */
const isPlain = ({ kind, time, enum: names }) => kind in KINDS && kind !== 'bool' && !time && !names

const ofInteger = ({ min, max }) => `(value | 0) === value && value >= ${min} && value <= ${max}`

/** By kind: whether an array takes a value as it is. For all others `set` says what is wrong. */
const CHECKS = {
  f64: () => `typeof value === 'number'`,
  i8: ofInteger,
  u8: ofInteger,
  i16: ofInteger,
  u16: ofInteger,
  i32: () => '(value | 0) === value',
  u32: () => 'value >>> 0 === value',
}

/** The same class without source text. */
function closures(descriptors) {
  const COLUMNS = Symbol('columns')
  class RowView {
    constructor(columns) {
      this[ROW] = -1
      this[COLUMNS] = columns
    }
  }
  for (const [i, { name }] of descriptors.entries()) {
    Object.defineProperty(RowView.prototype, name, {
      configurable: true,
      get() {
        return this[COLUMNS][i].get(this[ROW])
      },
      set(value) {
        this[COLUMNS][i].set(this[ROW], value)
      },
    })
  }
  return RowView
}

/** @returns {any} undefined where the runtime makes no code from text (`--disallow-code-generation-from-strings`) */
function compiled(given, source) {
  try {
    return new Function(...given.map(([name]) => name), `'use strict'\n${source}`)(...given.map(([, value]) => value))
  } catch (error) {
    if (error instanceof EvalError) return undefined
    throw error
  }
}

module.exports = { ROW, columnsClass, rowViewClass }
