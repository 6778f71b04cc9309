//! What a row gets besides the values of its payload.

use crate::clickhouse::{Column, Kind};
use crate::config::Meta;
use crate::core::reason::{Code, Reason};
use crate::decode::coerce::{self, Scalar};
use crate::decode::format::json::fast_path::{Step, Steps};
use crate::decode::format::json::lexer::Result;
use crate::decode::{Instant, Message, Slot};

/// What a row gets where the message has nothing for a column.
#[derive(Debug, Clone)]
pub enum Missing {
    /// The one row of this column: a value given in the configuration.
    Value(Column),
    /// NULL: either the column's own, or the sign for "compute the default".
    Null,
    Zero,
    /// Zero, and the column at this place says that it means "compute the default".
    Flagged(usize),
    Refused,
}

/// A column that is not filled from the JSON.
#[derive(Debug, Clone)]
pub enum Given {
    /// A named level of the topic, by its place among the captures.
    Topic(usize),
    Meta(Meta),
    UserProperty(String),
    /// The one row of this column.
    Constant(Column),
}

impl Given {
    /// Says whether there was a value.
    #[inline]
    pub fn put(&self, column: &mut Column, slot: &Slot, message: &Message<'_>) -> Result<bool> {
        let value = match self {
            Given::Constant(value) => {
                column.append(value);
                return Ok(true);
            }
            Given::Meta(Meta::ReceivedAt) => {
                let received_at = Instant::from_system(message.received_at);
                match &slot.column_type.kind {
                    Kind::Int { .. } => {
                        let millis = received_at.ticks(3).unwrap_or(0);
                        column.push_fixed(millis.to_le_bytes());
                    }
                    // A clock has more digits than most columns: nobody has to be told that they are cut.
                    kind => coerce::put_instant(column, kind, received_at, &mut false).ok_or_else(|| {
                        Box::new(
                            Reason::new(Code::OutOfRange, "the clock is out of its range").about(&slot.name),
                        )
                    })?,
                }
                return Ok(true);
            }
            Given::Meta(Meta::Payload) => {
                // As it came, whether it is UTF-8 or not: a ClickHouse String is bytes.
                column.push_string(message.payload);
                return Ok(true);
            }
            Given::Topic(index) => {
                let level = message.captures.get(*index, message.topic);
                if matches!(slot.column_type.kind, Kind::String) {
                    column.push_string(level.as_bytes());
                    return Ok(true);
                }
                Scalar::Text(level)
            }
            Given::Meta(Meta::Topic) => Scalar::Text(message.topic),
            Given::Meta(Meta::ClientId) => Scalar::Text(message.client_id),
            Given::Meta(Meta::Qos) => Scalar::Text(["0", "1", "2"][message.qos.min(2) as usize]),
            Given::Meta(Meta::Retain) => Scalar::Bool(message.retain),
            Given::UserProperty(key) => match message.properties.user(key) {
                Some(value) => Scalar::Text(value),
                None => return Ok(false),
            },
        };
        coerce::put(column, &slot.column_type.kind, slot.unit, value, &mut false)
            .map_err(|reason| Box::new(reason.about(&slot.name)))?;
        Ok(true)
    }
}

impl Slot {
    /// Fills the column where the message has nothing for it.
    #[inline]
    pub fn supply(&self, column: &mut Column) -> Result<()> {
        match &self.missing {
            Missing::Null => column.push_null(),
            Missing::Value(value) => column.append(value),
            Missing::Zero | Missing::Flagged(_) => column.push_zero(),
            Missing::Refused => {
                let reason = Reason::new(Code::FieldMissing, "is required and missing");
                return Err(Box::new(reason.about(&self.name)));
            }
        }
        Ok(())
    }
}

/// The columns that are left when so many usual members are read and no others: known from the last such message, and not
/// looked for in each.
#[derive(Debug, Default, Clone)]
pub struct Ending {
    is_known: bool,
    /// How often the order of the members had changed by then.
    changes: u64,
    missing: Vec<usize>,
}

impl Ending {
    /// Fills the rest of a row whose first `members` are read.
    #[inline]
    pub fn finish(
        &mut self,
        slots: &[Slot],
        given: &[(usize, Given)],
        steps: &Steps,
        members: usize,
        message: &Message<'_>,
        columns: &mut [Column],
    ) -> Result<()> {
        if !self.is_known || self.changes != steps.changes() {
            self.learn(slots.len(), given, steps, members);
        }
        for (at, given) in given {
            if !given.put(&mut columns[*at], &slots[*at], message)? {
                slots[*at].supply(&mut columns[*at])?;
            }
        }
        self.missing.iter().try_for_each(|at| slots[*at].supply(&mut columns[*at]))
    }

    #[cold]
    fn learn(&mut self, slots: usize, given: &[(usize, Given)], steps: &Steps, members: usize) {
        let read = &steps.as_slice()[..members];
        let is_filled = |slot: &usize| {
            given.iter().any(|(at, _)| at == slot) || read.iter().filter_map(Step::slot).any(|at| at == *slot)
        };
        self.missing.clear();
        self.missing.extend((0..slots).filter(|slot| !is_filled(slot)));
        (self.is_known, self.changes) = (true, steps.changes());
    }
}
