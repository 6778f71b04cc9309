'use strict'

// Paths into a payload: `lat`, `position.lat`, `axes[0]`, `['a.b'].c`. The engine has checked them.

/**
 * @param {string} text
 * @returns {{ from: '$' | '@' | undefined, segments: (string | number)[] }} `from`: the document or the element of `rows`,
 *   if the path says so
 */
function parsePath(text) {
  const from = /^[$@](?=$|[.[])/.exec(text)?.[0]
  const segments = []
  const pattern = /\['(.*?)'\]|\[(\d+)\]|([^.[\]]+)/gs
  for (const [, quoted, index, name] of text.slice(from ? 1 : 0).matchAll(pattern)) {
    segments.push(index === undefined ? (quoted ?? name) : Number(index))
  }
  return { from, segments }
}

module.exports = { parsePath }
