//! Where the rows of the message that was decoded last stand in the columns.

use crate::clickhouse::Column;
use crate::decode::checkpoint::Checkpoint;
use crate::decode::{Decoder, Scratch};

impl Decoder {
    /// Where the columns were before the last message.
    fn before_message(&self) -> &Checkpoint {
        let Scratch { message_start, start, .. } = &self.row;
        message_start.as_ref().unwrap_or(start)
    }

    /// How many rows there were before the last message.
    pub fn rows_before(&self) -> usize {
        self.before_message().rows()
    }

    /// How many bytes of texts a column had before the last message; 0 where its values have one width.
    pub fn bytes_before(&self, binding: usize) -> usize {
        let first = self.bindings[binding].lengths;
        let length = |at: usize| self.before_message().length(at).unwrap_or(0);
        match &self.columns[binding] {
            Column::Strings { .. } => length(first),
            // Behind the number of rows.
            Column::Nullable { values, .. } if matches!(**values, Column::Strings { .. }) => {
                length(first + 1)
            }
            _ => 0,
        }
    }

    /// Takes the rows of the last message out again.
    #[cold]
    pub fn take_back(&self, columns: &mut [Column]) {
        self.before_message().rollback(columns);
    }
}
