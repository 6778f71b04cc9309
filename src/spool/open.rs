//! Opens the spool of a configuration, and reports what was found in it.

use std::path::Path;
use std::time::Instant;

use crate::config::{Config, MAX_BLOCK_ROWS};
use crate::core::ack_history::AckHistory;
use crate::core::backoff::random_bits;
use crate::core::error::{Error, Result};
use crate::core::shard::Shard;
use crate::spool::insert_queue::InsertLimits;
use crate::spool::stored_dead_letters;
use crate::spool::wal::corruption::CorruptRange;
use crate::spool::wal::log::{Log, Options};
use crate::spool::wal::recovery::Recovered;
use crate::spool::wal::storage::{Directory, Disk};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::telemetry::metrics::add;

/// ClickHouse squashes the blocks of an INSERT into one as long as they have no more rows and bytes than this.
const MAX_ROWS: u64 = MAX_BLOCK_ROWS as u64;
const MAX_BYTES: u64 = 128 << 20;
/// Foreign files that a warning names.
const MAX_NAMED: usize = 10;

/// A log that was opened, and what was found in it.
pub struct Opened<D: Disk = Directory> {
    pub log: Log<D>,
    pub recovered: Recovered,
}

/// Opens the spool of a configuration, if it has one, and warns of what was found to be damaged.
pub fn open(context: &PipelineContext) -> Result<Option<Opened>> {
    let Config { spool, batch, name, memory_max_bytes, .. } = &context.config;
    let Some(spool) = spool else { return Ok(None) };
    let options = Options {
        name: name.clone(),
        open_id: random_bits(),
        max_bytes: spool.max_bytes,
        segment_bytes: spool.segment_bytes,
        keep_bytes: memory_max_bytes / 4,
        insert: InsertLimits {
            rows: (batch.rows as u64).min(MAX_ROWS),
            rows_behind: MAX_ROWS,
            bytes: (batch.bytes as u64).min(MAX_BYTES),
            decoded_bytes: batch.total_bytes as u64,
            delay: batch.delay,
        },
    };
    let (mut log, recovered) = Log::open(Directory::lock(&spool.dir)?, options, Instant::now())?;
    check_shards(&context.config, &spool.dir, &log)?;
    // A connection only knows the messages of records that were perhaps not synced before a crash once they are synced now. If
    // this fails it is tried again, and messages that the broker sends again are taken again.
    let _ = log.commit();
    report(context, &spool.dir, &recovered);
    Ok(Some(Opened { log, recovered }))
}

/// Refuses rows that were divided by another number of shards: some of them may be in ClickHouse, on the shards of before.
fn check_shards(config: &Config, dir: &Path, log: &Log<Directory>) -> Result<()> {
    let configured = config.clickhouse.shards.as_ref().map(|_| config.clickhouse.urls.len() as u32);
    let streams = log.open_streams().filter(|stream| !stored_dead_letters::is_stream_of_dead_letters(stream));
    for stream in streams {
        let stored = Shard::split_name(&stream.route).1.map(|shard| shard.count);
        if stored != configured {
            return Err(Error::ShardsChanged { dir: dir.display().to_string(), stored, configured });
        }
    }
    Ok(())
}

fn report(context: &PipelineContext, dir: &Path, recovered: &Recovered) {
    warn_of_damages(context, &recovered.damages);
    if let Some(gauges) = &context.metrics.spool {
        add(&gauges.damages, recovered.breaks.len() as u64);
        add(&gauges.lost_messages, recovered.missing.map_or(0, |missing| missing.messages));
    }
    for gone in &recovered.breaks {
        let message = format!("{}: {gone}", dir.display());
        let warning = Warning::new("SPOOL_CORRUPT", message).dir(dir);
        context.warn(warning.segment(&gone.segment, gone.at, gone.len));
    }
    if !(recovered.damages.is_empty() && recovered.breaks.is_empty()) {
        let dir_text = dir.display();
        let (text, messages) = match recovered.missing {
            None => (format!("{dir_text}: it is not known how many acknowledged messages are missing"), None),
            Some(missing) => (
                format!(
                    "{dir_text}: {} acknowledged messages in {} records are missing because of this; all others are there",
                    missing.messages, missing.records
                ),
                usize::try_from(missing.messages).ok(),
            ),
        };
        let warning = Warning::new("SPOOL_CORRUPT", text).dir(dir);
        context.warn(match messages {
            Some(messages) => warning.messages(messages),
            None => warning,
        });
    }
    for torn in &recovered.torn {
        let message = format!(
            "{}: {} at {} ends in {} bytes that were not synced before a crash; they are left out",
            dir.display(),
            torn.segment,
            torn.at,
            torn.len
        );
        let warning = Warning::new("SPOOL_TORN", message).dir(dir);
        context.warn(warning.segment(&torn.segment, torn.at, torn.len as u64));
    }
    if !recovered.foreign.is_empty() {
        let (count, named) = (recovered.foreign.len(), recovered.foreign.iter().take(MAX_NAMED));
        let named: Vec<&str> = named.map(String::as_str).collect();
        let more =
            if count > named.len() { format!(" and {} more", count - named.len()) } else { String::new() };
        let message = format!(
            "{}: {}{more} are no files of a spool; they are left alone, but a spool needs a directory of its own",
            dir.display(),
            named.join(", ")
        );
        context.warn(Warning::new("SPOOL_FOREIGN_FILES", message).dir(dir).files(&recovered.foreign));
    }
}

/// Warns of ranges that cannot be read.
pub(super) fn warn_of_damages(context: &PipelineContext, damages: &[CorruptRange]) {
    if let Some(gauges) = &context.metrics.spool {
        add(&gauges.damages, damages.len() as u64);
    }
    for damage in damages {
        let warning = Warning::new("SPOOL_CORRUPT", damage.to_string());
        let warning = warning.segment(&damage.segment, damage.at, damage.len as u64);
        context.warn(match &damage.file {
            Some(file) => warning.file(file),
            None => warning,
        });
    }
}

impl Opened {
    /// The messages that an earlier process acknowledged on this connection.
    pub fn acknowledged(&self, connection: usize, client_id: &str) -> Option<AckHistory> {
        let session = self.log.session(connection as u32)?;
        (session.client_id == client_id).then(|| session.acknowledged.clone())
    }
}
