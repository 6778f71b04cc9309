//! Payload bytes into columns.
//!
//! A [`Decoder`] is made once per route from its mapping and the table's columns; [`Decoder::append`] then adds the rows
//! of one message: mostly one. They are appended whole or not at all: whatever fails, every column is cut back to
//! where it was.
//!
//! ```text
//! binding      a mapping and a table → what goes where, before the first message
//! format       a payload's bytes → values; json has a lexer and a fast path
//! path_tree    which value goes where      time     texts and numbers → points in time
//! value        any value → any column      coerce   a scalar → a column
//! non_payload  what a row gets that is not in the payload
//! number       digits → integers, floats, decimals
//! ```

mod binding;
mod coerce;
mod fill;
mod format;
mod non_payload;
mod number;
mod path_tree;
mod time;
mod value;

pub use time::Instant;

use std::time::SystemTime;

use crate::clickhouse::schema::TableColumn;
use crate::clickhouse::{Column, ColumnType};
use crate::config::Unit;
use crate::core::mqtt_property::Properties;
use crate::core::reason::{Code, Reason};
use crate::core::topic_filter::Captures;
use fill::{Filled, Unmarked};
use format::json::fast_path::{self, Run, Step};
use format::json::lexer::{self, Reader};
use non_payload::{Ending, Given, Missing};
use number::Guarded;
use path_tree::{Node, Row};
use value::{Manner, Quick};

impl TableColumn {
    /// The column of a block that says for which rows the default is to be computed. NULL says it by itself, where the
    /// type knows NULL. No column of the `table` has this name.
    pub fn missing_flag(&self, table: &[TableColumn]) -> Option<String> {
        if !self.is_flagged() {
            return None;
        }
        let mut prefix = "missing ".to_string();
        while table.iter().any(|column| column.name.starts_with(&prefix)) {
            prefix.push(' ');
        }
        Some(prefix + &self.name)
    }

    /// Whether it has a [`TableColumn::missing_flag`].
    pub fn is_flagged(&self) -> bool {
        self.default.is_some() && !self.column_type.kind.can_be_null()
    }
}

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
pub const MOST_ROWS: usize = 100_000;
/// What the rows of one message may take: fields outside of `rows` are repeated in each row, and a small message must not
/// become gigabytes.
const MOST_GROWTH: usize = 64;
const LEAST_LIMIT: usize = 1 << 20;

/// A column as the decoder fills it.
#[derive(Debug, Clone)]
pub struct Slot {
    name: String,
    column_type: ColumnType,
    unit: Unit,
    quick: Quick,
    missing: Missing,
    /// Where the column's lengths begin in a [`Start`].
    lengths: usize,
}

#[derive(Debug, Clone)]
pub struct Decoder {
    slots: Vec<Slot>,
    /// Name and type of each column as a block declares it: those of the slots, then the flags.
    heads: Vec<(String, String)>,
    columns: Vec<Column>,
    given: Vec<(usize, Given)>,
    /// The places of what a row is made of: the document, or an item of its list of rows.
    root: Node,
    /// With `rows`: the places in the document around them.
    around: Option<Node>,
    /// The columns of which [`Start`] notes how far they are.
    marked: Vec<usize>,
    /// The columns of each Nested: ClickHouse refuses arrays of different lengths there.
    nested: Vec<Vec<usize>>,
    /// Without a column that is filled from it, the payload need not be JSON.
    reads_json: bool,
    /// Whether a row is one object, and its members alone are wanted: the usual case.
    is_plain: bool,
    /// By the number of usual members; none where a row is more than its own columns.
    endings: Vec<Ending>,
    row: Scratch,
}

/// What is used for each row again.
#[derive(Debug, Clone, Default)]
struct Scratch {
    filled: Filled,
    /// Where the values around the rows are. The last is the list of rows itself.
    places: Vec<Option<usize>>,
    /// How far the columns were before the row; and before the message, once it has a second row.
    start: Start,
    message_start: Option<Start>,
    serial: u64,
    manner: Manner,
    cut: Vec<usize>,
    was_cut: Vec<bool>,
}

/// How far columns of as many rows are.
#[derive(Debug, Clone, Default)]
pub struct Start {
    rows: usize,
    lengths: Vec<usize>,
}

impl Start {
    /// Only the `marked` columns are more than their number of rows says.
    #[inline]
    fn note(&mut self, columns: &[Column], marked: &[usize]) {
        self.rows = columns.first().map_or(0, Column::rows);
        self.lengths.clear();
        marked.iter().for_each(|at| columns[*at].mark_row(&mut self.lengths));
    }

    #[cold]
    fn go_back(&self, columns: &mut [Column]) {
        let mut lengths = self.lengths.as_slice();
        columns.iter_mut().for_each(|column| column.rewind_row(self.rows, &mut lengths));
    }

    /// The same for the column of one slot.
    #[cold]
    fn take_back(&self, column: &mut Column, slot: &Slot) {
        column.rewind_row(self.rows, &mut &self.lengths[slot.lengths..]);
    }
}

impl Decoder {
    /// What it fills: the name and type of each column, and whether a message must have a value for it.
    pub fn wants(&self) -> impl Iterator<Item = (&str, &ColumnType, bool)> {
        self.slots
            .iter()
            .map(|slot| (slot.name.as_str(), &slot.column_type, matches!(slot.missing, Missing::Refused)))
    }

    /// The names and types that blocks of these columns declare.
    pub fn heads(&self) -> &[(String, String)] {
        &self.heads
    }

    /// Empty columns to append to.
    pub fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    /// Whether [`Decoder::take_cut`] may have something to tell.
    #[inline]
    pub fn has_cut(&self) -> bool {
        !self.row.cut.is_empty()
    }

    /// The names of columns for which, since the last call, a time was cut for the first time because it had more
    /// digits than the column keeps.
    pub fn take_cut(&mut self) -> Vec<&str> {
        let Scratch { cut, was_cut, .. } = &mut self.row;
        let fresh = cut.drain(..).filter(|slot| !std::mem::replace(&mut was_cut[*slot], true));
        fresh.map(|slot| self.slots[slot].name.as_str()).collect()
    }

    /// Appends the rows of a message to `columns`, which came from [`Decoder::columns`], and gives their number. After an
    /// error the columns are as before.
    #[inline]
    pub fn append(&mut self, message: &Message<'_>, columns: &mut [Column]) -> Result<usize, Reason> {
        self.row.start.note(columns, &self.marked);
        self.row.message_start = None;
        let filled = if self.is_plain { self.plain(message, columns) } else { self.fill(message, columns) };
        filled.map_err(|reason| {
            let Scratch { message_start, start, .. } = &self.row;
            message_start.as_ref().unwrap_or(start).go_back(columns);
            *reason
        })
    }

    /// The same as [`Decoder::fill`], sooner, for a payload that is one object with nothing around it.
    #[inline(always)]
    fn plain(&mut self, message: &Message<'_>, columns: &mut [Column]) -> lexer::Result<usize> {
        let Some(bytes) = Guarded::new(message.payload) else { return self.fill(message, columns) };
        // Each step fills another column.
        let steps = self.root.steps();
        let run = fast_path::members(steps.as_slice(), bytes, 0, b'{', columns, &mut Unmarked);
        if run.is_key || run.members == 0 || message.payload[run.end..] != *b"}" {
            return self.plain_rest(run, message, columns);
        }
        match self.endings.get_mut(run.members) {
            Some(ending) => ending.finish(&self.slots, &self.given, steps, run.members, message, columns)?,
            None => {
                self.mark(run.members);
                self.finish(message, columns)?;
            }
        }
        Ok(1)
    }

    /// Begins a row of which so many usual members are read.
    fn mark(&mut self, members: usize) {
        self.row.serial += 1;
        self.row.filled.begin(self.row.serial);
        let filled = self.root.steps().as_slice()[..members].iter().filter_map(Step::slot);
        filled.for_each(|slot| self.row.filled.add(slot));
    }

    /// Reads on where the members are no longer what is usual.
    #[inline(never)]
    fn plain_rest(
        &mut self,
        run: Run,
        message: &Message<'_>,
        columns: &mut [Column],
    ) -> lexer::Result<usize> {
        if run.members == 0 {
            return self.fill(message, columns);
        }
        self.mark(run.members);
        let mut reader = Reader::inside(message.payload, run.end);
        let Scratch { filled, start, serial, manner, cut, .. } = &mut self.row;
        let mut row =
            Row { slots: &self.slots, columns, filled, start, places: None, serial: *serial, manner, cut };
        path_tree::members(&mut self.root, run, &mut reader, &mut row)?;
        self.finish(message, columns)?;
        let mut rows = Rows { count: 1, limit: None };
        match reader.next_document()? {
            true => self.documents(reader, message, columns, &mut rows),
            false => Ok(1),
        }
    }

    #[inline(never)]
    fn fill(&mut self, message: &Message<'_>, columns: &mut [Column]) -> lexer::Result<usize> {
        let mut rows = Rows::default();
        if !self.reads_json {
            self.row(None, None, message, columns, &mut rows)?;
            return Ok(rows.count);
        }
        self.documents(Reader::new(message.payload), message, columns, &mut rows)
    }

    /// The documents from where the reader stands.
    fn documents(
        &mut self,
        mut reader: Reader<'_>,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> lexer::Result<usize> {
        loop {
            let document = self.around.as_ref().unwrap_or(&self.root);
            match reader.peek()? {
                b'[' if !document.takes_lists() => {
                    reader.enter()?;
                    let mut is_first = true;
                    while reader.next_item(is_first)? {
                        is_first = false;
                        self.document(&mut reader, message, columns, rows)?;
                    }
                }
                _ => self.document(&mut reader, message, columns, rows)?,
            }
            if !reader.next_document()? {
                return Ok(rows.count);
            }
        }
    }

    /// The rows of one document.
    fn document(
        &mut self,
        reader: &mut Reader<'_>,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> lexer::Result<()> {
        let first = reader.peek()?;
        let document = self.around.as_ref().unwrap_or(&self.root);
        if first != b'{' && !document.takes_all() && !(first == b'[' && document.takes_lists()) {
            // What is no JSON is told as such first of all.
            reader.skip()?;
            let message = "the payload is not an object, nor a list of objects";
            return Err(Box::new(Reason::new(Code::NotAnObject, message)));
        }
        let Some(around) = &mut self.around else {
            return self.row(Some(reader), None, message, columns, rows);
        };
        let Scratch { filled, places, serial, manner, cut, start, .. } = &mut self.row;
        places.fill(None);
        *serial += 1;
        let mut outer = Row {
            slots: &self.slots,
            columns,
            filled,
            start,
            places: Some(places),
            serial: *serial,
            manner,
            cut,
        };
        path_tree::read(around, reader, &mut outer)?;
        let missing = |code, what: &str| Box::new(Reason::new(code, format!("rows: {what}")));
        let Some(list) = self.row.places[self.slots.len()] else {
            return Err(missing(Code::FieldMissing, "the list is missing"));
        };
        let mut items = reader.back_at(list);
        if items.peek()? != b'[' {
            return Err(missing(Code::TypeMismatch, "what stands there is not a list"));
        }
        items.enter()?;
        let mut is_first = true;
        while items.next_item(is_first)? {
            is_first = false;
            let outside = reader.clone();
            self.row(Some(&mut items), Some(&outside), message, columns, rows)?;
        }
        Ok(())
    }

    /// One row: from the value here, from what is around it, and from what is known besides.
    fn row(
        &mut self,
        reader: Option<&mut Reader<'_>>,
        outside: Option<&Reader<'_>>,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> lexer::Result<()> {
        let Scratch { filled, places, message_start, start, serial, manner, cut, .. } = &mut self.row;
        if rows.count > 0 {
            if rows.count == 1 {
                *message_start = Some(start.clone());
            }
            rows.check(columns, message.payload)?;
            start.note(columns, &self.marked);
        }
        rows.count += 1;
        *serial += 1;
        filled.begin(*serial);
        if let Some(reader) = reader {
            let mut row = Row {
                slots: &self.slots,
                columns,
                filled,
                start,
                places: None,
                serial: *serial,
                manner,
                cut,
            };
            path_tree::read(&mut self.root, reader, &mut row)?;
            if let Some(outside) = outside {
                for (slot, place) in places.iter().take(self.slots.len()).enumerate() {
                    if let (false, Some(place)) = (row.filled.has(slot), place) {
                        row.fill(slot, &mut outside.back_at(*place))?;
                    }
                }
            }
        }
        self.finish(message, columns)
    }

    /// The columns of a row that no value of the payload fills.
    #[inline]
    fn finish(&mut self, message: &Message<'_>, columns: &mut [Column]) -> lexer::Result<()> {
        let filled = &mut self.row.filled;
        for (at, given) in &self.given {
            if given.put(&mut columns[*at], &self.slots[*at], message)? {
                filled.add(*at);
            }
        }
        if !filled.is_complete() {
            filled.missing().try_for_each(|at| self.slots[at].supply(&mut columns[at]))?;
        }
        // The columns behind those of the table are the flags.
        if columns.len() > self.slots.len() {
            for (at, slot) in self.slots.iter().enumerate() {
                if let Missing::Flagged(flag) = slot.missing {
                    columns[flag].push_fixed([!filled.has(at) as u8]);
                }
            }
        }
        for group in &self.nested {
            let lengths = |slot: &usize| columns[*slot].last_length();
            if let Some(other) = group.iter().find(|slot| lengths(slot) != lengths(&group[0])) {
                let message = format!("has not as many items as {}", self.slots[group[0]].name);
                let reason = Reason::new(Code::TypeMismatch, message).about(&self.slots[*other].name);
                return Err(Box::new(reason));
            }
        }
        Ok(())
    }
}

/// The rows of a message so far, and how large the columns may become with them.
#[derive(Default)]
struct Rows {
    count: usize,
    limit: Option<usize>,
}

impl Rows {
    /// Before each row but the first.
    fn check(&mut self, columns: &[Column], payload: &[u8]) -> lexer::Result<()> {
        let bytes: usize = columns.iter().map(Column::bytes).sum();
        let limit = *self.limit.get_or_insert(bytes + MOST_GROWTH * payload.len() + LEAST_LIMIT);
        if self.count < MOST_ROWS && bytes <= limit {
            return Ok(());
        }
        let message =
            format!("more than {MOST_ROWS} rows, or rows that are together far larger than the message");
        Err(Box::new(Reason::new(Code::OutOfRange, message)))
    }
}
