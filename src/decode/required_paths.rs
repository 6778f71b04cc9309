//! Required paths that no message has: a path that is spelt wrong makes each message a dead letter, and each of these names
//! one column alone.

use crate::decode::scalar_paths::path_of;
use crate::decode::{ColumnBinding, Decoder, ValueSource};

/// A path is reported that the first messages lack, as many as these.
const MESSAGES: u32 = 1000;

/// Looks at the first messages without a required value, until one has all of them.
#[derive(Debug, Clone, Default)]
pub struct RequiredPaths {
    /// Whether a message had all of them, or the first thousand have been looked at.
    pub is_over: bool,
    messages: u32,
    /// The columns whose path no message had so far.
    not_found: Vec<usize>,
    /// Not reported yet.
    pub fresh: Vec<usize>,
}

impl RequiredPaths {
    pub fn new(bindings: &[ColumnBinding]) -> RequiredPaths {
        let is_read = |binding: &ColumnBinding| {
            binding.is_required() && matches!(binding.source, ValueSource::Payload { .. })
        };
        let not_found = (0..bindings.len()).filter(|at| is_read(&bindings[*at])).collect();
        RequiredPaths { not_found, ..RequiredPaths::default() }
    }

    /// A row lacked a required value; `has` says which columns it did have.
    #[cold]
    pub fn note(&mut self, has: impl Fn(usize) -> bool) {
        if self.is_over {
            return;
        }
        self.not_found.retain(|column| !has(*column));
        self.messages += 1;
        if self.messages == MESSAGES {
            self.is_over = true;
            self.fresh = std::mem::take(&mut self.not_found);
        }
    }
}

impl Decoder {
    /// The columns, each with its path, that none of the first thousand messages had.
    pub fn take_paths_never_found(&mut self) -> Vec<(&str, String)> {
        let fresh = std::mem::take(&mut self.row.required.fresh);
        let name_and_path = |at: usize| {
            let binding = &self.bindings[at];
            (binding.name(), path_of(binding.name(), binding.source()))
        };
        fresh.into_iter().map(name_and_path).collect()
    }
}
