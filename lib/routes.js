'use strict'

// RouteList: the routes of a running pipeline by their places, and the calls that change them, one after the other.

const { MillraceError, callNative, configError, routeToJson, unwrap } = require('./native.js')
const { whereOf } = require('./transform/where.js')

class RouteList {
  #native
  /** By place; a removed route, and the place of a table that a transform emits into, leave a hole. @type {any[]} */
  #routes
  #transforms
  #onSet
  /** The last change. @type {Promise<unknown>} */
  #last = Promise.resolve()

  /**
   * @param {any} native
   * @param {any[]} routes of the configuration
   * @param {() => any} transforms gives the transforms of the pipeline
   * @param {(place: number, route: any) => void} onSet is called for each route that is added
   */
  constructor(native, routes, transforms, onSet) {
    this.#native = native
    this.#routes = routes.map(({ topic, table }) => ({ topic, table }))
    this.#transforms = transforms
    this.#onSet = onSet
  }

  /** Where the batches of a route belong. */
  where(place) {
    return whereOf(this.#routes, place)
  }

  /** The place of a route, from its place or from its topic. */
  placeOf(route) {
    const count = this.#routes.length
    if (typeof route === 'number') {
      if (Number.isInteger(route) && this.#routes[route] !== undefined) return route
      throw configError('route', `must be the place of a route, from 0 to ${count - 1}, not ${route}`)
    }
    if (typeof route !== 'string') throw configError('route', 'must be the place of a route, or its topic')
    const places = this.#placesOf(route)
    if (places.length === 1) return places[0]
    const text = JSON.stringify(route)
    if (places.length === 0) throw configError('route', `no route has the topic ${text}`)
    throw configError('route', `routes ${places.join(' and ')} have the topic ${text}: name one by its place`)
  }

  add(route) {
    return this.#inTurn(() => {
      const topic = topicOf(route)
      if (this.#placesOf(topic).length > 0) {
        const message = `a route has the topic ${JSON.stringify(topic)}: updateRoute() changes it`
        throw new MillraceError({ code: 'ROUTE_EXISTS', message, path: 'route.topic' })
      }
      return this.#set(route, undefined)
    })
  }

  update(route) {
    return this.#inTurn(async () => {
      const replaced = this.#placeToChange(topicOf(route), 'route.topic')
      const place = await this.#set(route, replaced)
      delete this.#routes[replaced]
      return place
    })
  }

  remove(topic) {
    return this.#inTurn(async () => {
      if (typeof topic !== 'string') throw configError('topic', 'must be the topic of a route')
      const place = this.#placeToChange(topic, 'topic')
      unwrap(await this.#native.removeRoute(place))
      delete this.#routes[place]
    })
  }

  /** Calls that are made while another one is under way wait for it. */
  #inTurn(change) {
    const result = this.#last.then(change)
    this.#last = result.catch(() => {})
    return result
  }

  async #set(route, replaced) {
    const text = routeToJson(route)
    callNative(() => this.#native.checkRoute(text))
    const { transform, topic, table } = route
    const place = this.#native.nextPlace()
    const hasTransform = transform !== undefined && ['running', 'paused'].includes(this.#native.state)
    const where = hasTransform ? whereOf(/** @type {any} */ ({ [place]: { topic, table } }), place) : undefined
    const added = where && (await this.#transforms().add(transform, where))
    try {
      const given = unwrap(await this.#native.setRoute(text, replaced))
      this.#routes[given] = { topic, table }
      this.#onSet(given, route)
      return given
    } catch (error) {
      // Batches may be on their way to it where some connections had the subscription already.
      const wasPublished = ['SUBSCRIPTION_REFUSED', 'ABORTED'].includes(error.code)
      if (added && !wasPublished) await this.#transforms().remove(added)
      throw error
    }
  }

  #placesOf(topic) {
    return Object.keys(this.#routes).map(Number).filter((place) => this.#routes[place].topic === topic)
  }

  #placeToChange(topic, path) {
    const places = this.#placesOf(topic)
    const text = JSON.stringify(topic)
    if (places.length === 0) throw new MillraceError({ code: 'ROUTE_NOT_FOUND', message: `no route has the topic ${text}`, path })
    if (places.length > 1) throw configError(path, `routes ${places.join(' and ')} have the topic ${text}`)
    return places[0]
  }
}

function topicOf(route) {
  if (typeof route !== 'object' || route === null) throw configError('route', 'must be an object')
  if (typeof route.topic !== 'string') throw configError('route.topic', 'must be a string')
  return route.topic
}

module.exports = { RouteList }
