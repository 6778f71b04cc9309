// Tests that take minutes run in `npm run test:full` and not in `npm test`. CONTRIBUTING.md lists them.

/** Whether `npm run test:full` runs this file. */
export const full = process.env.MILLRACE_TEST_FULL === '1'

/** The `skip` of a test that only `npm run test:full` runs. */
export const onlyFull = full ? false : 'only npm run test:full runs this'
