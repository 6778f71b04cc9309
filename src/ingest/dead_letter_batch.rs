//! Dead letters that are stored and settled together.

use std::sync::Arc;

use crate::core::dead_letter::DeadLetter;
use crate::ingest::completion::Completion;

#[derive(Debug)]
pub struct DeadLetterBatch {
    pub dead_letters: Vec<DeadLetter>,
    pub completion: Completion,
    /// The token of the INSERT into the dead-letter table, where the same dead letters may come again
    /// after a crash.
    pub token: Option<String>,
    bytes: usize,
}

/// As structs, columns and a block.
const COPIES: usize = 3;

impl DeadLetterBatch {
    pub fn new(completion: Completion) -> DeadLetterBatch {
        DeadLetterBatch { dead_letters: Vec::new(), completion, token: None, bytes: 0 }
    }

    pub fn push(&mut self, dead_letter: DeadLetter) {
        self.bytes += size_of::<DeadLetter>() + dead_letter.topic.capacity() + dead_letter.payload.capacity();
        // A reason that several dead letters share is counted once.
        if Arc::strong_count(&dead_letter.reason.message) == 1 {
            self.bytes += dead_letter.reason.message.len();
        }
        self.dead_letters.push(dead_letter);
    }

    /// Charges the dead letters to the memory budget, in place of the completion's reservation: as
    /// structs, as columns, and as the block made of these.
    pub fn reserve(&mut self) {
        self.completion.reserve(self.memory_bytes());
    }

    pub fn memory_bytes(&self) -> usize {
        COPIES * self.bytes
    }
}
