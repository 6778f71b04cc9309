/** Passed to `main` by `runMain`: at the end it closes everything that was registered with it. */
export class Scope {
  /** @type {(() => unknown)[]} */
  #endings = []
  #isOver = false

  /**
   * Ends `resource` with this scope, with its method of that name.
   *
   * @template {object} T
   * @param {T} resource
   * @param {keyof T & string} method
   * @returns {T}
   */
  own(resource, method) {
    this.defer(() => /** @type {any} */ (resource)[method]())
    return resource
  }

  /** @param {() => unknown} ending */
  defer(ending) {
    this.#endings.push(ending)
    // Interrupted while it was being started: nothing else will close it.
    if (this.#isOver) this.close()
  }

  async close() {
    this.#isOver = true
    for (let ending = this.#endings.pop(); ending; ending = this.#endings.pop()) {
      try {
        await ending()
      } catch (error) {
        console.error(`while ending: ${message(error)}`)
      }
    }
  }
}

/**
 * Runs a command-line program: errors become one line, and everything it owns is ended when it is done, when it
 * fails, and when it is interrupted.
 *
 * @param {(scope: Scope) => Promise<number | void>} main returns the exit code
 */
export async function runMain(main) {
  const scope = new Scope()
  const interrupted = new Promise((resolve) => {
    for (const [signal, code] of Object.entries({ SIGHUP: 129, SIGINT: 130, SIGTERM: 143 })) {
      process.once(signal, () => {
        // Away from the line that was being written.
        console.log()
        resolve(code)
      })
    }
  })
  let code = 1
  try {
    code = (await Promise.race([main(scope), interrupted])) ?? 0
  } catch (error) {
    console.error(`error: ${message(error)}`)
    if (process.env.DEBUG) console.error(error)
  }
  await scope.close()
  process.exit(code)
}

/** @param {unknown} error */
function message(error) {
  return error instanceof Error ? error.message : String(error)
}
