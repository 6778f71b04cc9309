//! Dead letters that are stored and settled together.

use std::sync::Arc;

use crate::core::dead_letter::DeadLetter;
use crate::ingest::completion::Completion;

#[derive(Debug)]
pub struct DeadLetterBatch {
    pub letters: Vec<DeadLetter>,
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
        DeadLetterBatch { letters: Vec::new(), completion, token: None, bytes: 0 }
    }

    pub fn push(&mut self, letter: DeadLetter) {
        self.bytes += size_of::<DeadLetter>() + letter.topic.capacity() + letter.payload.capacity();
        // A reason that several dead letters share is counted once.
        if Arc::strong_count(&letter.reason.message) == 1 {
            self.bytes += letter.reason.message.len();
        }
        self.letters.push(letter);
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
