// What `npm run test:full` runs and `npm test` leaves out, because it takes minutes. CONTRIBUTING.md lists it.

/** Whether `npm run test:full` runs this file. */
export const full = process.env.MILLRACE_TEST_FULL === '1'

/** The `skip` of a test that only `npm run test:full` runs. */
export const onlyFull = full ? false : 'only npm run test:full runs this'
