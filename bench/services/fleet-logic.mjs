// The business logic of the benchmark of transforms: two computed columns, one message in a hundred is dropped, one in a
// thousand is an alert. Once by columns, once by row views, and once for a message, as one writes it with mqtt.js.

const KMH = 3.6

/** A cell of a tenth of a degree. */
const cellOf = (lat, lng) => Math.floor((lat + 90) * 10) * 3600 + Math.floor((lng + 180) * 10)

/** The options of the route. `seq` is the message's own number: what is dropped can be counted by it. */
export const ROUTE = {
  columns: { speed_kmh: { computed: true }, cell: { computed: true } },
  emits: ['alerts'],
}

export function byColumns(batch) {
  const { driver_id, ts } = batch.columns
  const seq = batch.columns.seq.values
  const speed = batch.columns.speed.values
  const lat = batch.columns.lat.values
  const lng = batch.columns.lng.values
  const kmh = batch.columns.speed_kmh.values
  const cell = batch.columns.cell.values
  for (let row = 0; row < batch.length; row++) {
    if (seq[row] % 100 === 0) {
      batch.drop(row)
      continue
    }
    kmh[row] = speed[row] * KMH
    cell[row] = cellOf(lat[row], lng[row])
    if (seq[row] % 1000 === 1) batch.emit('alerts', { driver_id: driver_id.get(row), speed_kmh: kmh[row], ts: ts.get(row) })
  }
}

export function byRows(batch) {
  for (const row of batch.rows()) {
    if (row.seq % 100 === 0) {
      batch.drop(row)
      continue
    }
    row.speed_kmh = row.speed * KMH
    row.cell = cellOf(row.lat, row.lng)
    if (row.seq % 1000 === 1) batch.emit('alerts', { driver_id: row.driver_id, speed_kmh: row.speed_kmh, ts: row.ts })
  }
}

/** Completes a row; false: it is dropped. */
export function ofMessage(row, emit) {
  if (row.seq % 100 === 0) return false
  row.speed_kmh = row.speed * KMH
  row.cell = cellOf(row.lat, row.lng)
  if (row.seq % 1000 === 1) emit({ driver_id: row.driver_id, speed_kmh: row.speed_kmh, ts: row.ts })
  return true
}
