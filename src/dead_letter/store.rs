//! Stores dead letters: in a table, in a directory, or only as an event.
//!
//! Dead letters are settled once they are stored; those that cannot be stored now are tried again for ever, like rows.
//!
//! In a directory there is one file a day, `<pipeline>-<date>.jsonl`, with one dead letter a line: see
//! [`jsonl`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crossbeam_channel::Receiver;

use crate::clickhouse::error_class::{ErrorClass, Failure};
use crate::clickhouse::insert_request::{Insert, ViewMode};
use crate::clickhouse::retry::{Next, RetriedInsert, RetryLoop};
use crate::clickhouse::servers::Servers;
use crate::clickhouse::token::Tokens;
use crate::clickhouse::{BlockEncoder, Column, ColumnType, CompressedBlock, CompressionHints, native, quote};
use crate::core::backoff::Backoff;
use crate::core::clock::unix_millis;
use crate::core::dead_letter::DeadLetter;
use crate::core::fs::sync_directory;
use crate::dead_letter::jsonl;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::{Event, Warning};
use crate::telemetry::faults::OpenFault;
use crate::telemetry::metrics::add;

pub enum Store {
    /// Nowhere: the event is all there is.
    Event,
    Table {
        name: String,
        servers: Servers,
    },
    Directory(PathBuf),
    /// In the place where they were read: they are stored already.
    Source,
}

pub struct DeadLetterThread {
    pub context: Arc<PipelineContext>,
    pub store: Store,
    pub batches: Receiver<DeadLetterBatch>,
    pub tokens: Arc<Tokens>,
}

impl DeadLetterThread {
    /// Until connections and workers are gone and their dead letters are stored, or all is cancelled.
    pub async fn run(mut self) {
        let mut warned = false;
        while let Ok(batch) = self.batches.recv() {
            if matches!(self.store, Store::Event) && !std::mem::replace(&mut warned, true) {
                self.context.warn(Warning::new(
                    "DEAD_LETTERS_UNSTORED",
                    "dead letters are only told by the 'deadLetters' event: deadLetters.table or deadLetters.dir keeps them",
                ));
            }
            if self.context.is_cancelled() || self.store(&batch).await.is_none() {
                return;
            }
            self.settle(batch);
        }
    }

    fn settle(&self, batch: DeadLetterBatch) {
        let DeadLetterBatch { dead_letters, mut completion, .. } = batch;
        let count = dead_letters.len() as u64;
        for dead_letter in &dead_letters {
            let route = dead_letter.route.and_then(|route| self.context.config.find_route(route));
            if let Some(table) = route.and_then(|route| self.context.metrics.table(&route.table)) {
                add(&table.dead_lettered, 1);
            }
            add(self.context.metrics.dead_letters(dead_letter.reason.code), 1);
        }
        // They count as memory until JavaScript has them.
        let memory = completion.take_memory();
        self.context.emit(Event::DeadLetters(dead_letters, memory));
        completion.rejected(count);
    }

    /// `None`: cancelled before they were stored.
    async fn store(&mut self, batch: &DeadLetterBatch) -> Option<()> {
        let stored = match &self.store {
            Store::Event | Store::Source => Some(()),
            Store::Table { .. } => self.store_in_table(batch).await,
            Store::Directory(dir) => self.store_in_directory(dir, &batch.dead_letters).await,
        };
        self.context.metrics.dead_letters_failing.store(0, Ordering::Relaxed);
        stored
    }

    async fn store_in_table(&mut self, batch: &DeadLetterBatch) -> Option<()> {
        let Store::Table { name, servers } = &mut self.store else { return Some(()) };
        let sql = insert_sql(name);
        let (headers, columns) = columns(&batch.dead_letters);
        let token = batch.token.clone().unwrap_or_else(|| {
            let group = batch.completion.id();
            self.tokens
                .token(format_args!("letters-{group}"), &sql, || native::encode_to_vec(&headers, &columns))
        });
        // Dead letters are rare: no memory is kept for the next ones.
        let mut packer = BlockEncoder::new(self.context.config.clickhouse.compression);
        let block = packer.encode(&headers, &columns, &CompressionHints::default());
        drop((packer, columns));
        let mut insert = DeadLetterInsert {
            context: &self.context,
            fault: self.context.no_fault(),
            servers,
            sql: &sql,
            block,
            token: &token,
            rows: batch.dead_letters.len(),
        };
        if let Err(error) = RetryLoop::new(&self.context, name).run(&mut insert).await? {
            // The one place where a dead letter can end as an event alone: nothing else is left to try.
            let message = format!("{name} does not take dead letters: {error}");
            let warning = Warning::new("DEAD_LETTERS_REFUSED", message).table(name).reason(&error);
            self.context.warn(warning.messages(batch.dead_letters.len()));
        }
        Some(())
    }

    async fn store_in_directory(&self, dir: &Path, dead_letters: &[DeadLetter]) -> Option<()> {
        let mut backoff = Backoff::new(self.context.config.clickhouse.retry);
        let mut fault = self.context.no_fault();
        while let Err(error) = append(dir, &self.context.config.name, dead_letters) {
            self.context.metrics.dead_letters_failing.store(1, Ordering::Relaxed);
            let wait = backoff.failed();
            let message = format!("{}: {error}; trying again in {} ms", dir.display(), wait.as_millis());
            let warning = Warning::new("DEAD_LETTERS_RETRYING", message).dir(dir).reason(&error);
            self.context.warn_of_fault(&mut fault, warning.retry_in(wait));
            tokio::select! {
                () = self.context.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
        }
        Some(())
    }
}

/// The INSERT into the dead-letter table. Ends with the error if ClickHouse refuses the rows.
struct DeadLetterInsert<'a> {
    context: &'a PipelineContext,
    fault: OpenFault,
    servers: &'a mut Servers,
    sql: &'a str,
    block: CompressedBlock,
    token: &'a str,
    rows: usize,
}

impl RetriedInsert for DeadLetterInsert<'_> {
    type End = Result<(), String>;

    fn insert(&self) -> Insert<'_> {
        Insert {
            sql: self.sql,
            frames: slice::from_ref(&self.block.frames),
            rows: self.rows as u64,
            block_bytes: self.block.block_bytes,
            token: self.token,
            views: ViewMode::Normal,
        }
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn fault(&mut self) -> &mut OpenFault {
        &mut self.fault
    }

    fn servers(&self) -> &Servers {
        self.servers
    }

    fn servers_mut(&mut self) -> &mut Servers {
        self.servers
    }

    async fn wait(&mut self, wait: Duration) -> Option<()> {
        tokio::select! {
            biased;
            () = self.context.cancelled() => None,
            () = tokio::time::sleep(wait) => Some(()),
        }
    }

    fn confirmed(&mut self) -> Self::End {
        Ok(())
    }

    async fn failed(&mut self, failure: &Failure, _: bool) -> Next<Self::End> {
        self.context.metrics.dead_letters_failing.store(1, Ordering::Relaxed);
        match failure.class {
            ErrorClass::Refused | ErrorClass::RefusedByView => Next::End(Err(failure.error.to_string())),
            _ => Next::Wait,
        }
    }
}

/// The table as it is created if it is not there.
pub fn create_sql(name: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (received_at DateTime64(3, 'UTC'), route Int32, topic String, payload String, \
         error_code LowCardinality(String), error String) ENGINE = MergeTree ORDER BY received_at \
         SETTINGS non_replicated_deduplication_window = 1000",
        qualified(name)
    )
}

fn insert_sql(name: &str) -> String {
    let columns = COLUMNS.map(|(name, _)| name).join(", ");
    format!("INSERT INTO {} ({columns}) FORMAT Native", qualified(name))
}

/// The columns that the table must have.
pub fn column_names() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|(name, _)| *name)
}

pub fn qualified(name: &str) -> String {
    match name.split_once('.') {
        Some((database, name)) => format!("{}.{}", quote(database), quote(name)),
        None => quote(name),
    }
}

const COLUMNS: [(&str, &str); 6] = [
    ("received_at", "DateTime64(3, 'UTC')"),
    ("route", "Int32"),
    ("topic", "String"),
    ("payload", "String"),
    ("error_code", "String"),
    ("error", "String"),
];

type Heads = [(String, String); COLUMNS.len()];

fn columns(dead_letters: &[DeadLetter]) -> (Heads, [Column; COLUMNS.len()]) {
    let heads = COLUMNS.map(|(name, column_type)| (name.to_string(), column_type.to_string()));
    let mut columns = COLUMNS.map(|(_, column_type)| {
        // These six are types that are always known.
        Column::new(&ColumnType::parse(column_type, "UTC").expect("a known type"), false)
    });
    for dead_letter in dead_letters {
        let [received_at, route, topic, payload, code, error] = &mut columns;
        received_at.push_fixed(unix_millis(dead_letter.received_at).to_le_bytes());
        route.push_fixed(dead_letter.route_number().to_le_bytes());
        topic.push_string(&dead_letter.topic);
        payload.push_string(&dead_letter.payload);
        code.push_string(dead_letter.reason.code.as_str().as_bytes());
        error.push_string(dead_letter.reason.message.as_bytes());
    }
    (heads, columns)
}

/// Appends dead letters to the file of the day and syncs it: messages acknowledged afterwards are on
/// the disk.
fn append(dir: &Path, pipeline: &str, dead_letters: &[DeadLetter]) -> io::Result<()> {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let path = dir.join(format!("{pipeline}-{}.jsonl", now.strftime("%Y-%m-%d")));
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
    let before = file.metadata()?.len();
    let begun = if ends_in_line(&mut file, before)? { file.write_all(b"\n") } else { Ok(()) };
    if let Err(error) = begun.and_then(|()| write_lines(&mut file, dead_letters)) {
        // A half line would be glued to the next one.
        let _ = file.set_len(before);
        return Err(error);
    }
    file.sync_data()?;
    if is_new {
        sync_directory(dir)?;
    }
    Ok(())
}

/// A line may be six times as long as its dead letter: text is written whenever it exceeds this number
/// of bytes.
const MAX_TEXT: usize = 256 << 10;

fn write_lines(file: &mut impl Write, dead_letters: &[DeadLetter]) -> io::Result<()> {
    let mut text = Vec::new();
    for (at, dead_letter) in dead_letters.iter().enumerate() {
        jsonl::write(&mut text, dead_letter)?;
        if text.len() >= MAX_TEXT || at + 1 == dead_letters.len() {
            file.write_all(&text)?;
            text.clear();
        }
    }
    Ok(())
}

/// Whether the last line has no end: a crash can tear it.
fn ends_in_line(file: &mut File, len: u64) -> io::Result<bool> {
    if len == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(len - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{Code, Reason};

    fn dead_letter(payload: &[u8]) -> DeadLetter {
        DeadLetter {
            received_at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_730_000_000_123),
            route: None,
            topic: b"a/b".to_vec(),
            payload: payload.to_vec(),
            reason: Reason::new(Code::NoRoute, "no route takes this topic"),
        }
    }

    #[test]
    fn dead_letters_are_lines_of_the_days_file() {
        let dir = std::env::temp_dir().join(format!("millrace-letters-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        append(&dir, "test", &[dead_letter(b"{\n}"), dead_letter(b"\xff\x00")]).unwrap();
        let file = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"receivedAt\":\"20").unwrap();
        append(&dir, "test", &[dead_letter(b"")]).unwrap();
        let text = std::fs::read(&file).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let lines: Vec<_> =
            text.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n').map(jsonl::read).collect();
        let payloads: Vec<_> = lines.into_iter().map(|kept| kept.map(|kept| kept.payload).ok()).collect();
        assert_eq!(payloads, [Some(b"{\n}".to_vec()), Some(b"\xff\x00".to_vec()), None, Some(b"".to_vec())]);
    }
}
