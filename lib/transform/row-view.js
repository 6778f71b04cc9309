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
 * The class of row views. Its static `close` ends one: then the columns say what is wrong.
 *
 * @param {import('./shape.js').Descriptor[]} descriptors
 * @param {boolean} isReadOnly its setters are those of the columns, which refuse
 * @returns {any} to be constructed with the columns and the cells of a batch
 */
function rowViewClass(descriptors, isReadOnly) {
  // Fields of a view begin with what no column does.
  let own = '_'
  while (descriptors.some(({ name }) => name.startsWith(own))) own += '_'
  const plain = descriptors.flatMap((descriptor, i) => (isPlain(descriptor) ? [i] : []))
  const source = `return class RowView {
    constructor(columns, cells) {
      this.${own}row = -1
      ${descriptors.map((_, i) => `this.${own}column${i} = columns[${i}]`).join('\n')}
      ${plain.map((i) => `this.${own}cells${i} = cells[${i}]`).join('\n')}
      ${plain.map((i) => `this.${own}values${i} = this.${own}written${i} = this.${own}nulls${i} = undefined`).join('\n')}
    }
    static close(view) { ${plain.map((i) => `view.${own}values${i} = view.${own}written${i} = undefined`).join('\n')} }
    get [ROW]() { return this.${own}row }
    set [ROW](row) { this.${own}row = row }
    ${descriptors.map((descriptor, i) => (isPlain(descriptor) ? plainMembers(descriptor, i, own, isReadOnly) : members(descriptor, i, own))).join('\n')}
  }`
  return compiled([['ROW', ROW]], source) ?? closures(descriptors)
}

function members({ name }, i, own) {
  const key = `[${JSON.stringify(name)}]`
  return `get ${key}() { return this.${own}column${i}.get(this.${own}row) }
    set ${key}(value) { this.${own}column${i}.set(this.${own}row, value) }`
}

/**
 * Members that read and write the array. A getter has less than 28 bytes of code, which V8 compiles into any loop. `values` is the array
 * once it is here, and `written` the same once something was written.
 */
function plainMembers(descriptor, i, own, isReadOnly) {
  const { kind, name, nullable } = descriptor
  const key = `[${JSON.stringify(name)}]`
  const row = `this.${own}row`
  const check = (isReadOnly ? undefined : CHECKS[kind]?.(KINDS[kind])) ?? 'false'
  const values = `(this.${own}values${i} ?? this.${own}load${i}())`
  // A row may be filled where `nulls` still has 1.
  const ofNull = unfilledOf(descriptor) === undefined ? 'null' : `this.${own}column${i}.get(${row})`
  const get = nullable
    ? `const values = ${values}; return this.${own}nulls${i}[${row}] === 1 ? ${ofNull} : values[${row}]`
    : `return ${values}[${row}]`
  return `get ${key}() { ${get} }
    set ${key}(value) {
      if (${check}) {
        (this.${own}written${i} ?? this.${own}open${i}())[${row}] = value
        ${nullable ? `this.${own}nulls${i}[${row}] = 0` : ''}
      } else this.${own}column${i}.set(${row}, value)
    }
    ${own}load${i}() {
      const cells = this.${own}cells${i}
      this.${own}values${i} = cells.values ?? cells.load()
      this.${own}nulls${i} = cells.nulls
      return this.${own}values${i}
    }
    ${own}open${i}() {
      this.${own}written${i} = this.${own}load${i}()
      this.${own}cells${i}.isWritten = true
      return this.${own}written${i}
    }`
}

/** Whether the value of the array is what `get` gives. @param {any} descriptor */
const isPlain = ({ kind, time, enum: names }) => kind in KINDS && kind !== 'bool' && !time && !names

const ofInteger = ({ min, max }) => `(value | 0) === value && value >= ${min} && value <= ${max}`

/** By kind: whether an array takes a value as it is. For all others `set` says what is wrong. */
const CHECKS = {
  f64: () => `typeof value === 'number'`,
  // NaN and infinity, and what is finite in 32 bits too.
  f32: () => `typeof value === 'number' && (Math.abs(value) <= 3.4028234663852886e38 || value - value !== 0)`,
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

    static close() {}
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
