'use strict'

// registerMetrics(): adds a pipeline's metrics to a registry of prom-client, which reads them when it collects; there is no cost
// in between.

const { configError, FAMILIES } = require('../native.js')

/** @type {WeakMap<object, RegistryBinding>} */
const registries = new WeakMap()

function registerMetrics(pipeline, registry) {
  const binding = registries.get(registry) ?? new RegistryBinding(registry)
  registries.set(registry, binding)
  binding.add(pipeline)
  return () => binding.remove(pipeline)
}

/** Our metrics in one registry of prom-client: one per family, shared by all pipelines. */
class RegistryBinding {
  #registry
  #pipelines = new Map()
  #metrics = new Map()
  #read

  constructor(registry) {
    this.#registry = registry
  }

  add(pipeline) {
    const families = pipeline[FAMILIES]()
    const name = Object.fromEntries(families[0].samples[0].labels).pipeline
    const other = this.#pipelines.get(name)
    if (other && other !== pipeline) {
      throw configError('name', `there is a pipeline ${name} in this registry already`)
    }
    this.#pipelines.set(name, pipeline)
    for (const family of families) this.#register(family)
  }

  remove(pipeline) {
    for (const [name, its] of this.#pipelines) if (its === pipeline) this.#pipelines.delete(name)
    if (this.#pipelines.size > 0) return
    for (const name of this.#metrics.keys()) this.#registry.removeSingleMetric(name)
    this.#metrics.clear()
  }

  #register({ name, help, kind }) {
    if (!this.#metrics.has(name)) this.#metrics.set(name, this.#metric(name, help, kind))
    // Registering the same metric twice has no effect.
    this.#registry.registerMetric(this.#metrics.get(name))
  }

  #metric(name, help, type) {
    const values = () => this.#values(name)
    return {
      name,
      help,
      type,
      aggregator: 'sum',
      async get() {
        // `this.name`, because a registry of OpenMetrics removes `_total` from it.
        return { name: this.name, help, type, aggregator: 'sum', values: values() }
      },
      reset() {},
    }
  }

  #values(name) {
    // A registry reads all its metrics in one turn: they get the same snapshot.
    if (!this.#read) {
      this.#read = [...this.#pipelines.values()].flatMap((pipeline) => pipeline[FAMILIES]())
      queueMicrotask(() => (this.#read = undefined))
    }
    const samples = this.#read.filter((family) => family.name === name).flatMap((family) => family.samples)
    return samples.map(({ name: metricName, labels, value }) => {
      const isPart = metricName !== name
      return { labels: Object.fromEntries(labels), value, ...(isPart && { metricName }) }
    })
  }
}

module.exports = { registerMetrics }
