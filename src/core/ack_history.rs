//! The messages that were acknowledged last. An acknowledgement can be lost with its connection or with this process; the
//! broker then delivers its message again. `mqtt` recognises such a redelivery by this history.

use std::collections::VecDeque;

use twox_hash::XxHash3_64;

use crate::core::backoff::random_bits;

/// A number for topic and payload: messages with the same number count as equal. It is XXH3-64 of the payload, and of the topic,
/// turned left by 31 bits. A message that is delivered again is compared with up to 32,768 others: of 32 bits, one in 131,072
/// would be taken for another message, and lost.
#[inline]
pub fn fingerprint(topic: &[u8], payload: &[u8]) -> u64 {
    XxHash3_64::oneshot(topic).rotate_left(31) ^ XxHash3_64::oneshot(payload)
}

const MAX_RECORDS: usize = 32_768;

/// A message of QoS 1 or 2 as the broker would deliver it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckRecord {
    pub packet_id: u16,
    pub qos: u8,
    /// The [`fingerprint`] of topic and payload.
    pub fingerprint: u64,
}

/// The last acknowledged messages of one session of a broker, in the order of receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckHistory {
    /// Distinguishes the session from others that the broker had for the same client id.
    session: u64,
    records: VecDeque<AckRecord>,
}

impl AckHistory {
    pub fn of_session(session: u64) -> AckHistory {
        AckHistory { session, records: VecDeque::new() }
    }

    pub fn session(&self) -> u64 {
        self.session
    }

    pub fn push(&mut self, record: AckRecord) {
        if self.records.len() == MAX_RECORDS {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Appends the records of another one of this session.
    pub fn append(&mut self, other: &AckHistory) {
        other.iter().for_each(|record| self.push(record));
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = AckRecord> + '_ {
        self.records.iter().copied()
    }

    /// The records behind the first `skipped`.
    pub fn iter_from(&self, skipped: usize) -> impl Iterator<Item = AckRecord> + '_ {
        self.records.range(skipped..).copied()
    }
}

impl Default for AckHistory {
    fn default() -> Self {
        AckHistory::of_session(random_bits())
    }
}
