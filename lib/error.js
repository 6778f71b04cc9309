'use strict'

/** An error of millrace: `code` is stable, `path` names the option that caused it, `cause` is what another program said. */
class MillraceError extends Error {
  /**
   * @param {{ code: string, message: string, path?: string, cause?: { code: number | null, message: string } }} description
   * @param {ErrorOptions} [options]
   */
  constructor({ code, message, path, cause }, options) {
    super(message, cause ? { cause: Object.assign(new Error(cause.message), { code: cause.code }) } : options)
    this.name = 'MillraceError'
    this.code = code
    if (path != null) this.path = path
  }
}

module.exports = { MillraceError }
