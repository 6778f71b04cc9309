//! The messages that a connection may acknowledge, by their sequence numbers on that connection.

/// The messages of one batch, by sequence number, as runs of consecutive numbers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AckSet {
    runs: Vec<(u64, u64)>,
}

impl AckSet {
    #[inline]
    pub fn add(&mut self, sequence: u64) {
        match self.runs.last_mut() {
            Some((first, count)) if *first + *count == sequence => *count += 1,
            _ => self.runs.push((sequence, 1)),
        }
    }

    /// Adds the messages of another batch.
    pub fn append(&mut self, other: AckSet) {
        for (first, count) in other.runs {
            match self.runs.last_mut() {
                Some((start, length)) if *start + *length == first => *length += count,
                _ => self.runs.push((first, count)),
            }
        }
    }

    /// Each run as its first sequence number and its length.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}
