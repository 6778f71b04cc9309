// The files of deploy/ are well-formed, fit together, and name only existing metrics. None of them is run.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments, stringify } from 'yaml'
import { Pipeline } from '../../index.js'
import { findAmtool, findKubernetesValidate, findPromtool, findYamllint } from '../../tools/servers/index.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DEPLOY = join(ROOT, 'deploy')
/** Where setup installs it. */
const isDebianCi = process.env.CI && existsSync('/etc/debian_version')

/** Set by `npm run test:deploy`, which has all tools: nothing is skipped. */
const isComplete = process.env.MILLRACE_TEST_DEPLOY === '1'
const unless = (found, what) => !found && !isComplete && `${what} is not installed`

const text = (path) => readFileSync(join(DEPLOY, path), 'utf8')
const files = (extension) =>
  readdirSync(DEPLOY, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith(extension))

function yaml(path) {
  const documents = parseAllDocuments(text(path), { strict: true, uniqueKeys: true })
  return documents.map((document) => {
    assert.deepEqual([...document.errors, ...document.warnings], [], path)
    return document.toJS()
  })
}

const json = (path) => JSON.parse(text(path))

/** Runs a checker, whose complaints are the message of the failure. */
function passes(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: DEPLOY, encoding: 'utf8', ...options })
  assert.equal(status, 0, `${error ?? ''}${stdout}${stderr}`)
}

const dashboard = json('grafana/dashboards/millrace.json')
const targets = dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ where: title, expr })))
const rules = yaml('prometheus/alerts.yml')[0].groups.flatMap(({ rules }) => rules)
const alerts = rules.map(({ alert, expr }) => ({ where: alert, expr }))

/** The metrics of docs/metrics.md, with their kind and labels. */
function documented() {
  const document = readFileSync(join(ROOT, 'docs', 'metrics.md'), 'utf8')
  const rows = document.matchAll(/^\| `(millrace_\w+)` \| (\w+) \|(.*?)\|/gm)
  const quoted = (words) => Array.from(words.matchAll(/`(\w+)`/g), ([, word]) => word)
  return new Map(Array.from(rows, ([, name, kind, labels]) => [name, { kind, labels: quoted(labels) }]))
}

test('every file is valid in its format', () => {
  for (const path of [...files('.yml'), ...files('.yaml')]) assert.ok(yaml(path).length > 0, path)
  for (const path of files('.json')) json(path)
})

test('yamllint', { skip: !isDebianCi && unless(findYamllint(), 'yamllint') }, () => {
  passes(findYamllint() ?? 'yamllint', ['--strict', '--config-file', '.yamllint.yaml', '.'])
})

test('the dashboard for Grafana and the alerts name only existing metrics and labels', () => {
  const metrics = documented()
  assert.ok(metrics.size > 30)
  // Prometheus itself has the metric `up` for each target, and `process` is of several processes.
  const known = new Set(['pipeline', 'process', 'instance', 'job', 'le', ...[...metrics.values()].flatMap(({ labels }) => labels)])
  for (const { where, expr } of [...targets, ...alerts]) {
    const used = expr.match(/millrace_\w+/g) ?? []
    assert.ok(used.length > 0 || /\bup\{job="millrace"/.test(expr), where)
    for (const name of used) {
      const histogram = metrics.get(name.replace(/_(bucket|sum|count)$/, ''))?.kind === 'histogram'
      assert.ok(metrics.has(name) || histogram, `${where}: ${name} is not in docs/metrics.md`)
    }
    const lists = [...expr.matchAll(/(?:by|without) \(([^)]*)\)/g)].flatMap(([, list]) => list.split(/, */))
    const matchers = Array.from(expr.matchAll(/(\w+)=~?"/g), ([, label]) => label)
    for (const label of [...lists, ...matchers]) assert.ok(known.has(label), `${where}: no label ${label}`)
  }
})

test('each alert has a severity and a description, and is in the README', () => {
  const readme = text('README.md')
  for (const { alert, labels, annotations } of rules) {
    assert.ok(['critical', 'warning'].includes(labels.severity), alert)
    assert.ok(annotations.summary, alert)
    assert.ok(readme.includes(`| \`${alert}\` | ${labels.severity} |`), `${alert} in deploy/README.md`)
    assert.ok(text('prometheus/alerts.test.yml').includes(`alertname: ${alert}\n`), `a test of ${alert}`)
  }
})

test('inhibit rules name alerts that there are, and an alert that is silenced has one that speaks', () => {
  const names = rules.map(({ alert }) => alert)
  const [{ inhibit_rules: inhibited }] = yaml('prometheus/alertmanager.yml')
  /** The alerts that all matchers take. */
  const taken = (matchers) =>
    names.filter((name) =>
      matchers.every((matcher) => {
        const [, operator, value] = /^alertname(=~|!=|=)"(.*)"$/.exec(matcher)
        const isIt = operator === '=~' ? new RegExp(`^(?:${value})$`).test(name) : name === value
        return operator === '!=' ? !isIt : isIt
      }),
    )
  for (const { source_matchers: sources, target_matchers: targets, equal } of inhibited) {
    assert.ok(taken(sources).length > 0 && taken(targets).length > 0, JSON.stringify({ sources, targets }))
    assert.deepEqual(taken(sources).filter((name) => taken(targets).includes(name)), [], 'none silences itself')
    assert.ok(equal.includes('instance'))
  }
  /** The alerts of one process that are not silenced by others. */
  const spoken = (active) =>
    active.filter((name) => {
      const by = inhibited.filter(({ target_matchers: targets }) => taken(targets).includes(name))
      return !by.some(({ source_matchers: sources }) => taken(sources).some((source) => active.includes(source)))
    })
  const outage = ['MillraceTableFailing', 'MillraceStalled', 'MillraceBehind', 'MillraceInsertsRetried', 'MillraceBuffersFull']
  assert.deepEqual(spoken([...outage, 'MillraceSpoolFilling']), ['MillraceTableFailing'])
  assert.deepEqual(spoken([...outage, 'MillraceDown', 'MillraceNotRunning']), ['MillraceDown'])
  assert.deepEqual(spoken(['MillraceSpoolBlocked', 'MillraceStalled', 'MillraceSpoolFilling']), ['MillraceSpoolBlocked'])
})

test('promtool', { skip: unless(findPromtool(), 'promtool, which comes with Prometheus,') }, () => {
  const promtool = findPromtool()
  const cwd = join(DEPLOY, 'prometheus')
  passes(promtool, ['check', 'config', 'prometheus.yml'], { cwd })
  passes(promtool, ['test', 'rules', 'alerts.test.yml'], { cwd })

  // Grafana's queries as rules, so that promtool parses them, with variables filled in.
  const filled = (expr) => expr.replaceAll('$__rate_interval', '1m').replaceAll(/\$\w+/g, '.*')
  const asked = targets.map(({ expr }, i) => ({ record: `dashboard:${i}`, expr: filled(expr) }))
  const directory = mkdtempSync(join(tmpdir(), 'millrace-deploy-'))
  try {
    writeFileSync(join(directory, 'asked.yml'), stringify({ groups: [{ name: 'dashboard', rules: asked }] }))
    passes(promtool, ['check', 'rules', join(directory, 'asked.yml')])
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('amtool', { skip: unless(findAmtool(), 'amtool, which comes with Alertmanager,') }, () => {
  passes(findAmtool(), ['check-config', 'prometheus/alertmanager.yml'])
})

test('the panels of the dashboard have places and names of their own', () => {
  const ids = dashboard.panels.map(({ id }) => id)
  assert.equal(new Set(ids).size, ids.length)
  const taken = new Set()
  for (const { title, description, gridPos, targets } of dashboard.panels) {
    assert.ok(title && description)
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      assert.ok(x < 24, title)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(!taken.has(`${x} ${y}`), `${title} lies on another panel`)
        taken.add(`${x} ${y}`)
      }
    }
  }
  const variables = dashboard.templating.list.map(({ name }) => name)
  for (const { where, expr } of targets) {
    for (const [, name] of expr.matchAll(/\$(?!__)(\w+)/g)) assert.ok(variables.includes(name), `${where}: $${name}`)
  }
})

const [compose] = yaml('compose.yaml')
const [statefulSet] = yaml('kubernetes/statefulset.yaml')
const pod = statefulSet.spec.template.spec
const [container] = pod.containers

test('the configurations are valid, and find their environment', () => {
  for (const [path, environment] of [
    ['config/millrace.json', Object.keys(compose.services.millrace.environment)],
    ['kubernetes/millrace.json', container.env.map(({ name }) => name)],
  ]) {
    const used = Array.from(text(path).matchAll(/\$\{(\w+)/g), ([, name]) => name)
    assert.deepEqual(used.filter((name) => !environment.includes(name)), [], path)
    const config = JSON.parse(text(path).replaceAll(/\$\{\w+\}/g, 'x'))
    new Pipeline(config)
    assert.equal(config.spool.dir, '/spool', path)
  }
})

test('the Compose file fits together', () => {
  const { services, volumes } = compose
  for (const [name, service] of Object.entries(services)) {
    for (const mount of service.volumes ?? []) {
      const [from] = mount.split(':')
      assert.ok(from.startsWith('.') ? existsSync(join(DEPLOY, from)) : from in volumes, `${name}: ${mount}`)
    }
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:/, `${name}: ${port}`)
    for (const other of Object.keys(service.depends_on ?? {})) assert.ok(services[other].healthcheck, other)
    assert.ok(service.build || /:v?\d/.test(service.image), `${name} has a version`)
  }
  const config = json('config/millrace.json')
  for (const url of [config.mqtt.url, config.clickhouse.url]) assert.ok(new URL(url).hostname in services, url)
  const [{ job_name: job, static_configs: scraped }] = yaml('prometheus/prometheus.yml')[0].scrape_configs
  assert.equal(job, 'millrace', 'the job that alerts ask for')
  const [{ static_configs: alerted }] = yaml('prometheus/prometheus.yml')[0].alerting.alertmanagers
  assert.ok(new URL(`http://${alerted[0].targets[0]}`).hostname in services)
  assert.deepEqual(scraped, [{ targets: ['millrace:9090'] }])
  const [{ datasources }] = yaml('grafana/provisioning/datasources/prometheus.yml')
  assert.equal(datasources[0].url, 'http://prometheus:9090')
  assert.ok(statSync(join(DEPLOY, 'clickhouse/tables.sh')).mode & 0o100)
})

test('the Kubernetes manifests fit together', () => {
  const [service] = yaml('kubernetes/service.yaml')
  const [budget] = yaml('kubernetes/disruption-budget.yaml')
  const { labels } = statefulSet.spec.template.metadata
  const selectors = [service.spec.selector, ...[budget, statefulSet].map(({ spec }) => spec.selector.matchLabels)]
  for (const selector of selectors) assert.deepEqual(selector, labels)
  assert.equal(statefulSet.spec.serviceName, service.metadata.name)

  const [{ name, containerPort }] = container.ports
  assert.equal(service.spec.ports[0].targetPort, name)
  assert.equal(container.args[container.args.indexOf('--http') + 1], `0.0.0.0:${containerPort}`)
  const { startupProbe, livenessProbe, readinessProbe } = container
  for (const { httpGet } of [startupProbe, livenessProbe, readinessProbe]) assert.equal(httpGet.port, name)
  const drain = Number.parseInt(container.args[container.args.indexOf('--drain-timeout') + 1], 10)
  assert.ok(drain < pod.terminationGracePeriodSeconds)

  const claims = statefulSet.spec.volumeClaimTemplates
  const there = [...pod.volumes, ...claims.map(({ metadata }) => metadata)].map(({ name }) => name)
  assert.deepEqual(container.volumeMounts.map(({ name }) => name).sort(), there.sort())
  const { spool, memory } = json('kubernetes/millrace.json')
  const bytes = (size) => Number.parseInt(size, 10) * { Mi: 2 ** 20, Gi: 2 ** 30 }[size.slice(-2)]
  assert.ok(spool.maxBytes < bytes(claims[0].spec.resources.requests.storage))
  assert.ok(memory.maxBytes < bytes(container.resources.requests.memory))

  const [{ resources, configMapGenerator, secretGenerator }] = yaml('kubernetes/kustomization.yaml')
  const [{ name: secret, envs }] = secretGenerator
  assert.deepEqual([secret, envs], ['millrace', ['secrets.env']])
  const secrets = text('kubernetes/secrets.env.example').match(/^[^=]+/gm)
  const keys = container.env.flatMap(({ valueFrom }) => valueFrom.secretKeyRef ?? []).map(({ key }) => key)
  assert.deepEqual(secrets.map((name) => name.trim()).sort(), keys.sort())
  const [policy] = yaml('kubernetes/network-policy.yaml')
  assert.deepEqual(policy.spec.podSelector.matchLabels, labels)
  assert.equal(policy.spec.ingress[0].ports[0].port, containerPort)
  const [monitor] = yaml('kubernetes/monitoring/pod-monitor.yaml')
  assert.deepEqual(monitor.spec.selector.matchLabels, labels)
  assert.equal(monitor.spec.podMetricsEndpoints[0].port, name)
  assert.equal(labels[monitor.spec.jobLabel], 'millrace', 'the job that alerts ask for')
  const [rule] = yaml('kubernetes/monitoring/prometheus-rule.yaml')
  assert.deepEqual(rule.spec, yaml('prometheus/alerts.yml')[0])
  for (const path of [...resources, ...configMapGenerator[0].files]) {
    assert.ok(existsSync(join(DEPLOY, 'kubernetes', path)), path)
  }
  assert.equal(configMapGenerator[0].name, pod.volumes[0].configMap.name)
})

test(
  'the Kubernetes manifests against the schemas of Kubernetes',
  { skip: unless(findKubernetesValidate(), 'kubernetes-validate, from PyPI,') },
  () => {
    const manifests = ['service', 'statefulset', 'disruption-budget', 'network-policy'].map((name) => `kubernetes/${name}.yaml`)
    passes(findKubernetesValidate(), ['--strict', ...manifests])
  },
)

test('the health check of the image reads the status of /healthz', { skip: process.platform !== 'linux' && 'bash and /dev/tcp' }, async (t) => {
  const [, command] = /HEALTHCHECK[^\n]*\n\s*CMD (\[.*\])$/m.exec(text('Dockerfile'))
  let status = 200
  const server = createServer((request, response) => response.writeHead(request.url === '/healthz' ? status : 404).end())
  server.listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const [program, ...args] = JSON.parse(command)
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  const healthy = async () => {
    const child = spawn(program, args.map((arg) => arg.replaceAll('9090', String(port))), { stdio: 'ignore' })
    const [code] = await once(child, 'exit')
    return code === 0
  }
  assert.equal(await healthy(), true)
  status = 503
  assert.equal(await healthy(), false)
  await new Promise((resolve) => server.close(resolve))
  assert.equal(await healthy(), false)
})

test('the image runs as a user of its own, and its command is the one that is served', () => {
  const dockerfile = text('Dockerfile')
  const stages = dockerfile.split(/^FROM /m)
  assert.match(stages.at(-1), /^USER node$/m)
  assert.match(stages.at(-1), /^CMD \["run", "\/config\/millrace\.json", "--http", "0\.0\.0\.0:9090"\]$/m)
  for (const [, image] of dockerfile.matchAll(/^FROM (\S+)/gm)) assert.match(image, /:[\d.]+-/, 'a version')
})
