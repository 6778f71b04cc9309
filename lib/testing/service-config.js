'use strict'

// The part of a service's configuration that tests take, and the payloads that they give.

/**
 * The configuration of a service, without what belongs to its own servers.
 *
 * @param {any} config
 */
function serviceConfig({ mqtt, clickhouse, deadLetters: _deadLetters, spool: _spool, ...rest }) {
  const { url: _broker, username: _user, password: _password, tls: _tls, ...broker } = mqtt ?? {}
  const { url: _server, username: _name, password: _secret, tls: _certificates, compression: _compression, ...server } = clickhouse ?? {}
  return { ...rest, mqtt: broker, clickhouse: server }
}

/** The bytes of a payload: a text or bytes as they are, anything else as JSON. */
function bytes(payload) {
  if (typeof payload === 'string' || payload instanceof Uint8Array) return Buffer.from(payload)
  return Buffer.from(JSON.stringify(payload))
}

module.exports = { bytes, serviceConfig }
