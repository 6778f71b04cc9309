'use strict'

/**
 * `code` is stable, `path` names the option at fault, `cause` is the error of ClickHouse or of the file system. An error about
 * rows has the place of the `row`, from 0, and the name of the `column` at fault.
 */
class MillraceError extends Error {
  /**
   * @param {{
   *   code: string, message: string, path?: string, row?: number, column?: string,
   *   cause?: { code: number | null, message: string },
   * }} description
   * @param {ErrorOptions} [options]
   */
  constructor({ code, message, path, row, column, cause }, options) {
    super(message, cause ? { cause: Object.assign(new Error(cause.message), { code: cause.code }) } : options)
    this.name = 'MillraceError'
    this.code = code
    if (path != null) this.path = path
    if (row != null) this.row = row
    // Errors of Bun have a column of their own: a place in the source.
    if (column != null || 'column' in this) this.column = column ?? undefined
  }
}

module.exports = { MillraceError }
