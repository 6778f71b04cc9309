//! The values of a row that do not come from its payload.

use crate::clickhouse::{Column, Kind};
use crate::config::Meta;
use crate::core::reason::{Code, Reason};
use crate::decode::checkpoint::Checkpoint;
use crate::decode::coerce::{self, Scalar};
use crate::decode::coerce_time;
use crate::decode::format::json::fast_path::{ExpectedMember, KeyOrder};
use crate::decode::lookup_column::LookupColumn;
use crate::decode::value::DecodeContext;
use crate::decode::value_reader::Result;
use crate::decode::{ColumnBinding, Instant, Message, ValueSource};

/// The value of a column that the message lacks.
#[derive(Debug, Clone)]
pub enum MissingPolicy {
    /// The one row of this column: a value non_payload in the configuration.
    Value(Column),
    /// NULL: either the column's own, or the sign for "compute the default".
    Null,
    Zero,
    /// Zero, and the column of its flags says that it means "compute the default".
    Flagged,
    Refused,
}

/// A column that is not filled from the JSON.
#[derive(Debug, Clone)]
pub enum NonPayloadSource {
    /// A named level of the topic, by its place among the captures.
    Topic(usize),
    Meta(Meta),
    UserProperty(String),
    Lookup(Box<LookupColumn>),
    /// The one row of this column.
    Constant(Column),
}

impl NonPayloadSource {
    /// Fills the column of a binding; says whether there was a value. `start` is how far the columns were before the row.
    #[inline]
    pub fn put(
        &self,
        at: usize,
        columns: &mut [Column],
        binding: &ColumnBinding,
        message: &Message<'_>,
        start: &Checkpoint,
    ) -> Result<bool> {
        let column = &mut columns[at];
        let value = match self {
            NonPayloadSource::Lookup(lookup) => return lookup.put(at, columns, binding, message, start),
            NonPayloadSource::Constant(value) => {
                column.append(value);
                return Ok(true);
            }
            NonPayloadSource::Meta(Meta::ReceivedAt) => {
                let received_at = Instant::from_system(message.received_at);
                match &binding.column_type.kind {
                    Kind::Int { .. } => {
                        let millis = received_at.ticks(3).unwrap_or(0);
                        column.push_fixed(millis.to_le_bytes());
                    }
                    // A clock has more digits than most columns: cutting them is not reported.
                    kind => {
                        coerce_time::put_instant(column, kind, received_at, &mut false).ok_or_else(|| {
                            Box::new(
                                Reason::new(Code::OutOfRange, "the clock is out of its range")
                                    .about(&binding.name),
                            )
                        })?
                    }
                }
                return Ok(true);
            }
            NonPayloadSource::Meta(Meta::Payload) => {
                // As it came, whether it is UTF-8 or not: a ClickHouse String is bytes.
                column.push_string(message.payload);
                return Ok(true);
            }
            NonPayloadSource::Topic(index) => {
                let level = message.captures.get(*index, message.topic);
                if matches!(binding.column_type.kind, Kind::String) {
                    column.push_string(level.as_bytes());
                    return Ok(true);
                }
                Scalar::Text(level)
            }
            NonPayloadSource::Meta(Meta::Topic) => Scalar::Text(message.topic),
            NonPayloadSource::Meta(Meta::ClientId) => Scalar::Text(message.client_id),
            NonPayloadSource::Meta(Meta::Qos) => Scalar::Text(["0", "1", "2"][message.qos.min(2) as usize]),
            NonPayloadSource::Meta(Meta::Retain) => Scalar::Bool(message.retain),
            NonPayloadSource::UserProperty(key) => match message.properties.user(key) {
                Some(value) => Scalar::Text(value),
                None => return Ok(false),
            },
        };
        let mut context = DecodeContext { unit: binding.unit, ..DecodeContext::default() };
        coerce::put(column, &binding.column_type.kind, value, &mut context)
            .map_err(|reason| Box::new(reason.about(&binding.name)))?;
        Ok(true)
    }
}

impl ColumnBinding {
    /// Fills the column where the message has nothing for it.
    #[inline]
    pub fn fill_missing(&self, column: &mut Column) -> Result<()> {
        match &self.missing {
            MissingPolicy::Null => column.push_null(),
            MissingPolicy::Value(value) => column.append(value),
            MissingPolicy::Zero | MissingPolicy::Flagged => column.push_zero(),
            MissingPolicy::Refused => {
                let reason = match &self.source {
                    ValueSource::Lookup { name, .. } => {
                        let message = format!("is required, and the lookup {name} has nothing for it");
                        Reason::new(Code::FieldMissing, message)
                    }
                    _ => Reason::new(Code::FieldMissing, "is required and missing"),
                };
                return Err(Box::new(reason.about(&self.name)));
            }
        }
        Ok(())
    }
}

/// The columns left to fill after exactly the first `n` expected members: known from the last such
/// message, not searched in each.
#[derive(Debug, Default, Clone)]
pub struct RowCompletion {
    is_known: bool,
    /// How often the order of the members had changed by then.
    changes: u64,
    missing: Vec<usize>,
}

impl RowCompletion {
    /// Fills the rest of a row whose first `members` are read.
    #[inline]
    #[allow(clippy::too_many_arguments, reason = "one call of its own for each row")]
    pub fn finish(
        &mut self,
        bindings: &[ColumnBinding],
        non_payload: &[(usize, NonPayloadSource)],
        key_order: &KeyOrder,
        members: usize,
        message: &Message<'_>,
        columns: &mut [Column],
        start: &Checkpoint,
    ) -> Result<()> {
        if !self.is_known || self.changes != key_order.changes() {
            self.learn(bindings.len(), non_payload, key_order, members);
        }
        for (at, non_payload) in non_payload {
            if !non_payload.put(*at, columns, &bindings[*at], message, start)? {
                bindings[*at].fill_missing(&mut columns[*at])?;
            }
        }
        self.missing.iter().try_for_each(|at| bindings[*at].fill_missing(&mut columns[*at]))
    }

    #[cold]
    fn learn(
        &mut self,
        bindings: usize,
        non_payload: &[(usize, NonPayloadSource)],
        key_order: &KeyOrder,
        members: usize,
    ) {
        let read = &key_order.as_slice()[..members];
        let is_filled = |binding: &usize| {
            non_payload.iter().any(|(at, _)| at == binding)
                || read.iter().filter_map(ExpectedMember::binding).any(|at| at == *binding)
        };
        self.missing.clear();
        self.missing.extend((0..bindings).filter(|binding| !is_filled(binding)));
        (self.is_known, self.changes) = (true, key_order.changes());
    }
}
