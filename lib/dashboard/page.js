'use strict'

// Builds the dashboard as one HTML document with its styles, its scripts and uPlot inside, so that the page loads nothing else. The
// Content-Security-Policy allows exactly these scripts and styles, by their hashes.

const { createHash } = require('node:crypto')
const { readFileSync } = require('node:fs')
const { join } = require('node:path')

let page

/** @returns {{ html: string, policy: string }} */
function dashboard() {
  page ??= build()
  return page
}

function build() {
  const own = (name) => readFileSync(join(__dirname, name), 'utf8')
  const uplot = (name) => readFileSync(require.resolve(`uplot/dist/${name}`), 'utf8')
  const parts = {
    styles: [uplot('uPlot.min.css'), own('style.css'), own('content.css')],
    // Each uses those in front of it.
    scripts: [uplot('uPlot.iife.min.js'), own('elements.js'), own('plot.js'), own('client.js')],
  }
  const tags = (tag, texts) => texts.map((text) => `<${tag}>${text}</${tag}>`).join('\n')
  // As functions: in a replacement string, `$&` has a meaning.
  const html = own('index.html')
    .replace('<!-- styles -->', () => tags('style', parts.styles))
    .replace('<!-- scripts -->', () => tags('script', parts.scripts))
  const policy = [
    "default-src 'none'",
    `style-src ${parts.styles.map(hash).join(' ')}`,
    `script-src ${parts.scripts.map(hash).join(' ')}`,
    "connect-src 'self'",
    'img-src data:',
  ]
  return { html, policy: policy.join('; ') }
}

function hash(text) {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

module.exports = { dashboard }
