//! Payload bytes into columns.
//!
//! A [`Decoder`] is made once per route from its mapping and the table's columns; [`Decoder::append`] then adds the rows
//! of one message: mostly one. They are appended completely or not at all: after any fault every column
//! is cut back to its length before.
//!
//! ```text
//! binding       a mapping and a table → what goes where, before the first message
//! value_source  where a column's value comes from
//! format        a payload's bytes → values; json has a lexer and a fast path, all others are read onto a tape
//! walk          rows from JSON, walked over; path_tree: which value goes where
//! condition     which rows are wanted at all
//! documents     values on a tape: which value goes where; lookup follows paths, reading changes values first
//! rows          rows that a program gives by the names of columns
//! value         any value → any column; variant and dynamic where the type is open
//! coerce        a scalar → a column          coerce_time, time   texts and numbers → points in time
//! scalar_paths  paths that find nothing because they lead through a text or a number
//! lookup_column  values from a map of the program's, by a key
//! required_paths  required paths that no message has
//! non_payload   what a row gets that is not in the payload
//! parts         rows whose values come in several messages
//! last_message  where the rows of the last message stand in the columns
//! number        digits → integers, floats, decimals                  one_value    a value without a message
//! ```

mod binding;
mod checkpoint;
mod coerce;
mod coerce_time;
mod condition;
mod documents;
mod dynamic;
mod fill;
mod format;
mod known_fields;
mod last_message;
mod lookup;
mod lookup_column;
mod non_payload;
mod number;
mod one_value;
mod parts;
mod path_tree;
mod reading;
mod required_paths;
mod rows;
pub mod sample_rows;
mod scalar_paths;
mod tape;
mod tape_value;
mod time;
mod value;
mod value_reader;
mod value_source;
mod variant;
mod walk;

pub use format::rebirth_command;
pub use one_value::put_value;
pub use rows::{RowDecoder, RowError};
pub use time::Instant;
pub use value_source::ValueSource;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clickhouse::{Column, ColumnType};
use crate::config::{PayloadCompression, Unit};
use crate::core::mqtt_property::Properties;
use crate::core::reason::{Code, Reason};
use crate::core::topic_filter::Captures;
use checkpoint::{Checkpoint, Rows};
use condition::Filter;
use documents::DocumentPlan;
use fill::{Filled, NoTracking};
use format::json::fast_path::{self, ExpectedMember, FastPathRun};
use format::json::lexer::Reader;
use format::unpack;
use non_payload::{MissingPolicy, NonPayloadSource, RowCompletion};
use number::TerminatedBytes;
use path_tree::{PathNode, Row};
use required_paths::RequiredPaths;
use scalar_paths::ScalarPaths;
use value::{DecodeContext, FastKind};
use value_reader::Result;

/// One message as the decoder sees it; everything is borrowed from the read buffer.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub topic: &'a str,
    pub captures: &'a Captures,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub received_at: SystemTime,
    pub client_id: &'a str,
    pub properties: Properties<'a>,
}

/// Rows of one message: with it a batch stays below what one INSERT may have.
pub const MAX_ROWS: usize = 100_000;
/// Limits the rows of one message to this multiple of its payload: fields outside of `rows` are
/// repeated in each row, and a small message must not become gigabytes.
const MAX_GROWTH: usize = 64;
const MIN_GROWTH_LIMIT: usize = 1 << 20;

/// A column as the decoder fills it.
#[derive(Debug, Clone)]
pub struct ColumnBinding {
    name: String,
    column_type: ColumnType,
    unit: Unit,
    fast_kind: FastKind,
    missing: MissingPolicy,
    source: ValueSource,
    /// Where the column's lengths begin in a [`Checkpoint`].
    lengths: usize,
    /// Whether the table has a DEFAULT for it.
    has_default: bool,
    /// The place of the column that says where its DEFAULT is to be computed.
    flag: Option<usize>,
}

impl ColumnBinding {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn column_type(&self) -> &ColumnType {
        &self.column_type
    }

    pub fn source(&self) -> &ValueSource {
        &self.source
    }

    /// Whether the table has a DEFAULT for it.
    pub fn has_default(&self) -> bool {
        self.has_default
    }

    /// Whether a message without a value for it is refused.
    pub fn is_required(&self) -> bool {
        matches!(self.missing, MissingPolicy::Refused)
    }
}

#[derive(Debug, Clone)]
pub struct Decoder {
    bindings: Vec<ColumnBinding>,
    /// Name and type of each column as a block declares it: those of the bindings but the inputs, then the flags.
    heads: Vec<(String, String)>,
    columns: Vec<Column>,
    /// The columns that no block has: their places among the bindings. First what a transform alone reads, then the keys of
    /// lookups.
    inputs: Range<usize>,
    /// The last of these.
    keys: Range<usize>,
    has_lookups: bool,
    non_payload: Vec<(usize, NonPayloadSource)>,
    /// The places of what a row is made of: the document, or an item of its list of rows.
    root: PathNode,
    /// With `rows`: the places in the document around them.
    document_root: Option<PathNode>,
    /// The columns of which [`Checkpoint`] notes how far they are.
    marked: Vec<usize>,
    /// The columns of each Nested: ClickHouse refuses arrays of different lengths there.
    nested: Vec<Vec<usize>>,
    /// Without a column that is filled from it, the payload need not be JSON.
    reads_json: bool,
    /// Whether a row is one object, and its members alone are wanted: the common case.
    is_plain: bool,
    /// By the number of expected members; empty where a row fills more than its own columns.
    row_completions: Vec<RowCompletion>,
    /// Where payloads are read from a tape, and not walked over as JSON.
    documents: Option<Arc<DocumentPlan>>,
    /// Selects the rows that are kept; `None`: all.
    filter: Option<Filter>,
    /// Whether a row may lack any column.
    reads_parts: bool,
    unpacking: Unpacking,
    /// The most that the rows of one message may take.
    max_row_bytes: usize,
    row: Scratch,
}

/// How payloads are compressed.
#[derive(Debug, Clone, Copy, Default)]
struct Unpacking {
    compression: PayloadCompression,
    max_bytes: usize,
    /// Whether an error of JSON may name the format that the payload looks like.
    is_json: bool,
}

/// Buffers that each row uses again.
#[derive(Debug, Clone, Default)]
struct Scratch {
    filled: Filled,
    /// Where the values around the rows are. The last is the list of rows itself.
    places: Vec<Option<usize>>,
    /// How far the columns were before the row; and before the message, once it has a second row.
    start: Checkpoint,
    message_start: Option<Checkpoint>,
    serial: u64,
    context: DecodeContext,
    cut: Vec<usize>,
    was_truncated: Vec<bool>,
    scalars: ScalarPaths,
    required: RequiredPaths,
    /// Whether a row of the message is not wanted.
    has_excluded: bool,
}

impl Decoder {
    /// The columns that it fills, in the order of the table.
    pub fn bindings(&self) -> &[ColumnBinding] {
        &self.bindings
    }

    /// The column of a name, if the decoder fills it.
    pub fn binding(&self, name: &str) -> Option<&ColumnBinding> {
        self.bindings.iter().find(|binding| binding.name == name)
    }

    /// The names and types that blocks of these columns declare.
    pub fn heads(&self) -> &[(String, String)] {
        &self.heads
    }

    /// Empty columns to append to.
    pub fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    /// The bindings that no block has: those that only a transform reads, and the keys of lookups.
    pub fn inputs(&self) -> Range<usize> {
        self.inputs.clone()
    }

    /// The last ones of the inputs: keys of lookups, which not even a transform sees.
    pub fn keys(&self) -> Range<usize> {
        self.keys.clone()
    }

    /// Empty columns of a block.
    pub fn block_columns(&self) -> Vec<Column> {
        let mut columns = self.columns();
        columns.drain(self.inputs());
        columns
    }

    /// Whether [`Decoder::take_truncated_times`] or [`Decoder::take_scalar_paths`] may return
    /// something.
    #[inline]
    pub fn has_findings(&self) -> bool {
        !self.row.cut.is_empty() || self.row.scalars.has_fresh() || !self.row.required.fresh.is_empty()
    }

    /// The names of columns for which, since the last call, a time was cut for the first time because it had more
    /// digits than the column keeps.
    pub fn take_truncated_times(&mut self) -> Vec<&str> {
        let Scratch { cut, was_truncated, .. } = &mut self.row;
        let fresh = cut.drain(..).filter(|binding| !std::mem::replace(&mut was_truncated[*binding], true));
        fresh.map(|binding| self.bindings[binding].name.as_str()).collect()
    }

    /// Whether the last message had rows that `where` excludes. If it has no others, it is not wanted at all.
    #[inline]
    pub fn has_excluded(&self) -> bool {
        self.row.has_excluded
    }

    /// Appends the rows of a message to `columns`, which came from [`Decoder::columns`], and gives their number. After an
    /// error the columns are as before.
    #[inline]
    pub fn append(
        &mut self,
        message: &Message<'_>,
        columns: &mut [Column],
    ) -> std::result::Result<usize, Reason> {
        self.row.start.note(columns, &self.marked);
        self.row.message_start = None;
        if self.has_lookups {
            self.refresh_lookups();
        }
        let filled =
            if self.is_plain { self.plain(message, columns) } else { self.append_any(message, columns) };
        match filled {
            Ok(rows) => {
                self.row.required.is_over |= rows > 0;
                Ok(rows)
            }
            Err(reason) => Err(self.refuse(*reason, message, columns)),
        }
    }

    /// Has lookups read the maps as they are now: all rows of a message the same.
    fn refresh_lookups(&mut self) {
        for (_, source) in &mut self.non_payload {
            if let NonPayloadSource::Lookup(lookup) = source {
                lookup.refresh();
            }
        }
    }

    /// Payloads of any format, compressed or not.
    #[inline(never)]
    fn append_any(&mut self, message: &Message<'_>, columns: &mut [Column]) -> Result<usize> {
        self.row.has_excluded = self.filter.as_ref().is_some_and(|filter| filter.excludes_topic(message));
        if self.row.has_excluded {
            return Ok(0);
        }
        let Unpacking { compression, max_bytes, .. } = self.unpacking;
        let payload = match compression {
            PayloadCompression::None => Cow::Borrowed(message.payload),
            compression => unpack::unpack(message.payload, compression, max_bytes)?,
        };
        let message = &Message { payload: &payload, ..*message };
        match self.documents.clone() {
            Some(plan) if self.reads_json => self.append_documents(&plan, message, columns),
            _ if self.is_walked_plainly() && self.filter.is_none() => self.plain(message, columns),
            _ => self.fill(message, columns),
        }
    }

    /// Takes back what a message left in the columns.
    #[cold]
    fn refuse(&mut self, reason: Reason, message: &Message<'_>, columns: &mut [Column]) -> Reason {
        self.row.scalars.forget();
        self.take_back(columns);
        let advice = match reason.code {
            Code::JsonInvalid if self.unpacking.is_json => unpack::advice(message.payload),
            _ => None,
        };
        match advice {
            Some(advice) => Reason { message: format!("{}; {advice}", reason.message).into(), ..reason },
            None => reason,
        }
    }

    fn is_walked_plainly(&self) -> bool {
        self.documents.is_none()
            && self.document_root.is_none()
            && self.reads_json
            && self.root.takes_members_alone()
    }

    /// The same as [`Decoder::fill`], sooner, for a payload that is one object with nothing around it.
    #[inline(always)]
    fn plain(&mut self, message: &Message<'_>, columns: &mut [Column]) -> Result<usize> {
        let Some(bytes) = TerminatedBytes::new(message.payload) else { return self.fill(message, columns) };
        // Each step fills another column.
        let key_order = self.root.key_order();
        let run = fast_path::members(key_order.as_slice(), bytes, 0, b'{', columns, &mut NoTracking);
        if run.is_key || run.members == 0 || message.payload[run.end..] != *b"}" {
            return self.plain_rest(run, message, columns);
        }
        match self.row_completions.get_mut(run.members) {
            Some(completion) => {
                let (bindings, non_payload) = (&self.bindings, &self.non_payload);
                let (members, start) = (run.members, &self.row.start);
                let done =
                    completion.finish(bindings, non_payload, key_order, members, message, columns, start);
                if let Err(reason) = done {
                    self.mark(run.members);
                    self.note_missing();
                    return Err(reason);
                }
            }
            None => {
                self.mark(run.members);
                self.finish(message, columns)?;
            }
        }
        Ok(1)
    }

    /// Begins a row of which `members` expected members were read.
    fn mark(&mut self, members: usize) {
        self.row.serial += 1;
        self.row.filled.begin(self.row.serial);
        let filled = self.root.key_order().as_slice()[..members].iter().filter_map(ExpectedMember::binding);
        filled.for_each(|binding| self.row.filled.add(binding));
    }

    /// Continues after the first unexpected member.
    #[inline(never)]
    fn plain_rest(
        &mut self,
        run: FastPathRun,
        message: &Message<'_>,
        columns: &mut [Column],
    ) -> Result<usize> {
        if run.members == 0 {
            return self.fill(message, columns);
        }
        self.mark(run.members);
        let mut reader = Reader::inside(message.payload, run.end);
        let Scratch { filled, start, serial, context, cut, scalars, .. } = &mut self.row;
        let mut row = Row {
            bindings: &self.bindings,
            columns,
            filled,
            start,
            places: None,
            serial: *serial,
            context,
            cut,
            scalars,
        };
        path_tree::members(&mut self.root, run, &mut reader, &mut row)?;
        self.finish(message, columns)?;
        let mut rows = Rows { count: 1, limit: None, max_bytes: self.max_row_bytes };
        match reader.next_document()? {
            true => self.documents(reader, message, columns, &mut rows),
            false => Ok(1),
        }
    }

    fn begin_row(&mut self, columns: &[Column], payload: &[u8], rows: &mut Rows) -> Result<()> {
        let Scratch { filled, message_start, start, serial, .. } = &mut self.row;
        if rows.count > 0 {
            if rows.count == 1 {
                *message_start = Some(start.clone());
            }
            rows.check(columns, payload)?;
            start.note(columns, &self.marked);
        }
        rows.count += 1;
        *serial += 1;
        filled.begin(*serial);
        Ok(())
    }

    /// Names the column that a reason is about.
    #[cold]
    fn about(&self, binding: usize, reason: Box<Reason>) -> Box<Reason> {
        match reason.is_broken_payload() || reason.code == Code::UnknownField {
            true => reason,
            false => Box::new(reason.about(&self.bindings[binding].name)),
        }
    }

    /// Notes which columns a row had that lacks a required one. Rows before it had all of them.
    #[cold]
    fn note_missing(&mut self) {
        let Scratch { message_start, filled, required, .. } = &mut self.row;
        required.note(|column| message_start.is_some() || filled.has(column));
    }

    /// The columns of a row that no value of the payload fills.
    #[inline]
    fn finish(&mut self, message: &Message<'_>, columns: &mut [Column]) -> Result<()> {
        let Scratch { filled, start, scalars, .. } = &mut self.row;
        for (at, non_payload) in &self.non_payload {
            if non_payload.put(*at, columns, &self.bindings[*at], message, start)? {
                filled.add(*at);
            }
        }
        if scalars.has_met() {
            scalars.settle(filled);
        }
        if !filled.is_complete() && self.reads_parts {
            filled.missing().for_each(|at| columns[at].push_zero());
        } else if !filled.is_complete() {
            let rest = filled.missing().try_for_each(|at| self.bindings[at].fill_missing(&mut columns[at]));
            if rest.is_err() {
                self.note_missing();
                return rest;
            }
        }
        // The columns behind those of the table are the flags.
        if columns.len() > self.bindings.len() {
            for (at, binding) in self.bindings.iter().enumerate() {
                if let Some(flag) = binding.flag {
                    let is_missing =
                        matches!(binding.missing, MissingPolicy::Flagged) && !self.row.filled.has(at);
                    columns[flag].push_fixed([is_missing as u8]);
                }
            }
        }
        for group in &self.nested {
            let lengths = |binding: &usize| columns[*binding].last_length();
            if let Some(other) = group.iter().find(|binding| lengths(binding) != lengths(&group[0])) {
                let message = format!("has not as many items as {}", self.bindings[group[0]].name);
                let reason = Reason::new(Code::TypeMismatch, message).about(&self.bindings[*other].name);
                return Err(Box::new(reason));
            }
        }
        Ok(())
    }
}
