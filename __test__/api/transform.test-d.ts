// Transforms as a TypeScript program writes them. Nothing here runs: that it compiles is the test.

import type { ArrayColumn, Batch, Column, RowView, TextColumn, TimeColumn, Transform, TransformModule } from '../../index.js'

/** Compiles only where both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(_: Same<A, B>) => {}

type PositionsBatch = Batch<{
  speed: ArrayColumn<Float64Array, number>
  kmh: ArrayColumn<Float64Array, number, number, null>
  trips: ArrayColumn<BigUint64Array, bigint, bigint | number>
  state: ArrayColumn<Int8Array, 'idle' | 'moving', 'idle' | 'moving' | number>
  ts: TimeColumn<BigInt64Array>
  zone: TextColumn<null>
  tags: Column<string[]>
}>

const precise: Transform<PositionsBatch> = (batch) => {
  const { speed, kmh, trips, state, ts, zone, tags } = batch.columns
  same<typeof speed.values, Float64Array>(true)
  same<typeof speed.nulls, undefined>(true)
  same<typeof kmh.nulls, Uint8Array>(true)
  same<ReturnType<typeof kmh.get>, number | null>(true)
  same<ReturnType<typeof trips.get>, bigint>(true)
  same<ReturnType<typeof ts.get>, Date>(true)
  same<ReturnType<typeof ts.ticks>, bigint>(true)
  same<ReturnType<typeof zone.bytes>, Uint8Array | null>(true)
  for (let row = 0; row < batch.length; row++) {
    kmh.values[row] = speed.values[row]! * 3.6
    trips.set(row, 5)
    state.set(row, 'idle')
    ts.set(row, new Date())
    ts.set(row, 5n)
    zone.set(row, null)
    zone.set(row, new Uint8Array())
    tags.set(row, ['a'])
    // @ts-expect-error: not a name of the enum
    state.set(row, 'flying')
    // @ts-expect-error: the column has no NULL
    speed.set(row, null)
    // @ts-expect-error: milliseconds could as well be ticks
    ts.set(row, 1_700_000_000_000)
    // @ts-expect-error: a list has no array
    tags.values
    batch.drop(row)
    batch.reject(row, 'why')
    // @ts-expect-error: without a reason
    batch.reject(row)
  }
  for (const row of batch.rows()) {
    same<typeof row.kmh, number | null>(true)
    row.kmh = row.speed * 3.6
    same<typeof row.state, 'idle' | 'moving'>(true)
    if (row.zone === null) batch.drop(row)
    // @ts-expect-error: not a column
    row.altitude
  }
  // @ts-expect-error: not a column
  batch.columns.altitude
  batch.emit('alerts', { at: ts.get(0), bytes: zone.bytes(0), trips: 2n ** 64n })
  const { topic, payload, userProperties } = batch.message(0)
  const text: string = `${topic} ${payload.toString()} ${userProperties[0]?.[1] ?? ''} ${batch.signal.aborted}`
  if (text === '') batch.signal.throwIfAborted()
}

/** Without generated types any column may be there, and is anything. */
const loose: Transform = async (batch) => {
  const { length, table, route, topicFilter, columns } = batch
  const { speed, speed_kmh: kmh } = columns
  for (let row = 0; row < length; row++) kmh!.values[row] = speed!.values[row] * 3.6
  for (const row of batch.rows()) row.speed_kmh = row.speed * 3.6
  await Promise.resolve(`${table} ${route} ${topicFilter}`)
}

// A route takes functions of any batch, and modules.
const functions: (Transform | TransformModule)[] = [
  precise,
  loose,
  (batch) => batch.drop(0),
  async ({ columns }) => void columns.lat?.get(0),
  { module: './transform.mjs' },
  { module: new URL('file:///transform.mjs'), export: 'positions', threads: 4, data: { limit: 90 } },
]
// @ts-expect-error: a transform returns nothing
const wrongResult: Transform = () => 5
// @ts-expect-error: no thread
const wrongModule: TransformModule = { threads: 1 }

const view = (row: RowView<{ a: ArrayColumn<Float64Array, number>; b: Column<string[]> }>): [number, string[]] => [row.a, row.b]

export { functions, view, wrongModule, wrongResult }
