//! Rows on their way into one INSERT.
//!
//! A batch keeps, beside its columns, the messages they came from: should ClickHouse refuse the rows, the dead letters
//! hold the bytes as they arrived. It also carries the acknowledgements it owes and when its messages came.

use std::time::{Instant, SystemTime};

use crate::columns::Column;
use crate::intake::Now;
use crate::ledger::Group;
use crate::mqtt::Owed;

#[derive(Debug)]
pub struct Batch {
    pub group: Group,
    pub route: usize,
    /// The connection to which acknowledgements are owed.
    pub connection: usize,
    pub columns: Vec<Column>,
    pub messages: Messages,
    pub owed: Owed,
    pub opened_at: Instant,
    /// What of [`Batch::bytes`] the memory ceiling knows of.
    pub counted_bytes: usize,
}

impl Batch {
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Column::rows)
    }

    /// Bytes of the columns: what `batch.maxBytes` limits.
    pub fn column_bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// All it holds: what the memory ceiling counts.
    pub fn bytes(&self) -> usize {
        self.column_bytes() + self.messages.bytes()
    }
}

/// Messages as they came, one behind the other.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    arrivals: Vec<(Now, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    topic: u32,
    payload: u32,
}

#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub received_at: SystemTime,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
}

impl Messages {
    /// Room for about as many as `other` has.
    pub fn like(other: &Messages) -> Messages {
        Messages {
            bytes: Vec::with_capacity(other.bytes.len()),
            spans: Vec::with_capacity(other.spans.len()),
            arrivals: Vec::new(),
        }
    }

    #[inline]
    pub fn push(&mut self, received_at: Now, topic: &[u8], payload: &[u8]) {
        self.bytes.extend_from_slice(topic);
        self.bytes.extend_from_slice(payload);
        // A packet has at most 256 MiB.
        self.spans.push(Span { topic: topic.len() as u32, payload: payload.len() as u32 });
        match self.arrivals.last_mut() {
            Some((at, count)) if *at == received_at => *count += 1,
            _ => self.arrivals.push((received_at, 1)),
        }
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
            + size_of::<Span>() * self.spans.len()
            + size_of::<(Now, u32)>() * self.arrivals.len()
    }

    /// When messages came, and how many at once.
    pub fn arrivals(&self) -> &[(Now, u32)] {
        &self.arrivals
    }

    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        let times =
            self.arrivals.iter().flat_map(|(at, count)| std::iter::repeat_n(at.system, *count as usize));
        let mut rest = self.bytes.as_slice();
        self.spans.iter().zip(times).map(move |(span, received_at)| {
            let (topic, tail) = rest.split_at(span.topic as usize);
            let (payload, tail) = tail.split_at(span.payload as usize);
            rest = tail;
            Message { received_at, topic, payload }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went_in() {
        let first = Now::read();
        let second = Now { system: first.system + std::time::Duration::from_millis(1), ..first };
        let mut messages = Messages::default();
        messages.push(first, b"a", b"1");
        messages.push(first, b"b", b"");
        messages.push(second, b"", b"\xff");
        let back: Vec<_> = messages.iter().map(|m| (m.received_at, m.topic, m.payload)).collect();
        assert_eq!(
            back,
            [(first.system, &b"a"[..], &b"1"[..]), (first.system, b"b", b""), (second.system, b"", b"\xff")]
        );
        assert_eq!(messages.arrivals(), [(first, 2), (second, 1)]);
    }
}
