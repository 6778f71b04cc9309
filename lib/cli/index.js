'use strict'

// The command line: commands, their options and the text of --help. Each command has a file in this folder; exit.js has the exit
// codes.

const { writeFileSync } = require('node:fs')
const { Command, InvalidArgumentError, Option } = require('commander')
const { version } = require('../../package.json')
const { CommandError, FAILED, OK, USAGE } = require('./exit.js')
const { MAX_PROCESSES } = require('./process-config.js')

/** How long output may take after the command has ended, before the process exits. */
const LINGER_MS = 1_000

const EXIT_CODES = `
Exit codes:
  0    done
  1    failed: it could not start or go on, or not all is as it should be
  2    the command line or the configuration is wrong
  3    stopped before everything was in ClickHouse (run)
  130, 143  ended at once by a second SIGINT, SIGTERM`

function program(end) {
  const millrace = new Command('millrace')
    .description('MQTT messages into ClickHouse.')
    .version(version)
    .addHelpText(
      'after',
      `
A configuration is what new Pipeline() takes, as JSON; comments and trailing commas are allowed. \${NAME} and
\${NAME:-default} are read from the environment:

  {
    "$schema": "./node_modules/millrace/millrace.schema.json",
    "mqtt": { "url": "mqtt://\${BROKER:-localhost}:1883", "clientId": "fleet-1" },
    "clickhouse": { "url": "http://localhost:8123", "database": "fleet", "password": "\${CLICKHOUSE_PASSWORD:-}" },
    "routes": [{ "topic": "drivers/{driver_id}/position", "table": "positions" }]
  }

The table's own columns decide what is read: each takes the JSON field of its name, or the {name} of the topic.

  $ millrace check fleet.json --sample 100     what would happen
  $ millrace run fleet.json                    until Ctrl-C
${EXIT_CODES}`,
    )
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()

  const command = (name, description, examples) =>
    millrace
      .command(name)
      .description(description)
      .addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ ${line}`).join('\n')}\n`)

  command('run', 'Run a pipeline until SIGINT or SIGTERM comes, then drain it and end.', [
    'millrace run fleet.json',
    'millrace run fleet.json --http 127.0.0.1:9090     also /metrics, /healthz, /readyz and the dashboard at /',
    'millrace run fleet.json --drain-timeout 10s       less than what your supervisor waits before SIGKILL',
    'millrace run fleet.json | pino-pretty             elsewhere than on a terminal it writes JSON lines',
    'millrace run fleet.json --processes 4             four processes that share mqtt.sharedGroup, watched and restarted',
  ])
    .argument('<config>', 'configuration file')
    .option('--http <host:port>', 'serve metrics, health and the dashboard; without a host on 127.0.0.1', address)
    .addOption(time('--drain-timeout <duration>', 'how long a stop may take: 500ms, 30s, 2m', '30s'))
    .option('--wait', 'wait for a ClickHouse or a broker that is away at the start, instead of ending')
    .addOption(time('--log-interval <duration>', 'between two lines of metrics in JSON', '10s'))
    .option('--json', 'JSON lines on a terminal as well')
    .option('--leave', 'leave mqtt.sharedGroup at a signal: the others get what comes, and the broker keeps nothing')
    .addOption(
      new Option('--processes <n>', 'start and watch so many processes: spool <dir>/<n>, client id <id>-<n>')
        .argParser(processNumber)
        .conflicts('process'),
    )
    .option('--process <n>', 'be this one of them, for a supervisor of your own', processNumber)
    .addOption(new Option('--watched').hideHelp())
    .action(async (file, options) => {
      const code =
        options.processes === undefined
          ? await require('./run.js').run(file, options)
          : await require('./processes.js').runProcesses(file, options)
      end(code)
    })

  command('check', 'Look at the broker and the tables, and say what would happen. Nothing is consumed, nothing written.', [
    'millrace check fleet.json',
    'millrace check fleet.json --sample 100            decode 100 live messages, and show what would be dead letters',
    'millrace check fleet.json --json | jq .findings',
  ])
    .argument('<config>', 'configuration file')
    .option('--sample <n>', 'decode so many live messages: copies, at QoS 0, outside of the shared group', integer)
    .addOption(time('--sample-timeout <duration>', 'how long to wait for them', '30s'))
    .option('--client-id <id>', "visit the broker under this name instead of a random one; not the pipeline's own")
    .option('--strict', 'fail for warnings too')
    .option('--json', 'the whole report as JSON')
    .action(async (file, options) => end(await require('./check.js').check(file, options)))

  command('init', 'Write CREATE TABLE statements for the routes whose tables are not there, from live messages.', [
    'millrace init fleet.json > tables.sql',
    'millrace init fleet.json --sample 1000 --sample-timeout 5m --out tables.sql',
    'millrace init fleet.json --execute                and make the tables',
  ])
    .argument('<config>', 'configuration file')
    .option('--sample <n>', 'look at so many messages: copies, at QoS 0, outside of the shared group', integer, 100)
    .addOption(time('--sample-timeout <duration>', 'how long to wait for them', '30s'))
    .option('--client-id <id>', "visit the broker under this name instead of a random one; not the pipeline's own")
    .option('--out <file>', 'write to a file instead of standard output')
    .option('--execute', 'make the tables too')
    .action(async (file, options) => end(await require('./init.js').init(file, options)))

  command('types', 'Write TypeScript for the tables: what messages must look like, and what rows look like.', [
    'millrace types fleet.json > tables.ts',
    'millrace types fleet.json --out src/tables.ts',
    'millrace types fleet.json --tables --out src/tables.ts',
  ])
    .argument('<config>', 'configuration file')
    .option('--out <file>', 'write to a file instead of standard output')
    .option('--tables', 'the columns of all tables, for definePipeline<Tables>(), instead')
    .action(async (file, options) => end(await types(file, options)))

  command('spool', 'Say what lies in the directory of a spool; it may be in use.', [
    'millrace spool /var/lib/millrace/spool',
    'millrace spool /var/lib/millrace/spool --json',
  ])
    .argument('<dir>', 'directory of a spool')
    .option('--json', 'as JSON')
    .action(async (dir, options) => end(await require('./spool.js').spool(dir, options)))

  command('replay', 'Feed dead letters again, as if they had just arrived. Made twice, it doubles nothing.', [
    'millrace replay fleet.json                        from where the configuration keeps them',
    'millrace replay fleet.json --dir replay-1',
    `millrace replay fleet.json --table dead_letters --where "error_code = 'FIELD_MISSING'"`,
  ])
    .argument('<config>', 'configuration file')
    .option('--dir <dir>', 'all *.jsonl of a directory')
    .option('--file <file>', 'one such file')
    .option('--table <table>', 'a table of dead letters')
    .option('--where <condition>', 'of the table, only the letters that this SQL condition takes')
    .option('--json', 'JSON lines on a terminal as well')
    .action(async (file, options) => end(await require('./replay.js').replay(file, options)))

  return millrace
}

/** Runs a command and sets the exit code. */
async function main(argv) {
  // EPIPE: the reader of the output has gone. The pipeline is drained nevertheless.
  process.stdout.on('error', (error) => {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EPIPE') throw error
  })
  let code = OK
  try {
    await program((/** @type {number} */ ended) => (code = ended)).parseAsync(argv)
  } catch (error) {
    code = failure(error)
  }
  process.exitCode = code
  // Output that is not written yet has one second; then the process exits.
  setTimeout(() => process.exit(code), LINGER_MS).unref()
}

/** Prints an error and returns its exit code. */
function failure(error) {
  // Commander has printed its own errors.
  if (error.code?.startsWith('commander.')) return error.exitCode === 0 ? OK : USAGE
  const isUsers = error instanceof CommandError || error.name === 'MillraceError'
  process.stderr.write(`millrace: ${isUsers ? error.message : error.stack}\n`)
  if (error.code === 'CONFIG_INVALID') return USAGE
  return error.exitCode ?? FAILED
}

async function types(file, { out, tables }) {
  const { describeTables } = require('../generate/types.js')
  const { ConfigFile } = require('./config-file.js')
  const source = new ConfigFile(file)
  let text
  try {
    text = await describeTables(source.config, { tables })
  } catch (error) {
    throw source.located(error)
  }
  if (out === undefined) process.stdout.write(text)
  else writeFileSync(out, text)
  return OK
}

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }

function duration(text) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? []
  if (!unit) throw new InvalidArgumentError('It must be a number with a unit: 500ms, 30s, 2m, 1h.')
  return Math.round(Number(number) * UNITS[unit])
}

function time(flags, description, usual) {
  return new Option(flags, description).argParser(duration).default(duration(usual), usual)
}

function integer(text) {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It must be a whole number.')
  return Number(text)
}

function processNumber(text) {
  const number = integer(text)
  if (number < 1 || number > MAX_PROCESSES) throw new InvalidArgumentError(`It must be 1 to ${MAX_PROCESSES}.`)
  return number
}

function address(text) {
  const [, v6, host, port] = /^(?:(?:\[(.+)\]|([^:]*)):)?(\d{1,5})$/.exec(text) ?? []
  if (port === undefined || Number(port) > 65_535) {
    throw new InvalidArgumentError('It must be host:port, such as 127.0.0.1:9090, or a port alone.')
  }
  return { host: v6 ?? (host || '127.0.0.1'), port: Number(port) }
}

module.exports = { main }
