// Reads the examples of docs/devices.md: a section per format, in it one example or several. An example
// is the four code blocks that follow each other: the table (sql), the route (js), messages (text) and
// the rows (json).

import { runInNewContext } from 'node:vm'

/**
 * @typedef {{ topic: string, payload: Buffer }} DeviceMessage
 * @typedef {{ statement: string, table: string, route: any, messages: DeviceMessage[], rows: string[] }} DeviceExample
 * @typedef {{ heading: string, text: string, examples: DeviceExample[] }} DeviceSection
 */

const KINDS = ['sql', 'js', 'text', 'json']

/**
 * @param {string} page
 * @returns {DeviceSection[]} the sections with examples
 */
export function devicesOf(page) {
  return page
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const [heading] = section.split('\n', 1)
      const blocks = [...section.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(([, kind, text]) => ({ kind, text }))
      const examples = []
      for (let at = 0; at < blocks.length; at += KINDS.length) {
        examples.push(exampleOf(heading, blocks.slice(at, at + KINDS.length)))
      }
      return { heading, text: section, examples }
    })
    .filter(({ examples }) => examples.length > 0)
}

/** @returns {DeviceExample} */
function exampleOf(heading, blocks) {
  const kinds = blocks.map(({ kind }) => kind)
  if (kinds.join() !== KINDS.join()) throw new Error(`${heading}: ${kinds.join(', ')} in place of ${KINDS.join(', ')}`)
  const [statement, route, messages, rows] = blocks.map(({ text }) => text)
  const [, table] = /^CREATE TABLE (\w+)/.exec(statement) ?? []
  if (!table) throw new Error(`${heading}: no CREATE TABLE`)
  return {
    statement,
    table,
    route: runInNewContext(`(${route})`),
    messages: messages.trim().split(/\n\n+/).map(messageOf),
    rows: rows.trim().split('\n'),
  }
}

/** The first line is the topic, the others are the payload; in hexadecimal where they say so. */
function messageOf(text) {
  const [topic, ...lines] = text.split('\n')
  const payload = lines.map((line) => line.trim()).join('')
  const [, digits] = /^hex:([0-9a-f]*)$/.exec(payload) ?? []
  return { topic, payload: digits === undefined ? Buffer.from(lines.join('\n')) : Buffer.from(digits, 'hex') }
}
