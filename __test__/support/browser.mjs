// Chromium for the dashboard: pages that record their errors.

import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import { findChromium } from '../../tools/servers/index.mjs'

const executablePath = findChromium()

/**
 * For the option `skip` of a test. Where there can be a browser, which is continuous integration on Debian, its absence
 * is a failure.
 */
export const noBrowser =
  !executablePath && !(process.env.CI && existsSync('/etc/debian_version'))
    ? 'there is no Chromium or Chrome: npm run setup installs one on Debian'
    : false

/** A browser, closed when the test ends. */
export async function openBrowser(t) {
  if (!executablePath) throw new Error('there is no Chromium, which npm run setup installs')
  // Its sandbox needs a user who is not root.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  const browser = await chromium.launch({ executablePath, args })
  t.after(() => browser.close())
  return browser
}

/**
 * A page at `url`; `errors` are those of its console and its scripts, and `foreign` the requests to anywhere else.
 *
 * @param {import('playwright-core').Browser} browser
 * @param {string} url
 * @param {import('playwright-core').BrowserContextOptions} [options]
 */
export async function openPage(browser, url, options) {
  const context = await browser.newContext(options)
  const page = await context.newPage()
  const errors = []
  const foreign = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') errors.push(message.text())
  })
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) foreign.push(request.url())
  })
  await page.goto(url)
  return { page, errors, foreign }
}
