//! The messages that were acknowledged last. An acknowledgement can be lost with a connection, or with this process: then the
//! broker sends its message again, with DUP and under the same packet id.
//!
//! Packet id and checksum alone do not tell such a message from a later one with the same content that was given the same
//! packet id: taking that for the earlier one would lose it. So a message is only recognised where this cannot be:
//!
//! - Most brokers count packet ids up: then one comes again after 65,535 messages, when this memory has long forgotten it.
//!   Others give an id again as soon as it is free. Which it is shows in the ids: only where the last [`LEAST`] or more were
//!   all different, the newer half of these is recognised.
//! - Content that stands here twice is not recognised: it may be a device that always says the same.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::core::backoff::random_bits;

const MOST: usize = 32_768;
/// More than the broker may have in flight, mostly: otherwise one that gives free ids again would not show it.
const LEAST: usize = 1_000;

/// A message of QoS 1 or 2 as the broker would send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub packet_id: u16,
    pub qos: u8,
    /// Of topic and payload.
    pub fingerprint: u32,
}

/// The last acknowledged messages of one session of a broker, in the order of receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Tells the session from others that the broker had for the same client id.
    session: u64,
    receipts: VecDeque<Receipt>,
}

impl Acknowledged {
    pub fn of_session(session: u64) -> Acknowledged {
        Acknowledged { session, receipts: VecDeque::new() }
    }

    pub fn session(&self) -> u64 {
        self.session
    }

    pub fn push(&mut self, receipt: Receipt) {
        if self.receipts.len() == MOST {
            self.receipts.pop_front();
        }
        self.receipts.push_back(receipt);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Receipt> + '_ {
        self.receipts.iter().copied()
    }

    /// What the broker may send again, the newest first, each with whether it can be recognised.
    pub fn to_recognise(&self) -> impl Iterator<Item = (Receipt, bool)> + '_ {
        let mut ids = HashSet::with_capacity(self.receipts.len());
        let different =
            self.receipts.iter().rev().take_while(|receipt| ids.insert(receipt.packet_id)).count();
        let sure = if different < LEAST { 0 } else { different / 2 };
        let mut contents = HashMap::with_capacity(self.receipts.len());
        for receipt in &self.receipts {
            *contents.entry(receipt.fingerprint).or_insert(0) += 1;
        }
        let newest_first = self.receipts.iter().rev().enumerate();
        newest_first.map(move |(age, receipt)| (*receipt, age < sure && contents[&receipt.fingerprint] == 1))
    }
}

impl Default for Acknowledged {
    fn default() -> Self {
        Acknowledged::of_session(random_bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(receipts: impl IntoIterator<Item = (u32, u32)>) -> Vec<u16> {
        let mut acknowledged = Acknowledged::default();
        for (packet_id, fingerprint) in receipts {
            acknowledged.push(Receipt { packet_id: packet_id as u16, qos: 1, fingerprint });
        }
        let mut sure: Vec<_> = acknowledged.to_recognise().filter(|(_, is_sure)| *is_sure).collect();
        sure.reverse();
        sure.into_iter().map(|(receipt, _)| receipt.packet_id).collect()
    }

    #[test]
    fn ids_that_count_up_are_recognised() {
        let newer_half: Vec<u16> = (501..=1000).collect();
        assert_eq!(recognised((1..=1000).map(|i| (i, i))), newer_half);
        assert_eq!(recognised((1..1000).map(|i| (i, i))), [0u16; 0], "too few to know");
        assert_eq!(recognised((1..=70_000).map(|i| (i % 65_535 + 1, i))).len(), MOST / 2);
    }

    #[test]
    fn ids_that_come_again_soon_are_not_recognised() {
        assert_eq!(recognised((0..5000).map(|i| (i % 999, i))), [0u16; 0]);
        // What lies before the last id that came again tells nothing.
        let counting = (1..=1500).map(|i| (i, i));
        assert_eq!(recognised(counting.clone().chain([(1500, 0)])), [0u16; 0]);
        assert_eq!(recognised([(1500, 0)].into_iter().chain(counting)).len(), 750);
    }

    #[test]
    fn content_that_came_twice_is_not_recognised() {
        let same = |i| if i == 3 || i == 1998 { 0 } else { i };
        let recognised = recognised((1..=2000).map(|i| (i, same(i))));
        assert_eq!((recognised.len(), recognised.contains(&1998)), (999, false));
    }
}
