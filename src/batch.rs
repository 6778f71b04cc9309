//! Rows on their way into one INSERT.
//!
//! A batch keeps, beside its columns, the messages they came from: should the table change, they are decoded again, and
//! should ClickHouse refuse rows, the dead letters hold the bytes as they arrived. It also carries the acknowledgements
//! it owes and when its messages came.

use std::sync::Arc;
use std::time::Instant;

use crate::columns::Column;
use crate::intake::Now;
use crate::ledger::Group;
use crate::mqtt::{Acknowledged, Owed, Properties};
use crate::plans::Plan;
use crate::spares;
use crate::spool::Ticket;
use crate::trace::Trace;

#[derive(Debug)]
pub struct Batch {
    pub group: Group,
    pub route: usize,
    /// The connection to which acknowledgements are owed.
    pub connection: usize,
    /// Under which the connection was known when the batch was opened.
    pub client_id: String,
    /// What the columns were made for.
    pub plan: Arc<Plan>,
    pub columns: Vec<Column>,
    pub messages: Messages,
    pub owed: Owed,
    /// Of its messages, where a spool keeps them.
    pub receipts: Acknowledged,
    pub opened_at: Instant,
    /// What of [`Batch::bytes`] the memory ceiling knows of.
    pub counted_bytes: usize,
    /// Of the spool's INSERT whose messages these are.
    pub ticket: Option<Ticket>,
    /// Counts it among the batches of its lane that are open or wait, until a worker takes it.
    pub place: Option<Arc<()>>,
    /// If it is sampled.
    pub trace: Option<Box<Trace>>,
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

/// What lies in `bytes` for one message: topic, properties, payload.
#[derive(Debug, Clone, Copy)]
struct Span {
    payload: u32,
    properties: u32,
    topic: u16,
    qos: u8,
    retain: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub received: Now,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub properties: Properties<'a>,
}

impl Messages {
    /// Takes all away and keeps the room for as many.
    pub fn clear(&mut self) {
        spares::empty(&mut self.bytes);
        spares::empty(&mut self.spans);
        spares::empty(&mut self.arrivals);
    }

    #[inline]
    pub fn push(&mut self, message: &Message<'_>) {
        let Message { received, topic, payload, qos, retain, properties } = *message;
        self.bytes.extend_from_slice(topic);
        if !properties.as_bytes().is_empty() {
            self.bytes.extend_from_slice(properties.as_bytes());
        }
        self.bytes.extend_from_slice(payload);
        // A topic has at most 64 KiB and a packet 256 MiB.
        self.spans.push(Span {
            payload: payload.len() as u32,
            properties: properties.as_bytes().len() as u32,
            topic: topic.len() as u16,
            qos,
            retain,
        });
        match self.arrivals.last_mut() {
            Some((at, count)) if at.instant == received.instant => *count += 1,
            _ => self.arrivals.push((received, 1)),
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
        let times = self.arrivals.iter().flat_map(|(at, count)| std::iter::repeat_n(*at, *count as usize));
        let mut rest = self.bytes.as_slice();
        let mut take = move |len: usize| {
            let (head, tail) = rest.split_at(len);
            rest = tail;
            head
        };
        self.spans.iter().zip(times).map(move |(span, received)| Message {
            received,
            topic: take(span.topic as usize),
            properties: Properties::checked(take(span.properties as usize)),
            payload: take(span.payload as usize),
            qos: span.qos,
            retain: span.retain,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_come_back_as_they_went_in() {
        let first = Now::read();
        let second = Now { instant: first.instant + Duration::from_millis(1), ..first };
        let message = |received, topic, payload, properties, qos, retain| Message {
            received,
            topic,
            payload,
            qos,
            retain,
            properties: Properties::checked(properties),
        };
        let sent = [
            message(first, b"a", b"1", b"", 0, false),
            message(first, b"b", b"", b"\x01\x01", 1, true),
            message(second, b"", b"\xff", b"", 1, false),
        ];
        let mut messages = Messages::default();
        for message in &sent {
            messages.push(message);
        }
        assert_eq!(messages.len(), 3);
        for (back, sent) in messages.iter().zip(&sent) {
            assert_eq!(back.received.instant, sent.received.instant);
            assert_eq!((back.topic, back.payload), (sent.topic, sent.payload));
            assert_eq!((back.qos, back.retain), (sent.qos, sent.retain));
            assert_eq!(back.properties.as_bytes(), sent.properties.as_bytes());
        }
    }
}
