//! Rows that are kept as columns, since a transform changed them: they are never decoded again from their messages.
//!
//! Where only some messages of a batch go into an INSERT, their rows are taken out of the columns. Where the table has changed
//! meanwhile, columns are taken by name: the values of one that has another type now are converted by the rules for JSON.

use std::ops::Range;

use crate::clickhouse::column_json::JsonCursor;
use crate::clickhouse::{Column, ColumnType};
use crate::config::Route;
use crate::core::reason::Reason;
use crate::decode;
use crate::ingest::table_plan::TablePlan;

/// The rows of each message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MessageRows {
    messages: usize,
    /// Where the rows of each message end. Empty while each message has one row.
    ends: Vec<u32>,
}

impl MessageRows {
    /// Each of the messages has one row.
    pub fn one_each(messages: usize) -> MessageRows {
        MessageRows { messages, ends: Vec::new() }
    }

    /// Adds a message with `rows` rows.
    #[inline]
    pub fn push(&mut self, rows: usize) {
        if rows != 1 && self.ends.is_empty() {
            self.ends = (1..=self.messages as u32).collect();
            self.ends.reserve(1);
        }
        self.messages += 1;
        if rows != 1 || !self.ends.is_empty() {
            let end = self.ends.last().copied().unwrap_or(0);
            self.ends.push(end + rows as u32);
        }
    }

    /// As [`MessageRows::ends`] gave them; `None` if they do not fit the number of messages.
    pub fn stored(messages: usize, ends: Vec<u32>) -> Option<MessageRows> {
        let is_whole = ends.is_empty() || (ends.len() == messages && ends.is_sorted());
        is_whole.then_some(MessageRows { messages, ends })
    }

    /// Where the rows of each message end; empty if each has one row.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether the messages and the rows are the same in number and order.
    pub fn has_one_each(&self) -> bool {
        self.ends.is_empty()
    }

    /// The rows of a range of messages.
    pub fn of(&self, messages: Range<usize>) -> Range<usize> {
        self.end(messages.start)..self.end(messages.end)
    }

    /// How many rows the first `messages` have.
    fn end(&self, messages: usize) -> usize {
        match messages.checked_sub(1) {
            Some(last) if !self.ends.is_empty() => self.ends[last] as usize,
            _ => messages,
        }
    }

    /// The message that a row is of.
    pub fn message_of(&self, row: usize) -> usize {
        if self.ends.is_empty() { row } else { self.ends.partition_point(|end| *end as usize <= row) }
    }

    /// The messages of which a row was made that stands at the last of them: that message, and those before it without a row.
    pub fn gathered(&self, last: usize) -> Range<usize> {
        let has_rows = |at: &usize| !self.of(*at..at + 1).is_empty();
        let before = (0..last).rev().find(has_rows);
        before.map_or(0, |before| before + 1)..last + 1
    }

    /// Appends those of further messages.
    pub fn append(&mut self, other: &MessageRows) {
        (0..other.messages).for_each(|at| self.push(other.of(at..at + 1).len()));
    }

    pub fn bytes(&self) -> usize {
        4 * self.ends.len()
    }
}

#[derive(Debug, Clone)]
pub struct KeptRows {
    /// Names and types, as a block declares them.
    pub headers: Vec<(String, String)>,
    pub columns: Vec<Column>,
    pub message_rows: MessageRows,
}

impl KeptRows {
    /// Appends the rows of further messages. `false`: they are of other columns.
    pub fn append(&mut self, other: &KeptRows) -> bool {
        if self.headers != other.headers {
            return false;
        }
        self.columns.iter_mut().zip(&other.columns).for_each(|(column, more)| column.append(more));
        self.message_rows.append(&other.message_rows);
        true
    }

    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Column::capacity).sum::<usize>() + self.message_rows.bytes()
    }

    /// The columns of a block for a table as it is now, with the rows of the chosen messages, and the messages of which a
    /// value does not fit it any more.
    pub fn select(
        &self,
        chosen: &[Range<usize>],
        plan: &TablePlan,
        route: &Route,
    ) -> (Vec<Column>, Vec<(usize, Reason)>) {
        let rows: Vec<_> = chosen.iter().map(|messages| self.message_rows.of(messages.clone())).collect();
        let mut columns = plan.block_columns(route);
        if plan.column_headers == self.headers {
            columns.iter_mut().zip(&self.columns).for_each(|(column, own)| column.append_rows(own, &rows));
            return (columns, Vec::new());
        }
        let mut conversion = Conversion { kept: self, rows: &rows, refused: Vec::new() };
        let found: Vec<bool> = plan.column_headers.iter().map(|header| self.has(&header.0)).collect();
        for (column, header) in columns.iter_mut().zip(&plan.column_headers) {
            conversion.fill(column, header);
        }
        // ClickHouse computes the default of a column that is new.
        for (at, name) in plan.flagged_columns() {
            if !found[at] {
                let rows = columns.first().map_or(0, Column::rows);
                let place = plan.column_headers.iter().position(|header| header.0 == *name);
                if let Some(flags) = place.and_then(|place| columns.get_mut(place)) {
                    flags.clear();
                    (0..rows).for_each(|_| flags.push_fixed([1]));
                }
            }
        }
        let refused = conversion.refused;
        self.without(refused, chosen, columns)
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(own, _)| own == name)
    }

    /// Takes the rows of refused messages out again.
    fn without(
        &self,
        mut refused: Vec<(usize, Reason)>,
        chosen: &[Range<usize>],
        columns: Vec<Column>,
    ) -> (Vec<Column>, Vec<(usize, Reason)>) {
        if refused.is_empty() {
            return (columns, refused);
        }
        refused.sort_by_key(|(message, _)| *message);
        refused.dedup_by_key(|(message, _)| *message);
        let mut good = Vec::new();
        let mut at = 0;
        for message in chosen.iter().cloned().flatten() {
            let rows = self.message_rows.of(message..message + 1).len();
            if refused.binary_search_by_key(&message, |(refused, _)| *refused).is_err() {
                good.push(at..at + rows);
            }
            at += rows;
        }
        let select = |column: &Column| {
            let mut left = column.clone_empty();
            left.append_rows(column, &good);
            left
        };
        (columns.iter().map(select).collect(), refused)
    }
}

struct Conversion<'a> {
    kept: &'a KeptRows,
    rows: &'a [Range<usize>],
    /// Messages of which a value does not fit.
    refused: Vec<(usize, Reason)>,
}

impl Conversion<'_> {
    fn fill(&mut self, column: &mut Column, header: &(String, String)) {
        let (name, type_name) = header;
        let own = self.kept.headers.iter().zip(&self.kept.columns).find(|((own, _), _)| own == name);
        match own {
            Some(((_, own_type), own)) if own_type == type_name => column.append_rows(own, self.rows),
            Some(((_, own_type), own)) => self.convert(column, name, own, [own_type, type_name]),
            None => {
                let count: usize = self.rows.iter().map(Range::len).sum();
                (0..count).for_each(|_| column.push_zero());
            }
        }
    }

    fn convert(&mut self, column: &mut Column, name: &str, own: &Column, types: [&str; 2]) {
        // Both were written by this crate for types that it had parsed.
        let [Ok(from), Ok(to)] = types.map(|name| ColumnType::parse(name, "UTC")) else { return };
        let mut values = JsonCursor::new(own, &from);
        let mut row = 0;
        for range in self.rows {
            while row < range.start {
                values.read();
                row += 1;
            }
            while row < range.end {
                let value = values.read();
                if let Err(reason) = decode::put_value(&value, &to, column) {
                    self.refused.push((self.kept.message_rows.message_of(row), reason.about(name)));
                    column.push_zero();
                }
                row += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_messages_are_counted_only_where_they_are_not_one_each() {
        let mut rows = MessageRows::default();
        rows.push(1);
        rows.push(1);
        assert_eq!(rows, MessageRows::one_each(2));
        rows.push(3);
        rows.push(0);
        rows.push(1);
        assert_eq!(rows.messages(), 5);
        assert_eq!((rows.of(0..2), rows.of(2..3), rows.of(3..4), rows.of(4..5)), (0..2, 2..5, 5..5, 5..6));
        assert_eq!((0..6).map(|row| rows.message_of(row)).collect::<Vec<_>>(), [0, 1, 2, 2, 2, 4]);
        assert_eq!((rows.gathered(4), rows.gathered(2), rows.gathered(0)), (3..5, 2..3, 0..1));
        let mut more = MessageRows::one_each(1);
        more.append(&rows);
        assert_eq!((more.messages(), more.of(3..4)), (6, 3..6));
    }
}
