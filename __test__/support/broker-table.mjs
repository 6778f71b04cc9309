// The table of docs/brokers.md that the tests write: a line for each scenario, a column for each broker. A run knows the cells of
// the brokers and scenarios that it had; `npm run brokers` writes them, any other run compares them.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'

const PAGE = new URL('../../docs/brokers.md', import.meta.url)
const BEGIN = '<!-- tried brokers: npm run brokers -->'
const END = '<!-- end of tried brokers -->'
/** A cell that no run has written. */
const NOT_RUN = 'not run'
const isWriting = process.env.MILLRACE_WRITE_BROKERS === '1'

/** @typedef {Map<string, Map<string, string>>} Cells by the broker's name, then by the scenario's */

export class BrokerTable {
  /** @type {Cells} */
  #seen = new Map()
  #brokers
  #scenarios

  /**
   * @param {string[]} brokers the columns
   * @param {string[]} scenarios the lines
   */
  constructor(brokers, scenarios) {
    this.#brokers = brokers
    this.#scenarios = scenarios
  }

  /**
   * @param {string} broker
   * @param {string} scenario
   * @param {string} cell
   */
  note(broker, scenario, cell) {
    if (!this.#seen.has(broker)) this.#seen.set(broker, new Map())
    this.#seen.get(broker)?.set(scenario, cell)
  }

  /** Writes what was seen, or fails where the page says something else. */
  settle() {
    const page = readFileSync(PAGE, 'utf8')
    const [before, rest] = page.split(BEGIN)
    const [table, after] = rest.split(END)
    const stated = parse(table)
    const differences = [...this.#seen].flatMap(([broker, cells]) =>
      [...cells]
        .filter(([scenario, cell]) => ![cell, NOT_RUN].includes(stated.get(broker)?.get(scenario) ?? ''))
        .map(([scenario, cell]) => ({ broker, scenario, stated: stated.get(broker)?.get(scenario), seen: cell })),
    )
    if (!isWriting) return assert.deepEqual(differences, [], 'docs/brokers.md: npm run brokers writes what was seen')
    const cell = (scenario, broker) =>
      this.#seen.get(broker)?.get(scenario) ?? stated.get(broker)?.get(scenario) ?? NOT_RUN
    const lines = [
      ['', ...this.#brokers],
      ['---', ...this.#brokers.map(() => '---')],
      ...this.#scenarios.map((scenario) => [scenario, ...this.#brokers.map((broker) => cell(scenario, broker))]),
    ]
    const written = lines.map((line) => `| ${line.join(' | ')} |`).join('\n')
    writeFileSync(PAGE, `${before}${BEGIN}\n\n${written}\n\n${END}${after}`)
  }
}

/**
 * @param {string} table
 * @returns {Cells}
 */
function parse(table) {
  const lines = table
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
  const [[, ...brokers] = [''], , ...rows] = lines
  return new Map(brokers.map((broker, i) => [broker, new Map(rows.map(([scenario, ...cells]) => [scenario, cells[i]]))]))
}
