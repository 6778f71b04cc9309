// The business logic of the fleet: units, zones, speed alerts with hysteresis, and the team of each driver. It knows neither broker nor
// ClickHouse, so that a test can call it.

import type { ArrayColumn, Batch, Column, TapBatch, TextColumn, TimeColumn } from 'millrace'

/** The columns that the transform reads and writes. `millrace types` writes this for your own tables. */
export type PositionsBatch = Batch<{
  driver_id: TextColumn
  lat: ArrayColumn<Float64Array, number>
  lng: ArrayColumn<Float64Array, number>
  speed: ArrayColumn<Float32Array, number>
  ts: TimeColumn<BigInt64Array>
  speed_kmh: ArrayColumn<Float32Array, number>
  zone: Column<string>
  team: Column<string>
}>

export interface Driver {
  team: string
  limitKmh: number
}

export interface Position {
  driver: string
  lat: number
  lng: number
  kmh: number
  zone: string
}

interface Zone {
  name: string
  lat: number
  lng: number
  km: number
  limitKmh: number
}

const KMH = 3.6
/** Who is not in the table of drivers. */
const UNKNOWN: Driver = { team: '', limitKmh: 110 }
/** A driver has slowed down below this share of the limit: without it, one who drives at the limit would raise alert after alert. */
const HYSTERESIS = 0.9
const KM_PER_DEGREE = 111.32

const ZONES: Zone[] = [
  { name: 'downtown', lat: 25.774, lng: -80.193, km: 4, limitKmh: 60 },
  { name: 'airport', lat: 25.795, lng: -80.287, km: 3, limitKmh: 80 },
  { name: 'fort lauderdale', lat: 26.122, lng: -80.137, km: 6, limitKmh: 60 },
]

export class FleetLogic {
  /** The rows of the table `drivers`, by driver; each read replaces the map. */
  drivers: ReadonlyMap<string, Driver> = new Map()
  /** Who drives too fast now. It follows from messages alone, and is empty after a restart. */
  #speeding = new Set<string>()

  transform = (batch: PositionsBatch): void => {
    const { driver_id, zone, team, ts } = batch.columns
    const lat = batch.columns.lat.values
    const lng = batch.columns.lng.values
    const speed = batch.columns.speed.values
    const kmh = batch.columns.speed_kmh.values
    for (let row = 0; row < batch.length; row++) {
      if (Math.abs(lat[row]!) > 90 || Math.abs(lng[row]!) > 180) {
        batch.reject(row, 'not on this planet')
        continue
      }
      kmh[row] = speed[row]! * KMH
      const driver = driver_id.get(row)
      const { team: ofDriver, limitKmh } = this.drivers.get(driver) ?? UNKNOWN
      const at = zoneOf(lat[row]!, lng[row]!)
      zone.set(row, at?.name ?? '')
      team.set(row, ofDriver)

      const limit = Math.min(limitKmh, at?.limitKmh ?? Infinity)
      const kind = this.#judge(driver, kmh[row]!, limit)
      if (kind === undefined) continue
      batch.emit('alerts', { driver_id: driver, kind, speed_kmh: kmh[row], limit_kmh: limit, zone: at?.name ?? '', team: ofDriver, ts: ts.get(row) })
    }
  }

  /** The alert that a speed is, if it is one. */
  #judge(driver: string, kmh: number, limit: number): 'speeding' | 'slowed down' | undefined {
    const isSpeeding = this.#speeding.has(driver)
    if (!isSpeeding && kmh > limit) {
      this.#speeding.add(driver)
      return 'speeding'
    }
    if (isSpeeding && kmh < limit * HYSTERESIS) {
      this.#speeding.delete(driver)
      return 'slowed down'
    }
    return undefined
  }
}

/** The last position of each driver among rows that are inserted. */
export function positionsOf(batch: TapBatch<PositionsBatch>): Position[] {
  const last = new Map<string, Position>()
  for (const { driver_id: driver, lat, lng, speed_kmh: kmh, zone } of batch.rows()) last.set(driver, { driver, lat, lng, kmh, zone })
  return [...last.values()]
}

/** The zone around a position, on a plane: near enough for some kilometres. */
function zoneOf(lat: number, lng: number): Zone | undefined {
  return ZONES.find((zone) => {
    const north = (lat - zone.lat) * KM_PER_DEGREE
    const east = (lng - zone.lng) * KM_PER_DEGREE * Math.cos((zone.lat * Math.PI) / 180)
    return north * north + east * east < zone.km * zone.km
  })
}
