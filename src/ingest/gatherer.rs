//! Messages of one key as one row: `pivot`.
//!
//! A message fills some columns of the open row of its key. The row goes into the batch of its route, with all its messages, when
//! its window ends, when all columns have a value, or when a message brings a value that the row has already: that one opens the
//! next row. Until then its messages are not acknowledged, so that a crash loses none of them, and doubles none: the broker sends
//! them again, and they become the row that they would have been.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::clickhouse::Column;
use crate::config::{Pivot, Route};
use crate::core::ack_history::AckRecord;
use crate::core::clock::ReceiveTime;
use crate::core::error::{Error, Result};
use crate::core::memory_budget::{MemoryBudget, MemoryReservation};
use crate::core::reason::{Code, Reason};
use crate::decode::{ColumnBinding, Decoder, Message};
use crate::ingest::completion::Completion;
use crate::ingest::row_filter::{bytes, no_key};

pub struct Gatherer {
    pivot: Pivot,
    key: Vec<usize>,
    /// The columns that end a row when they come again.
    values: Vec<usize>,
    /// The columns that a row is complete with.
    awaited: Vec<usize>,
    /// The message that was decoded last, as one row.
    scratch: Vec<Column>,
    key_bytes: Vec<u8>,
    rows: HashMap<Box<[u8]>, OpenRow>,
    /// The oldest first. A row that has gone has its place until its window ends.
    order: VecDeque<(Instant, u64, Box<[u8]>)>,
    serial: u64,
    bytes: usize,
    memory: MemoryReservation,
    pub client_id: String,
}

/// A row that waits for values.
pub struct OpenRow {
    opened_at: Instant,
    serial: u64,
    /// By binding: columns of one row.
    pub values: Vec<Option<Column>>,
    /// How many columns it waits for.
    missing: usize,
    pub messages: Vec<PartMessage>,
    pub completion: Completion,
    bytes: usize,
}

/// A message of an open row.
pub struct PartMessage {
    pub received: ReceiveTime,
    pub topic: Box<[u8]>,
    pub payload: Box<[u8]>,
    pub qos: u8,
    pub retain: bool,
    /// Not set where it was acknowledged before.
    pub sequence: Option<u64>,
    /// With its sequence number: receipts are kept in the order of these.
    pub receipt: Option<(u64, AckRecord)>,
}

/// The result of a message.
pub enum Part {
    /// It belongs to an open row.
    Taken,
    /// It has a value for no column.
    Nothing,
    /// `where` excludes it.
    Excluded,
}

/// The place of a key among the columns, and what else is asked of a route.
struct Places {
    key: Vec<usize>,
    values: Vec<usize>,
    awaited: Vec<usize>,
}

impl Places {
    fn of(pivot: &Pivot, route: &Route, decoder: &Decoder) -> Result<Places> {
        let find = |(i, name): (usize, &String)| {
            let path = || format!("{}.pivot.key[{i}]", route.path);
            let place = decoder.bindings().iter().position(|binding| binding.name() == name);
            let Some(at) = place else {
                return Err(Error::ColumnNotFound {
                    path: path(),
                    column: name.clone(),
                    table: route.table.clone(),
                });
            };
            let binding: &ColumnBinding = &decoder.bindings()[at];
            match no_key(binding) {
                None => Ok(at),
                Some(advice) => Err(Error::ColumnUnsupported {
                    path: path(),
                    column: name.clone(),
                    column_type: binding.column_type().inner_name.clone(),
                    advice: advice.into(),
                }),
            }
        };
        let key = pivot.key.iter().enumerate().map(find).collect::<Result<Vec<_>>>()?;
        let values: Vec<usize> = decoder.payload_columns().filter(|at| !key.contains(at)).collect();
        let awaited = values.iter().copied().filter(|at| !decoder.bindings()[*at].has_default()).collect();
        Ok(Places { key, values, awaited })
    }
}

/// Whether messages can be gathered for a table. Errors name the option.
pub fn check(route: &Route, decoder: &Decoder) -> Result<()> {
    route.pivot.as_ref().map_or(Ok(()), |pivot| Places::of(pivot, route, decoder).map(|_| ()))
}

impl Gatherer {
    /// `None`: the route gathers nothing. The decoder becomes one of parts. The plan was checked, so that it cannot fail.
    pub fn of(route: &Route, decoder: &mut Decoder) -> Option<Box<Gatherer>> {
        let pivot = route.pivot.clone()?;
        let Places { key, values, awaited } = Places::of(&pivot, route, decoder).ok()?;
        decoder.read_parts();
        Some(Box::new(Gatherer {
            pivot,
            key,
            values,
            awaited,
            scratch: decoder.columns(),
            key_bytes: Vec::new(),
            rows: HashMap::new(),
            order: VecDeque::new(),
            serial: 0,
            bytes: 0,
            // Replaced before anything is counted.
            memory: MemoryReservation::new(&Arc::default()),
            client_id: String::new(),
        }))
    }

    /// The key of the message that was decoded last.
    pub fn key(&self) -> &[u8] {
        &self.key_bytes
    }

    pub fn has_open_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Decodes a message as a part of a row, and notes its key.
    pub fn decode(
        &mut self,
        decoder: &mut Decoder,
        message: &Message<'_>,
    ) -> std::result::Result<Part, Reason> {
        self.scratch.iter_mut().for_each(Column::clear);
        let rows = decoder.append(message, &mut self.scratch)?;
        match rows {
            0 => return Ok(if decoder.has_excluded() { Part::Excluded } else { Part::Nothing }),
            1 => {}
            _ => {
                let message =
                    "a route with pivot takes one value or one object per message, and this has several";
                return Err(Reason::new(Code::NotAnObject, message));
            }
        }
        if !self.values.iter().any(|at| decoder.has_value(*at)) {
            return Ok(Part::Nothing);
        }
        self.key_bytes.clear();
        for at in &self.key {
            let value = if decoder.has_value(*at) { bytes(&self.scratch[*at], 0, 0) } else { None };
            let Some(value) = value else {
                let message = "is the key of pivot and missing";
                return Err(Reason::new(Code::FieldMissing, message).about(decoder.bindings()[*at].name()));
            };
            self.key_bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            self.key_bytes.extend_from_slice(value);
        }
        Ok(Part::Taken)
    }

    /// The open row of the key that was noted, if the message cannot be a part of it.
    pub fn take_ended(&mut self, decoder: &Decoder, now: Instant) -> Option<OpenRow> {
        let row = self.rows.get(&self.key_bytes[..])?;
        let is_over = now.saturating_duration_since(row.opened_at) >= self.pivot.window;
        let repeats = |at: &usize| row.values[*at].is_some() && decoder.has_value(*at);
        if is_over || (!self.pivot.replaces && self.values.iter().any(repeats)) {
            return self.remove_noted();
        }
        None
    }

    fn remove_noted(&mut self) -> Option<OpenRow> {
        let row = self.rows.remove(&self.key_bytes[..])?;
        self.forget(&row);
        Some(row)
    }

    fn forget(&mut self, row: &OpenRow) {
        self.bytes -= row.bytes;
        self.pivot.counters.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes the message that was decoded a part of the row of its key; gives the row if it is complete now. `open` begins the
    /// completion of a new row.
    pub fn add(
        &mut self,
        decoder: &Decoder,
        message: PartMessage,
        now: Instant,
        open: impl FnOnce() -> Completion,
    ) -> Option<OpenRow> {
        let Gatherer { rows, key_bytes, order, serial, awaited, scratch, pivot, .. } = self;
        if !rows.contains_key(&key_bytes[..]) {
            *serial += 1;
            let key: Box<[u8]> = key_bytes[..].into();
            let bytes = size_of::<OpenRow>()
                + size_of::<Option<Column>>() * scratch.len()
                + 2 * (key.len() + size_of::<(Instant, u64, Box<[u8]>)>());
            order.push_back((now, *serial, key.clone()));
            pivot.counters.open.fetch_add(1, Ordering::Relaxed);
            self.bytes += bytes;
            let row = OpenRow {
                opened_at: now,
                serial: *serial,
                values: decoder.bindings().iter().map(|_| None).collect(),
                missing: awaited.len(),
                messages: Vec::new(),
                completion: open(),
                bytes,
            };
            rows.insert(key, row);
        }
        let row = rows.get_mut(&key_bytes[..])?;
        let before = row.bytes;
        for (at, value) in row.values.iter_mut().enumerate() {
            // The time of receipt, and all else that is not in the payload, is that of the first message.
            let is_wanted = value.is_none() || (pivot.replaces && self.values.contains(&at));
            if decoder.has_value(at) && is_wanted {
                if value.is_none() && awaited.contains(&at) {
                    row.missing -= 1;
                }
                let mut own = scratch[at].clone_empty();
                own.append_rows(&scratch[at], &[0..1; 1]);
                row.bytes += own.capacity();
                *value = Some(own);
            }
        }
        row.bytes += size_of::<PartMessage>() + message.topic.len() + message.payload.len();
        row.messages.push(message);
        self.bytes += row.bytes - before;
        if row.missing > 0 || awaited.is_empty() {
            return None;
        }
        self.pivot.counters.complete.fetch_add(1, Ordering::Relaxed);
        self.remove_noted()
    }

    /// The oldest row, if its window has ended; `now` is `None`: if there is one.
    pub fn take_due(&mut self, now: Option<Instant>) -> Option<OpenRow> {
        while let Some((opened_at, serial, key)) = self.order.front() {
            let is_there = self.rows.get(key).is_some_and(|row| row.serial == *serial);
            let is_over = |now: Instant| now.saturating_duration_since(*opened_at) >= self.pivot.window;
            if is_there && now.is_some_and(|now| !is_over(now)) {
                return None;
            }
            let row = is_there.then(|| self.rows.remove(key)).flatten();
            self.order.pop_front();
            if let Some(row) = row {
                self.forget(&row);
                return Some(row);
            }
        }
        None
    }

    /// When the window of the oldest row ends.
    pub fn deadline(&self) -> Option<Instant> {
        let is_there = |(_, serial, key): &&(Instant, u64, Box<[u8]>)| {
            self.rows.get(key).is_some_and(|row| row.serial == *serial)
        };
        self.order.iter().find(is_there).map(|(opened_at, ..)| *opened_at + self.pivot.window)
    }

    pub fn count_row(&self) {
        self.pivot.counters.rows.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what the open rows hold towards the memory budget.
    pub fn reserve(&mut self, memory: &Arc<MemoryBudget>) {
        if self.memory.bytes() == 0 {
            self.memory = MemoryReservation::new(memory);
        }
        self.memory.resize(self.bytes);
    }

    /// The broker has another session: what it sends again is not recognised by these.
    pub fn forget_receipts(&mut self) {
        let messages = self.rows.values_mut().flat_map(|row| &mut row.messages);
        messages.for_each(|message| message.receipt = None);
    }
}

impl Drop for Gatherer {
    fn drop(&mut self) {
        self.pivot.counters.open.fetch_sub(self.rows.len() as u64, Ordering::Relaxed);
    }
}
