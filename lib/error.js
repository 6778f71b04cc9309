'use strict'

/** `code` is stable, `path` names the option at fault, `cause` is the error of ClickHouse or of the file system. */
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
