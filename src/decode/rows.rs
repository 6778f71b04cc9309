//! Rows that a program gives by the names of columns, without a message.
//!
//! They come as CBOR objects, one behind the other (RFC 8742), as `lib/row-encoder.js` writes them. Every value becomes what
//! the same value of a payload becomes; a field that no column takes is refused. [`RowDecoder`] appends
//! all rows of one call or none, and names the row and column at fault.

use std::time::SystemTime;

use crate::clickhouse::Column;
use crate::clickhouse::schema::TableColumn;
use crate::config::Route;
use crate::core::error;
use crate::core::mqtt_property::Properties;
use crate::core::reason::{Code, Reason};
use crate::core::topic_filter::Captures;
use crate::decode::checkpoint::Rows;
use crate::decode::documents::DocumentPlan;
use crate::decode::format::bytes::Bytes;
use crate::decode::format::cbor;
use crate::decode::tape::{Tape, Value};
use crate::decode::{Decoder, Message};

/// Fills the columns of one table.
#[derive(Debug, Clone)]
pub struct RowDecoder {
    decoder: Decoder,
    captures: Captures,
}

/// Why rows cannot be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The place of the row at fault, from 0.
    pub row: usize,
    /// `code`, `message`, and the `column` at fault if there is one.
    pub reason: Reason,
}

impl RowError {
    /// As the reason for which all rows are refused together.
    #[cold]
    pub fn reason(self) -> Box<Reason> {
        let RowError { row, reason } = self;
        Box::new(Reason { message: format!("row {row}: {}", reason.message).into(), ..reason })
    }
}

impl RowDecoder {
    /// `path` is that of the option which names the table, for errors; `columns` are those of the table that can be filled.
    pub fn new(path: &str, table: &str, columns: &[TableColumn]) -> error::Result<RowDecoder> {
        let decoder = Decoder::new(path, &Route::of_rows(table), columns)?;
        Ok(RowDecoder { decoder, captures: Captures::default() })
    }

    /// The names and types that blocks of these columns declare.
    pub fn heads(&self) -> &[(String, String)] {
        self.decoder.heads()
    }

    /// Empty columns to append to.
    pub fn columns(&self) -> Vec<Column> {
        self.decoder.columns()
    }

    /// Appends rows to `columns`, which came from [`RowDecoder::columns`], and gives their number. After an error the columns
    /// are as before. At most [`MAX_ROWS`](crate::decode::MAX_ROWS) at once.
    pub fn append(&mut self, rows: &[u8], columns: &mut [Column]) -> Result<usize, RowError> {
        let RowDecoder { decoder, captures } = self;
        let Some(plan) = decoder.documents.clone() else { return Ok(0) };
        decoder.row.start.note(columns, &decoder.marked);
        decoder.row.message_start = None;
        let message = Message {
            topic: "",
            captures,
            payload: rows,
            qos: 0,
            retain: false,
            received_at: SystemTime::UNIX_EPOCH,
            client_id: "",
            properties: Properties::NONE,
        };
        decoder
            .append_rows(&plan, &message, columns)
            .map_err(|error| RowError { reason: decoder.refuse(error.reason, &message, columns), ..error })
    }

    /// The names of columns for which, since the last call, a time was cut for the first time because it had more digits
    /// than the column keeps.
    pub fn take_truncated_times(&mut self) -> Vec<&str> {
        self.decoder.take_truncated_times()
    }
}

impl Decoder {
    /// Appends the rows that are the payload. After an error those before the row at fault are still there.
    pub(super) fn append_rows(
        &mut self,
        plan: &DocumentPlan,
        message: &Message<'_>,
        columns: &mut [Column],
    ) -> Result<usize, RowError> {
        // A program may repeat in each row what it likes.
        let mut rows = Rows { count: 0, limit: Some(usize::MAX), max_bytes: usize::MAX };
        let mut bytes = Bytes::new(message.payload, "CBOR");
        let mut tape = Tape::default();
        let mut row = 0;
        while bytes.left() > 0 {
            let appended = cbor::read_next(&mut bytes, &mut tape).and_then(|()| match tape.value(0) {
                Value::Object { .. } => self.tape_document(plan, &tape, 0, message, columns, &mut rows),
                _ => Err(Box::new(Reason::new(Code::NotAnObject, "it must be an object"))),
            });
            appended.map_err(|reason| RowError { row, reason: *reason })?;
            row += 1;
        }
        Ok(row)
    }
}
