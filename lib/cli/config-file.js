'use strict'

// ConfigFile: reads a configuration file, which is JSON with comments, trailing commas, and `${NAME}` or `${NAME:-default}` from the
// environment. It finds the line and column of an option, also for errors that the engine reports later.

const { readFileSync } = require('node:fs')
const { dirname, resolve } = require('node:path')
const { parseTree, printParseErrorCode } = require('jsonc-parser')
const { UsageError } = require('./exit.js')

class ConfigFile {
  /** The configuration as an object. */
  config
  #file
  #text
  #root

  /** @throws {UsageError} */
  constructor(file, environment = process.env) {
    this.#file = file
    this.#text = read(file)
    const errors = []
    this.#root = parseTree(this.#text, errors, { allowTrailingComma: true })
    if (errors.length > 0) throw this.#wrong(errors[0].offset, `${words(errors[0].error)}: this is not JSON`)
    if (this.#root?.type !== 'object') throw this.#wrong(0, 'the configuration must be an object')
    this.config = this.#value(this.#root, '', environment)
    // Editors read it; the engine does not know it.
    delete this.config.$schema
    this.#resolveFiles()
  }

  /**
   * An error of the engine, with the place of its option in the file.
   *
   * @returns {Error}
   */
  located(error) {
    if (error.code !== 'CONFIG_INVALID') return error
    return this.#wrong(this.#offsetOf(error.path ?? ''), error.message)
  }

  /** `file:line:column` of an option, or of the nearest option around it. */
  placeOf(path) {
    return this.#place(this.#offsetOf(path))
  }

  /** Paths of modules and lookups count from the file. */
  #resolveFiles() {
    const resolved = (module) => (typeof module === 'string' && !/^\w+:\/\//.test(module) ? resolve(dirname(this.#file), module) : module)
    const { routes, lookups } = this.config
    for (const lookup of Object.values(lookups ?? {})) {
      if (typeof lookup?.file === 'string') lookup.file = resolve(dirname(this.#file), lookup.file)
    }
    for (const route of Array.isArray(routes) ? routes : []) {
      if (typeof route?.transform === 'string') route.transform = resolved(route.transform)
      else if (typeof route?.transform?.module === 'string') route.transform.module = resolved(route.transform.module)
    }
  }

  #value(node, path, environment) {
    switch (node.type) {
      case 'object': {
        const values = new Map()
        for (const { children } of node.children) {
          const [{ value: name, offset }, value] = children
          const its = join(path, name)
          if (values.has(name)) throw this.#wrong(offset, `${its}: is there twice`)
          values.set(name, this.#value(value, its, environment))
        }
        return Object.fromEntries(values)
      }
      case 'array':
        return node.children.map((item, i) => this.#value(item, `${path}[${i}]`, environment))
      case 'string':
        return this.#substituted(node, path, environment)
      default:
        return node.value
    }
  }

  #substituted(node, path, environment) {
    return node.value.replace(REFERENCE, (reference, name, fallback) => {
      if (reference === '$${') return '${'
      if (name === undefined) {
        const message = `${path}: a \${ must begin \${NAME} or \${NAME:-default}; write $\${ for a \${ that is meant as it stands`
        throw this.#wrong(node.offset, message)
      }
      const value = environment[name]
      // As in a shell, `:-` applies to an empty variable too.
      if (value !== undefined && (value !== '' || fallback === undefined)) return value
      if (fallback !== undefined) return fallback
      const advice = `set it, or give it a default: \${${name}:-default}`
      throw this.#wrong(node.offset, `${path}: the environment variable ${name} is not set: ${advice}`)
    })
  }

  #offsetOf(path) {
    let node = this.#root
    let { offset } = node
    for (const [, plain, index, quoted] of path.matchAll(SEGMENT)) {
      if (node.type === 'array') {
        node = node.children[Number(index)]
        offset = node?.offset ?? offset
      } else {
        const name = plain ?? (quoted === undefined ? index : JSON.parse(`"${quoted}"`))
        const property = node.children?.find(({ children }) => children?.[0].value === name)
        node = property?.children[1]
        offset = property?.offset ?? offset
      }
      if (!node) break
    }
    return offset
  }

  #place(offset) {
    const lines = this.#text.slice(0, offset).split(/\r\n|\r|\n/)
    return `${this.#file}:${lines.length}:${lines.at(-1).length + 1}`
  }

  #wrong(offset, message) {
    return new UsageError(`${this.#place(offset)}: ${message}`)
  }
}

/** Matches `$${`, which stands for `${`, a reference, and a `${` that is neither, which is an error. */
const REFERENCE = /\$\$\{|\$\{(?:([A-Za-z_]\w*)(?::-([^}]*))?\})?/g
/** `routes[0].columns["a b"]`, as the engine writes paths. */
const SEGMENT = /([^.[\]]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]/g

function join(path, name) {
  if (path === '') return name
  return /^[\p{L}\p{N}_$]+$/u.test(name) ? `${path}.${name}` : `${path}[${JSON.stringify(name)}]`
}

function read(file) {
  try {
    return readFileSync(file, 'utf8').replace(/^\ufeff/, '')
  } catch (error) {
    throw new UsageError(`${file}: cannot be read: ${error.message}`)
  }
}

/** `CommaExpected` → `comma expected`. */
function words(code) {
  return printParseErrorCode(code).replace(/(?<=[a-z])(?=[A-Z])/g, ' ').toLowerCase()
}

module.exports = { ConfigFile }
