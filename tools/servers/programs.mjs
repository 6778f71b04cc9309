import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome.exe', 'msedge.exe']

const CHROMIUM_BESIDE_PATH = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
  'C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe',
]

/** @returns {string | undefined} the path of a browser of the Chromium family */
export function findChromium() {
  return find(CHROMIUM) ?? CHROMIUM_BESIDE_PATH.find((path) => existsSync(path))
}

/** @returns {string | undefined} */
export function findYamllint() {
  return find(['yamllint', 'yamllint.exe'])
}

/** @returns {string | undefined} the path of Prometheus's checker of rules */
export function findPromtool() {
  return find(['promtool', 'promtool.exe'])
}

/** @returns {string | undefined} the path of a checker of Kubernetes manifests, from PyPI */
export function findKubernetesValidate() {
  return find(['kubernetes-validate', 'kubernetes-validate.exe'])
}

/** @param {string[]} names */
function find(names) {
  const directories = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return names
    .flatMap((name) => directories.map((directory) => join(directory, name)))
    .find((path) => existsSync(path))
}
