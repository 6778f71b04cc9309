//! Messages of a batch that become dead letters, where a spool keeps them together with the rows: after a crash the rows that other
//! routes, or a transform, made of them are there, and so are they.

use std::sync::Arc;

use crate::core::chunk_pool::ChunkPool;
use crate::core::reason::Reason;
use crate::ingest::raw_messages::{Message, RawMessages};

#[derive(Debug, Default)]
pub struct RejectedMessages {
    pub messages: RawMessages,
    /// One for each message.
    pub reasons: Vec<Reason>,
}

impl RejectedMessages {
    /// Without messages; their chunks come from `pool`.
    pub fn new(pool: &Arc<ChunkPool>) -> RejectedMessages {
        RejectedMessages { messages: RawMessages::new(pool.clone()), reasons: Vec::new() }
    }

    pub fn push(&mut self, message: &Message<'_>, reason: Reason) {
        self.messages.push(message);
        self.reasons.push(reason);
    }

    pub fn memory_bytes(&self) -> usize {
        self.messages.memory_bytes() + size_of::<Reason>() * self.reasons.capacity()
    }
}
