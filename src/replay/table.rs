//! A table of dead letters, read in one SELECT.
//!
//! - The order is that of receipt, and in the same millisecond that of a hash of the dead letter: it is
//!   the same in each replay.
//! - The answer is RowBinary: bytes as they are, <https://clickhouse.com/docs/interfaces/formats/RowBinary>.
//! - An answer that breaks off, perhaps because we did not read for a long time, is asked for again from the last
//!   millisecond on, without the rows that were read of it.

use std::sync::Arc;

use crate::clickhouse::query::Answer;
use crate::clickhouse::schema::SchemaClient;
use crate::core::backoff::Backoff;
use crate::core::error::{Error, Result};
use crate::core::varint;
use crate::dead_letter::StoredDeadLetter;
use crate::dead_letter::store::qualified;
use crate::pipeline::stages::inspect;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;

/// Bytes of a row: a payload has 256 MiB at most, and there are a topic and texts beside it.
const MAX_ROW: usize = 272 << 20;

pub struct TableReader {
    context: Arc<PipelineContext>,
    schema: SchemaClient,
    table: String,
    condition: String,
    answer: Answer,
    /// Bytes that came and are not taken yet.
    buffer: Vec<u8>,
    taken: usize,
    /// The time of the last dead letter, in milliseconds, and how many of this time there were.
    last: Option<(i64, u64)>,
    /// How many dead letters of the last time still come again.
    again: u64,
}

impl TableReader {
    pub async fn open(
        context: Arc<PipelineContext>,
        schema: SchemaClient,
        table: &str,
        condition: Option<&str>,
    ) -> Result<TableReader> {
        let table = qualified(table);
        let condition = condition.map_or("1".into(), |condition| format!("({condition}\n)"));
        let answer = schema.read(&select(&table, &condition, None)).await?;
        let mut reader = TableReader {
            context,
            schema,
            table,
            condition,
            answer,
            buffer: Vec::new(),
            taken: 0,
            last: None,
            again: 0,
        };
        // A fault of the condition is an error before anything begins.
        reader.read_on().await?;
        Ok(reader)
    }

    pub async fn next(&mut self) -> Result<Option<StoredDeadLetter>> {
        let mut backoff = Backoff::new(self.context.config.clickhouse.retry);
        loop {
            while let Some((millis, dead_letter, len)) = row(&self.buffer[self.taken..]) {
                self.taken += len;
                if self.again > 0 && self.last.is_some_and(|(last, _)| last == millis) {
                    self.again -= 1;
                    continue;
                }
                self.again = 0;
                self.last = match self.last {
                    Some((last, count)) if last == millis => Some((last, count + 1)),
                    _ => Some((millis, 1)),
                };
                return Ok(Some(dead_letter));
            }
            let error = match self.read_on().await {
                Ok(true) => continue,
                Ok(false) if self.taken == self.buffer.len() => return Ok(None),
                Ok(false) => Error::ClickHouseUnreachable {
                    url: self.context.config.clickhouse.places(),
                    message: "the answer ended in the middle of a row".into(),
                },
                Err(error) => error,
            };
            self.resume(error, &mut backoff).await;
        }
    }

    /// `false`: there is no more.
    async fn read_on(&mut self) -> Result<bool> {
        let Some(bytes) = self.answer.next().await? else { return Ok(false) };
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.len() > MAX_ROW {
            let message =
                format!("a row of {} is longer than {MAX_ROW} bytes, which is more than is read", self.table);
            return Err(Error::ClickHouseAnswer { url: self.schema.server.url.clone(), message });
        }
        self.buffer.extend_from_slice(&bytes);
        Ok(true)
    }

    /// Asks again, for ever: it may go on later.
    async fn resume(&mut self, mut error: Error, backoff: &mut Backoff) {
        loop {
            let wait = backoff.failed();
            let message = format!("reading {}: {error}; going on in {} ms", self.table, wait.as_millis());
            let warning = Warning::new("REPLAY_INTERRUPTED", message).table(&self.table).error(&error);
            self.context.warn(warning.retry_in(wait));
            tokio::time::sleep(wait).await;
            let sql = select(&self.table, &self.condition, self.last.map(|(millis, _)| millis));
            let reopened = async {
                let schema = inspect(&self.context.config.clickhouse).await?;
                let answer = schema.read(&sql).await?;
                Ok((schema, answer))
            };
            match reopened.await {
                Ok((schema, answer)) => {
                    (self.schema, self.answer) = (schema, answer);
                    self.buffer.clear();
                    self.taken = 0;
                    self.again = self.last.map_or(0, |(_, count)| count);
                    return;
                }
                Err(again) => error = again,
            }
        }
    }
}

fn select(table: &str, condition: &str, from_millis: Option<i64>) -> String {
    let from = from_millis
        .map_or(String::new(), |millis| format!(" AND received_at >= fromUnixTimestamp64Milli({millis})"));
    format!(
        "SELECT toUnixTimestamp64Milli(toDateTime64(received_at, 3)), toInt32(route), toString(topic), toString(payload), \
         toString(error_code), toString(error) FROM {table} WHERE {condition}{from} \
         ORDER BY received_at, sipHash64(topic, payload, error_code, error)"
    )
}

/// The first row, and its length; `None` if it is not all there.
fn row(bytes: &[u8]) -> Option<(i64, StoredDeadLetter, usize)> {
    let (millis, rest) = bytes.split_first_chunk::<8>()?;
    let (route, mut rest) = rest.split_first_chunk::<4>()?;
    let (millis, route) = (i64::from_le_bytes(*millis), i32::from_le_bytes(*route));
    let mut string = || -> Option<&[u8]> {
        let len = usize::try_from(varint::read::<10>(&mut rest).ok()?).ok()?;
        let (string, tail) = rest.split_at_checked(len)?;
        rest = tail;
        Some(string)
    };
    let (topic, payload, code, message) = (string()?, string()?, string()?, string()?);
    let dead_letter = StoredDeadLetter {
        received_at: StoredDeadLetter::time(millis),
        route: usize::try_from(route).ok(),
        topic: topic.into(),
        payload: payload.into(),
        lost: StoredDeadLetter::lost(&String::from_utf8_lossy(code), &String::from_utf8_lossy(message)),
    };
    Some((millis, dead_letter, bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_rows_are_not_taken() {
        let mut bytes = 1_730_000_000_123_i64.to_le_bytes().to_vec();
        bytes.extend(3i32.to_le_bytes());
        let payload = vec![0xff; 300];
        for text in [&b"a/\xff"[..], &payload, b"TYPE_MISMATCH", b""] {
            varint::write(&mut bytes, text.len() as u64);
            bytes.extend_from_slice(text);
        }
        for len in 0..bytes.len() {
            assert!(row(&bytes[..len]).is_none(), "{len}");
        }
        let whole = bytes.len();
        bytes.extend_from_slice(b"the next one");
        let (millis, dead_letter, len) = row(&bytes).unwrap();
        assert_eq!((millis, len), (1_730_000_000_123, whole));
        assert_eq!((dead_letter.topic.as_slice(), dead_letter.payload), (&b"a/\xff"[..], payload));
        assert_eq!((dead_letter.lost, dead_letter.route), (None, Some(3)));
        bytes[8..12].fill(0xff);
        assert_eq!(row(&bytes).unwrap().1.route, None);
    }
}
