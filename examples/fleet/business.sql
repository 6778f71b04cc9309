-- What the business logic of service.mts fills and reads, beside tables.sql.

ALTER TABLE positions
    ADD COLUMN IF NOT EXISTS speed_kmh Float32,
    ADD COLUMN IF NOT EXISTS zone LowCardinality(String) COMMENT 'empty outside of all zones',
    ADD COLUMN IF NOT EXISTS team LowCardinality(String) COMMENT 'of the driver, as it was when the position came';

-- Who drives: kept by somebody else, read by the service each minute.
CREATE TABLE IF NOT EXISTS drivers
(
    driver_id       String,
    team            LowCardinality(String),
    speed_limit_kmh Float32
)
ENGINE = ReplacingMergeTree
ORDER BY driver_id;

-- An alert when a driver begins to drive too fast, and one when that is over.
CREATE TABLE IF NOT EXISTS alerts
(
    driver_id String,
    kind      Enum8('speeding' = 1, 'slowed down' = 2),
    speed_kmh Float32,
    limit_kmh Float32,
    zone      LowCardinality(String),
    team      LowCardinality(String),
    ts        DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (driver_id, ts)
SETTINGS non_replicated_deduplication_window = 1000;
