//! Selects rows of a column: those of a batch that is inserted in parts, or those that a transform
//! did not drop.

use std::ops::Range;

use crate::clickhouse::Column;
use crate::clickhouse::dynamic;

impl Column {
    /// Keeps the rows of `ranges`, which are in order and do not overlap, in the memory that the column has.
    pub fn keep_rows(&mut self, ranges: &[Range<usize>]) {
        match self {
            Column::Fixed { data, width, .. } => keep_fixed(data, *width, ranges),
            Column::Strings { data, rows }
            | Column::Json { data, rows, .. }
            | Column::Dynamic { data, rows, .. } => {
                keep_texts(data, ranges);
                *rows = count(ranges);
            }
            Column::Nullable { nulls, values } => {
                keep_fixed(nulls, 1, ranges);
                values.keep_rows(ranges);
            }
            Column::Tuple { parts, rows } => {
                *rows = count(ranges);
                parts.iter_mut().for_each(|part| part.keep_rows(ranges));
            }
            Column::Array { .. } | Column::Variant { .. } | Column::ByPath(_) | Column::ByType(_) => {
                let mut kept = self.clone_empty();
                kept.append_rows(self, ranges);
                *self = kept;
            }
        }
    }

    /// Appends the rows of `ranges`, which are in order and do not overlap, of another column of the same type.
    pub fn append_rows(&mut self, other: &Column, ranges: &[Range<usize>]) {
        match (self, other) {
            (Column::Fixed { data, width, .. }, Column::Fixed { data: more, .. }) => {
                copy_fixed(data, more, *width, ranges);
            }
            (Column::Strings { data, rows }, Column::Strings { data: more, .. })
            | (Column::Json { data, rows, .. }, Column::Json { data: more, .. })
            | (Column::Dynamic { data, rows, .. }, Column::Dynamic { data: more, .. }) => {
                copy_texts(data, more, ranges);
                *rows += count(ranges);
            }
            (Column::Nullable { nulls, values }, Column::Nullable { nulls: more, values: others }) => {
                copy_fixed(nulls, more, 1, ranges);
                values.append_rows(others, ranges);
            }
            (Column::Array { ends, items }, Column::Array { ends: more, items: others }) => {
                let others_ends = more.as_chunks::<8>().0;
                let end = |row: usize| u64::from_le_bytes(others_ends[row]);
                let begin = |row: usize| row.checked_sub(1).map_or(0, end);
                let mut base = items.rows() as u64;
                let mut chosen = Vec::with_capacity(ranges.len());
                for range in ranges.iter().filter(|range| !range.is_empty()) {
                    let first = begin(range.start);
                    for row in range.clone() {
                        ends.extend_from_slice(&(base + end(row) - first).to_le_bytes());
                    }
                    let last = end(range.end - 1);
                    base += last - first;
                    chosen.push(first as usize..last as usize);
                }
                items.append_rows(others, &chosen);
            }
            (Column::Tuple { parts, rows }, Column::Tuple { parts: others, .. }) => {
                *rows += count(ranges);
                parts.iter_mut().zip(others).for_each(|(part, other)| part.append_rows(other, ranges));
            }
            (
                Column::Variant { discriminators, parts },
                Column::Variant { discriminators: more, parts: others },
            ) => {
                copy_fixed(discriminators, more, 1, ranges);
                for (at, (part, other)) in parts.iter_mut().zip(others).enumerate() {
                    part.append_rows(other, &rows_of_part(more, at as u8, ranges));
                }
            }
            (this, other) => debug_assert!(false, "{this:?} and {other:?} differ in type"),
        }
    }
}

fn count(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(Range::len).sum()
}

fn copy_fixed(into: &mut Vec<u8>, from: &[u8], width: usize, ranges: &[Range<usize>]) {
    into.reserve(count(ranges) * width);
    for range in ranges {
        into.extend_from_slice(&from[range.start * width..range.end * width]);
    }
}

fn keep_fixed(data: &mut Vec<u8>, width: usize, ranges: &[Range<usize>]) {
    let mut end = 0;
    for range in ranges {
        let bytes = range.start * width..range.end * width;
        end = move_back(data, bytes, end);
    }
    data.truncate(end);
}

/// Moves bytes to an earlier place; says where they end there.
fn move_back(data: &mut [u8], bytes: Range<usize>, to: usize) -> usize {
    let len = bytes.len();
    if bytes.start != to {
        data.copy_within(bytes, to);
    }
    to + len
}

/// Walks over values that stand behind their lengths, which alone say where a row begins.
struct TextRows {
    row: usize,
    at: usize,
}

impl TextRows {
    fn begin() -> TextRows {
        TextRows { row: 0, at: 0 }
    }

    /// Where the row begins.
    fn skip_to(&mut self, row: usize, data: &[u8]) -> usize {
        let mut rest = &data[self.at..];
        while self.row < row {
            let len = dynamic::take_varint(&mut rest);
            rest = &rest[len..];
            self.row += 1;
        }
        self.at = data.len() - rest.len();
        self.at
    }

    fn bytes_of(&mut self, rows: &Range<usize>, data: &[u8]) -> Range<usize> {
        self.skip_to(rows.start, data)..self.skip_to(rows.end, data)
    }
}

fn copy_texts(into: &mut Vec<u8>, from: &[u8], ranges: &[Range<usize>]) {
    let mut rows = TextRows::begin();
    for range in ranges {
        into.extend_from_slice(&from[rows.bytes_of(range, from)]);
    }
}

fn keep_texts(data: &mut Vec<u8>, ranges: &[Range<usize>]) {
    let (mut rows, mut end) = (TextRows::begin(), 0);
    for range in ranges {
        // Bytes move to the front only: the rows behind are still as they were.
        let bytes = rows.bytes_of(range, data);
        end = move_back(data, bytes, end);
    }
    data.truncate(end);
}

/// The rows that one part of a Variant has for these rows of the Variant.
fn rows_of_part(discriminators: &[u8], part: u8, ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let has = |rows: &[u8]| rows.iter().filter(|discriminator| **discriminator == part).count();
    let (mut at, mut row) = (0, 0);
    let mut chosen = Vec::with_capacity(ranges.len());
    for range in ranges {
        at += has(&discriminators[row..range.start]);
        let begin = at;
        at += has(&discriminators[range.clone()]);
        row = range.end;
        chosen.push(begin..at);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ColumnType;

    /// Six rows of a type, of which each differs from the others: values of one, none and several items.
    fn rows(name: &str) -> (Column, Vec<Column>) {
        let column_type = ColumnType::parse(name, "UTC").unwrap();
        let new = || Column::new(&column_type, column_type.nullable);
        let singles: Vec<Column> = (0..6u8)
            .map(|row| {
                let mut column = new();
                fill(&mut column, row);
                column
            })
            .collect();
        let mut all = new();
        singles.iter().for_each(|single| all.append(single));
        (all, singles)
    }

    fn fill(column: &mut Column, row: u8) {
        match column {
            Column::Fixed { width, data, .. } => data.extend(std::iter::repeat_n(row, *width)),
            Column::Strings { .. } => column.push_string("text".repeat(row as usize % 3).as_bytes()),
            Column::Nullable { nulls, values } => {
                nulls.push(row % 2);
                fill(values, row);
            }
            Column::Array { items, .. } => {
                (0..row % 4).for_each(|item| fill(items, row + item));
                column.push_offset();
            }
            Column::Tuple { parts, rows } => {
                *rows += 1;
                parts.iter_mut().for_each(|part| fill(part, row));
            }
            Column::Variant { discriminators, parts } => {
                let part = row % 3;
                discriminators.push(if part == 2 { 255 } else { part });
                if part < 2 {
                    fill(&mut parts[part as usize], row);
                }
            }
            _ => column.push_zero(),
        }
    }

    #[test]
    fn chosen_rows_are_those_appended_one_by_one() {
        let types = [
            "UInt32",
            "String",
            "Nullable(String)",
            "Nullable(Int128)",
            "Array(String)",
            "Array(Array(Nullable(UInt16)))",
            "Map(String, Float64)",
            "Tuple(a UInt8, b Array(String))",
            "Variant(String, UInt8)",
            "JSON",
            "Dynamic",
        ];
        for name in types {
            let (all, singles) = rows(name);
            for mask in 0..64u32 {
                let chosen: Vec<_> = (0..6).filter(|row| mask & (1 << row) != 0).collect();
                let empty = |column: &Column| {
                    let mut empty = column.clone();
                    empty.clear();
                    empty
                };
                let mut expected = empty(&all);
                chosen.iter().for_each(|row| expected.append(&singles[*row]));
                for merged in [false, true] {
                    let mut ranges: Vec<Range<usize>> = Vec::new();
                    for row in &chosen {
                        match ranges.last_mut() {
                            Some(last) if merged && last.end == *row => last.end += 1,
                            _ => ranges.push(*row..row + 1),
                        }
                    }
                    let mut column = empty(&all);
                    column.append_rows(&all, &ranges);
                    assert_eq!(column.rows(), chosen.len(), "{name} {mask:b}");
                    assert_eq!(format!("{column:?}"), format!("{expected:?}"), "{name} {mask:b}");
                    let mut column = all.clone();
                    column.keep_rows(&ranges);
                    assert_eq!(format!("{column:?}"), format!("{expected:?}"), "{name} {mask:b}, in place");
                }
            }
        }
    }
}
