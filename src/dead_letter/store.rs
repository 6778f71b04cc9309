//! Keeps dead letters: in a table, in a directory, or only as an event.
//!
//! Letters are acknowledged and booked once they are kept; what cannot be kept now is tried again for ever, like rows.
//!
//! In a directory there is one file a day, `<pipeline>-<date>.jsonl`, with one letter a line: see [`line`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crossbeam_channel::Receiver;

use crate::clickhouse::insert_request::{Body, Insert, Views};
use crate::clickhouse::retry::{Outcome, deliver};
use crate::clickhouse::servers::Servers;
use crate::clickhouse::token::Tokens;
use crate::clickhouse::{Column, ColumnType, Packer, Resistance, native, quote};
use crate::core::backoff::Backoff;
use crate::core::dead_letter::DeadLetter;
use crate::core::memory_budget::Held;
use crate::dead_letter::{Letters, jsonl};
use crate::decode::Instant;
use crate::ingest::context::Shared;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::add;

pub enum Store {
    /// Nowhere: the event is all there is.
    Event,
    Table {
        name: String,
        servers: Servers,
    },
    Directory(PathBuf),
    /// In the place where they were read: they are kept already.
    Source,
}

pub struct Writer {
    pub shared: Arc<Shared>,
    pub store: Store,
    pub letters: Receiver<Letters>,
    pub tokens: Arc<Tokens>,
}

impl Writer {
    /// Until connections and workers are gone and their letters are kept, or all is cancelled.
    pub async fn run(mut self) {
        let mut warned = false;
        while let Ok(letters) = self.letters.recv() {
            if matches!(self.store, Store::Event) && !std::mem::replace(&mut warned, true) {
                self.shared.warn(
                    "DEAD_LETTERS_UNSTORED",
                    "dead letters are only told by the 'deadLetters' event: deadLetters.table or deadLetters.dir keeps them",
                );
            }
            if self.shared.is_cancelled() || !self.keep(&letters).await {
                return;
            }
            self.settle(letters);
        }
    }

    fn settle(&self, letters: Letters) {
        let Letters { group, connection, letters, owed, bytes, ticket } = letters;
        let count = letters.len() as u64;
        for letter in &letters {
            let route = letter.route.and_then(|route| self.shared.config.routes.get(route));
            if let Some(table) = route.and_then(|route| self.shared.metrics.table(&route.table)) {
                add(&table.dead_lettered, 1);
            }
            add(self.shared.metrics.dead_letters(letter.reason.code), 1);
        }
        self.shared.settle(connection, owed);
        self.shared.emit(Event::DeadLetters(letters, Held::take_over(&self.shared.memory, bytes)));
        self.shared.ledger.close(group, 0, count);
        if let Some(ticket) = ticket {
            ticket.settled();
        }
    }

    /// `false`: cancelled before they were kept.
    async fn keep(&mut self, letters: &Letters) -> bool {
        match &mut self.store {
            Store::Event | Store::Source => true,
            Store::Table { name, servers } => {
                let sql = insert_sql(name);
                let (heads, columns) = columns(&letters.letters);
                let token = match &letters.ticket {
                    None => self.tokens.token(format_args!("letters-{}", letters.group), &sql, || {
                        native::whole(&heads, &columns)
                    }),
                    // After a crash these are the letters of the same INSERT again.
                    Some(ticket) => format!("{}-letters", ticket.token),
                };
                // Letters are rare: nothing is kept for the next.
                let mut packer = Packer::new(self.shared.config.clickhouse.compression);
                let block = packer.pack(&heads, &columns, &Resistance::default());
                let insert =
                    Insert { sql: &sql, body: Body::Block(&block), token: &token, views: Views::Filled };
                match deliver(&self.shared, servers, &insert, name).await {
                    Outcome::Confirmed => true,
                    Outcome::Cancelled => false,
                    Outcome::Refused(error) => {
                        // The one place where a letter can end as an event alone: nothing else is left to try.
                        self.shared.warn(
                            "DEAD_LETTERS_REFUSED",
                            format!("{name} does not take dead letters: {error}"),
                        );
                        true
                    }
                }
            }
            Store::Directory(dir) => {
                let mut backoff = Backoff::new(self.shared.config.clickhouse.retry);
                while let Err(error) = append(dir, &self.shared.config.name, &letters.letters) {
                    let wait = backoff.failed();
                    let dir = dir.display();
                    self.shared.warn(
                        "DEAD_LETTERS_RETRYING",
                        format!("{dir}: {error}; trying again in {} ms", wait.as_millis()),
                    );
                    tokio::select! {
                        () = self.shared.cancelled() => return false,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                true
            }
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

/// What the table must have.
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

fn columns(letters: &[DeadLetter]) -> (Heads, [Column; COLUMNS.len()]) {
    let heads = COLUMNS.map(|(name, column_type)| (name.to_string(), column_type.to_string()));
    let mut columns = COLUMNS.map(|(_, column_type)| {
        // These six are types that are always known.
        Column::new(&ColumnType::parse(column_type, "UTC").expect("a known type"), false)
    });
    for letter in letters {
        let [received_at, route, topic, payload, code, error] = &mut columns;
        received_at.push_fixed(Instant::from_system(letter.received_at).ticks(3).unwrap_or(0).to_le_bytes());
        route.push_fixed(letter.route_number().to_le_bytes());
        topic.push_string(&letter.topic);
        payload.push_string(&letter.payload);
        code.push_string(letter.reason.code.as_str().as_bytes());
        error.push_string(letter.reason.message.as_bytes());
    }
    (heads, columns)
}

/// Appends letters to the file of the day and syncs it: what is acknowledged afterwards is on the disk.
fn append(dir: &Path, pipeline: &str, letters: &[DeadLetter]) -> io::Result<()> {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let path = dir.join(format!("{pipeline}-{}.jsonl", now.strftime("%Y-%m-%d")));
    let is_new = !path.exists();
    let mut text = Vec::new();
    for letter in letters {
        jsonl::write(&mut text, letter)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
    let before = file.metadata()?.len();
    let written = if ends_in_line(&mut file, before)? { file.write_all(b"\n") } else { Ok(()) };
    if let Err(error) = written.and_then(|()| file.write_all(&text)) {
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

/// A new file is only there after a crash if its directory was synced too.
fn sync_directory(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{Code, Reason};

    fn letter(payload: &[u8]) -> DeadLetter {
        DeadLetter {
            received_at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_730_000_000_123),
            route: None,
            topic: b"a/b".to_vec(),
            payload: payload.to_vec(),
            reason: Reason::new(Code::NoRoute, "no route takes this topic"),
        }
    }

    #[test]
    fn letters_are_lines_of_the_days_file() {
        let dir = std::env::temp_dir().join(format!("millrace-letters-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        append(&dir, "test", &[letter(b"{\n}"), letter(b"\xff\x00")]).unwrap();
        let file = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"receivedAt\":\"20").unwrap();
        append(&dir, "test", &[letter(b"")]).unwrap();
        let text = std::fs::read(&file).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let lines: Vec<_> =
            text.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n').map(jsonl::read).collect();
        let payloads: Vec<_> = lines.into_iter().map(|kept| kept.map(|kept| kept.payload).ok()).collect();
        assert_eq!(payloads, [Some(b"{\n}".to_vec()), Some(b"\xff\x00".to_vec()), None, Some(b"".to_vec())]);
    }
}
