'use strict'

// The Prometheus text format of several processes as one: https://prometheus.io/docs/instrumenting/exposition_formats/

/**
 * Adds labels to each sample of a text that the engine wrote: there each sample has labels.
 *
 * @param {string} text
 * @param {Record<string, string>} labels
 */
function withLabels(text, labels) {
  const added = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}",`).join('')
  if (added === '') return text
  return text.replace(/^(\w+)\{/gm, (_, name) => `${name}{${added}`)
}

/**
 * One text of several: each family once, with its samples from all of them.
 *
 * @param {string[]} texts
 */
function merged(texts) {
  /** @type {Map<string, { head: string[], samples: string[] }>} */
  const families = new Map()
  for (const text of texts) {
    /** @type {{ head: string[], samples: string[] } | undefined} */
    let family
    let isNew = false
    for (const line of text.split('\n')) {
      const [, name] = /^# (?:HELP|TYPE) (\w+)/.exec(line) ?? []
      if (name !== undefined) {
        const known = families.get(name)
        if (known === undefined) {
          family = { head: [], samples: [] }
          isNew = true
          families.set(name, family)
        } else if (known !== family) {
          family = known
          isNew = false
        }
        if (isNew) family?.head.push(line)
      } else if (line !== '' && family) {
        family.samples.push(line)
      }
    }
  }
  const lines = [...families.values()].flatMap(({ head, samples }) => [...head, ...samples])
  return lines.map((line) => `${line}\n`).join('')
}

/** One family of gauges or counters. */
function family(name, type, help, samples) {
  const lines = samples.map(({ labels, value }) => {
    const text = Object.entries(labels).map(([label, its]) => `${label}="${escaped(its)}"`).join(',')
    return `${name}{${text}} ${value}\n`
  })
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function escaped(value) {
  return value.replace(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`))
}

module.exports = { family, merged, withLabels }
