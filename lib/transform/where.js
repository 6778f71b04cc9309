'use strict'

// Where a batch belongs: its route, table and filter.

/**
 * @param {{ topic: string, table: string }[]} routes of the configuration
 * @param {number} route the place of one
 */
function whereOf(routes, route) {
  const { topic, table } = routes[route]
  return { route, table, topicFilter: filterOf(topic) }
}

/** `drivers/{id}/{rest#}` → `drivers/+/#`. */
function filterOf(topic) {
  return topic.replace(/\{[^{}]*\}/g, (name) => (name.endsWith('#}') ? '#' : '+'))
}

module.exports = { whereOf }
