// The gateway before a service in Rust (service/): it passes the task on and the count back.
//
// When the client goes away, so does the gateway's own request, by which the service ends the count. A service that is not there
// is a 502 at once.

import { answerHeavy, gateway, listen } from '../lib/gateway.mjs'

const SERVICE = process.env.SERVICE_URL

const app = gateway()
answerHeavy(app, async ({ seed, size, parts }, signal) => {
  const response = await fetch(`${SERVICE}/count?seed=${seed}&size=${size}&parts=${parts}`, { signal }).catch(unreachable)
  const text = await response.text().catch(unreachable)
  if (!response.ok) throw badGateway(`the service answered ${response.status}`)
  return Number(text)
})
listen(app)

/**
 * @param {Error} error
 * @returns {never}
 */
function unreachable(error) {
  throw badGateway(`the service is not reached: ${error.cause?.['code'] ?? error.message}`)
}

/** @param {string} message */
function badGateway(message) {
  return Object.assign(new Error(message), { status: 502 })
}
