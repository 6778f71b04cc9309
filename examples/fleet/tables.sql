-- The fleet: every position ever sent, and the last one of each driver.
--
-- Both tables have a deduplication window: they remember the tokens of their last 1,000 inserts. An INSERT that is
-- repeated because its answer was lost is known again then, also in what the materialized view made of it. Without
-- the setting a plain MergeTree does not look at tokens at all.

-- Not partitioned, so that an INSERT is one part: it lands whole or not at all.
-- driver_id leads the sorting key and compresses to almost nothing as it is; LowCardinality would cost more than it
-- saves once there are more than some ten thousand drivers.
CREATE TABLE IF NOT EXISTS positions
(
    driver_id   String,
    lat         Float64,
    lng         Float64,
    speed       Float32 COMMENT 'metres per second',
    heading     UInt16 COMMENT 'degrees, clockwise from north',
    ts          DateTime64(3, 'UTC') COMMENT 'by the clock of the driver',
    received_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'by the clock of ClickHouse'
)
ENGINE = MergeTree
ORDER BY (driver_id, ts)
SETTINGS non_replicated_deduplication_window = 1000;

-- At first a row per driver and insert; merges in the background leave one per driver.
CREATE TABLE IF NOT EXISTS last_positions
(
    driver_id String,
    lat       AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')),
    lng       AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')),
    speed     AggregateFunction(argMax, Float32, DateTime64(3, 'UTC')),
    heading   AggregateFunction(argMax, UInt16, DateTime64(3, 'UTC')),
    last_ts   SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY driver_id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS positions_to_last_positions TO last_positions AS
SELECT
    driver_id,
    argMaxState(lat, ts) AS lat,
    argMaxState(lng, ts) AS lng,
    argMaxState(speed, ts) AS speed,
    argMaxState(heading, ts) AS heading,
    max(ts) AS last_ts
FROM positions
GROUP BY driver_id;

-- What to read: SELECT * FROM current_positions WHERE driver_id = 'driver-42'
CREATE VIEW IF NOT EXISTS current_positions AS
SELECT
    driver_id,
    argMaxMerge(last_positions.lat) AS lat,
    argMaxMerge(last_positions.lng) AS lng,
    argMaxMerge(last_positions.speed) AS speed,
    argMaxMerge(last_positions.heading) AS heading,
    max(last_ts) AS ts
FROM last_positions
GROUP BY driver_id;
