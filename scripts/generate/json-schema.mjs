// millrace.schema.json: the options that a configuration file can have, for editors.

import { defaultValue, described, isRequired, listed, rowsOf } from './table.mjs'

/** @typedef {import('./table.mjs').Kind} Kind */
/** @typedef {import('./table.mjs').ObjectType} ObjectType */
/** @typedef {import('./table.mjs').Row} Row */
/** @typedef {Record<string, unknown>} Schema */

const REFERENCE = { $ref: '#/definitions/reference' }

/** @param {Kind[]} roots the first is the configuration */
export function jsonSchema([root]) {
  if (root.kind !== 'object') throw new Error('the configuration is an object')
  /** @type {Record<string, Schema>} */
  const definitions = {
    reference: { type: 'string', pattern: '\\$\\{', description: 'A value from the environment.' },
  }
  const { type, additionalProperties, required, properties, ...rules } = objectSchema(root.object, definitions)
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'A configuration of millrace',
    description:
      'Where MQTT messages come from, and how they become rows of ClickHouse. In every string ${NAME} and ${NAME:-default} are read from the environment.',
    type,
    additionalProperties,
    required,
    properties: { $schema: { type: 'string', description: 'For editors.' }, .../** @type {Schema} */ (properties) },
    definitions,
    ...rules,
  }
}

/**
 * @param {ObjectType} object
 * @param {Record<string, Schema>} definitions
 * @returns {Schema}
 */
function objectSchema(object, definitions) {
  /** @type {Schema} */
  const properties = {}
  const required = []
  for (const row of rowsOf(object)) {
    const schema = kindSchema(row.kind, definitions)
    if (!schema) continue
    properties[row.name] = withoutUndefined({
      description: plain(described(row, { withRange: false })),
      ...schema,
      default: defaultValue(row),
      examples: row.example === null ? undefined : [row.example],
    })
    if (isRequired(row)) required.push(row.name)
  }
  const rules = [...object.includes, object].map(({ rules }) => JSON.parse(rules))
  return withoutUndefined({
    type: 'object',
    properties,
    additionalProperties: false,
    required: required.length > 0 ? required : undefined,
    ...Object.assign({}, ...rules),
  })
}

/**
 * @param {Kind} kind
 * @param {Record<string, Schema>} definitions gets those that are referred to
 * @returns {Schema | undefined} undefined: it cannot be in a file
 */
function kindSchema(kind, definitions) {
  switch (kind.kind) {
    case 'text':
      return withoutUndefined({
        type: 'string',
        minLength: kind.empty === 'allowed' ? undefined : 1,
        pattern: kind.pattern === null ? undefined : `${kind.pattern}|\\$\\{`,
      })
    case 'file':
    case 'pem':
      return { type: 'string', minLength: 1 }
    case 'flag':
      return { type: 'boolean' }
    case 'any':
      return {}
    case 'integer':
      return kind.is_listed ? { enum: listed(kind) } : { type: 'integer', minimum: kind.min, maximum: kind.max }
    case 'number':
      return withoutUndefined({ type: 'number', minimum: kind.min ?? undefined, maximum: kind.max ?? undefined })
    case 'choice':
      return { anyOf: [{ enum: kind.words }, REFERENCE] }
    case 'object':
      return objectReference(kind.object, definitions)
    case 'list':
      return listSchema(kind.item, definitions)
    case 'oneOrMore': {
      const item = kindSchema(kind.item, definitions)
      return item && { anyOf: [item, listSchema(kind.item, definitions)] }
    }
    case 'record': {
      const value = kindSchema(kind.value, definitions)
      const propertyNames = kind.refused.length > 0 ? { not: { enum: kind.refused } } : undefined
      return value && withoutUndefined({ type: 'object', propertyNames, additionalProperties: value })
    }
    case 'union': {
      const schemas = kind.of.map((one) => unionMember(one, definitions)).filter((schema) => schema !== undefined)
      return schemas.length > 1 ? { anyOf: schemas } : schemas[0]
    }
    case 'named':
      return definition(kind.name, kind.about, () => kindSchema(kind.of, definitions), definitions)
    case 'again':
      return { $ref: `#/definitions/${kind.name}` }
    case 'code':
      return undefined
  }
}

/**
 * @param {Kind} item
 * @param {Record<string, Schema>} definitions
 */
function listSchema(item, definitions) {
  const items = kindSchema(item, definitions)
  return items && { type: 'array', minItems: 1, items }
}

/**
 * @param {ObjectType} object
 * @param {Record<string, Schema>} definitions
 */
function objectReference(object, definitions) {
  if (rowsOf(object).some((row) => isRequired(row) && !kindSchema(row.kind, definitions))) return undefined
  const schema = () => objectSchema(object, definitions)
  return object.name === null ? schema() : definition(object.name, object.about, schema, definitions)
}

/**
 * One form of a union; an object says what it is.
 *
 * @param {Kind} kind
 * @param {Record<string, Schema>} definitions
 */
function unionMember(kind, definitions) {
  const schema = kindSchema(kind, definitions)
  const isInline = kind.kind === 'object' && kind.object.name === null
  return schema && isInline ? { description: plain(kind.object.about), ...schema } : schema
}

/**
 * @param {string} name
 * @param {string} about
 * @param {() => Schema | undefined} schema
 * @param {Record<string, Schema>} definitions
 */
function definition(name, about, schema, definitions) {
  if (!(name in definitions)) {
    definitions[name] = {}
    definitions[name] = { description: plain(about), ...schema() }
  }
  return { $ref: `#/definitions/${name}` }
}

/**
 * Without the marks of Markdown.
 *
 * @param {string} text
 */
function plain(text) {
  return text.replaceAll('`', '').replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1')
}

/**
 * @param {Schema} schema
 * @returns {Schema}
 */
function withoutUndefined(schema) {
  return Object.fromEntries(Object.entries(schema).filter(([, value]) => value !== undefined))
}
