//! The messages of a batch as they came, one behind the other.

use std::sync::Arc;

use crate::core::chunk_pool::{Piece, Pieces};
use crate::core::clock::Now;
use crate::core::mqtt_property::Properties;

#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub received: Now,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub properties: Properties<'a>,
}

#[derive(Debug)]
pub struct Messages {
    /// A [`Head`] for each message, and behind it its topic, properties and payload. None goes over the end of a piece.
    pieces: Vec<Piece>,
    len: usize,
    bytes: usize,
    arrivals: Vec<(Now, u32)>,
    from: Arc<Pieces>,
}

/// The lengths of what follows, and QoS and retain.
struct Head {
    payload: u32,
    properties: u32,
    topic: u16,
    qos: u8,
    retain: bool,
}

impl Messages {
    /// Without any; its memory is taken from there.
    pub fn new(from: Arc<Pieces>) -> Messages {
        Messages { pieces: Vec::new(), len: 0, bytes: 0, arrivals: Vec::new(), from }
    }

    #[inline]
    pub fn push(&mut self, message: &Message<'_>) {
        let Message { received, topic, payload, qos, retain, properties } = *message;
        let properties = properties.as_bytes();
        // A topic has at most 64 KiB and a packet 256 MiB.
        let head = Head {
            payload: payload.len() as u32,
            properties: properties.len() as u32,
            topic: topic.len() as u16,
            qos,
            retain,
        };
        let bytes = Head::BYTES + topic.len() + properties.len() + payload.len();
        let piece = match self.pieces.last_mut() {
            Some(piece) if piece.room() >= bytes => piece,
            _ => add_piece(&mut self.pieces, &self.from, bytes),
        };
        piece.append([&head.to_bytes(), topic, properties, payload]);
        self.len += 1;
        self.bytes += bytes;
        match self.arrivals.last_mut() {
            Some((at, count)) if at.instant == received.instant => *count += 1,
            _ => self.arrivals.push((received, 1)),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes + size_of::<(Now, u32)>() * self.arrivals.len()
    }

    /// When messages came, and how many at once.
    pub fn arrivals(&self) -> &[(Now, u32)] {
        &self.arrivals
    }

    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        let times = self.arrivals.iter().flat_map(|(at, count)| std::iter::repeat_n(*at, *count as usize));
        let mut pieces = self.pieces.iter();
        let mut rest = Rest(&[]);
        times.map(move |received| {
            if rest.0.is_empty() {
                rest = Rest(pieces.next().map_or(&[], Piece::bytes));
            }
            let head = Head::from_bytes(rest.take(Head::BYTES));
            Message {
                received,
                topic: rest.take(head.topic as usize),
                properties: Properties::checked(rest.take(head.properties as usize)),
                payload: rest.take(head.payload as usize),
                qos: head.qos,
                retain: head.retain,
            }
        })
    }
}

impl Default for Messages {
    fn default() -> Self {
        Messages::new(Arc::default())
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.from.give(std::mem::take(&mut self.pieces));
    }
}

#[cold]
fn add_piece<'p>(pieces: &'p mut Vec<Piece>, from: &Pieces, bytes: usize) -> &'p mut Piece {
    pieces.push(from.take(bytes, pieces.len()));
    pieces.last_mut().expect("it has just been pushed")
}

/// What is not read yet of a piece.
struct Rest<'p>(&'p [u8]);

impl<'p> Rest<'p> {
    fn take(&mut self, bytes: usize) -> &'p [u8] {
        let (head, tail) = self.0.split_at(bytes);
        self.0 = tail;
        head
    }
}

impl Head {
    const BYTES: usize = 12;

    fn to_bytes(&self) -> [u8; Head::BYTES] {
        let mut bytes = [0; Head::BYTES];
        bytes[..4].copy_from_slice(&self.payload.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.properties.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.topic.to_le_bytes());
        bytes[10] = self.qos;
        bytes[11] = u8::from(self.retain);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Head {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Head {
            payload: number(0),
            properties: number(4),
            topic: u16::from_le_bytes([bytes[8], bytes[9]]),
            qos: bytes[10],
            retain: bytes[11] != 0,
        }
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

    #[test]
    fn no_message_goes_over_the_end_of_a_piece() {
        let pieces = Arc::new(Pieces::default());
        let received = Now::read();
        let sizes = [0, 1, 100_000, 300_000, 0, 200_000, 200_000, 70_000, 1_000_000, 3];
        for _ in 0..2 {
            let mut messages = Messages::new(pieces.clone());
            for (i, size) in sizes.into_iter().enumerate() {
                let payload = vec![i as u8; size];
                let (topic, properties) = (b"t".as_slice(), Properties::NONE);
                messages.push(&Message {
                    received,
                    topic,
                    payload: &payload,
                    qos: 0,
                    retain: false,
                    properties,
                });
            }
            assert_eq!(messages.iter().count(), sizes.len());
            for (i, (message, size)) in messages.iter().zip(sizes).enumerate() {
                assert_eq!(message.payload.len(), size);
                assert!(message.payload.iter().all(|byte| *byte == i as u8));
            }
            let bytes: usize = sizes.iter().map(|size| size + 1 + Head::BYTES).sum();
            assert_eq!(messages.bytes(), bytes + size_of::<(Now, u32)>());
        }
    }
}
