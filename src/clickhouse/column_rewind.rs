//! Removes rows again, so that a row appears completely or not at all.

use crate::clickhouse::Column;

impl Column {
    /// Notes how far a column of a row is, as far as the number of rows does not say it.
    #[inline(always)]
    pub fn mark_row(&self, marks: &mut Vec<usize>) {
        match self {
            Column::Fixed { .. } => {}
            Column::Strings { data, .. } => marks.push(data.len()),
            Column::Nullable { values, .. } if matches!(**values, Column::Fixed { .. }) => {}
            other => other.mark_parts(marks),
        }
    }

    /// Cuts the column back to the marks of [`Column::mark_row`], and to `rows` rows.
    pub fn rewind_row(&mut self, rows: usize, marks: &mut &[usize]) {
        match self {
            Column::Fixed { width, data, .. } => data.truncate(rows * *width),
            Column::Strings { data, rows: count } => {
                if let Some((bytes, rest)) = marks.split_first() {
                    data.truncate(*bytes);
                    *count = rows;
                    *marks = rest;
                }
            }
            Column::Nullable { nulls, values } if matches!(**values, Column::Fixed { .. }) => {
                nulls.truncate(rows);
                values.rewind_row(rows, marks);
            }
            other => other.rewind(marks),
        }
    }

    /// Notes how far the column is: appends a few numbers to `marks`, always as many for the same column.
    #[inline]
    pub fn mark(&self, marks: &mut Vec<usize>) {
        match self {
            Column::Fixed { data, .. } => marks.push(data.len()),
            Column::Strings { data, rows } => marks.extend_from_slice(&[data.len(), *rows]),
            other => other.mark_parts(marks),
        }
    }

    fn mark_parts(&self, marks: &mut Vec<usize>) {
        match self {
            Column::Fixed { .. } | Column::Strings { .. } => self.mark(marks),
            Column::Json { data, rows, .. } | Column::Dynamic { data, rows, .. } => {
                marks.extend_from_slice(&[data.len(), *rows]);
            }
            Column::ByPath(_) | Column::ByType(_) => debug_assert!(false, "it is part of a block"),
            Column::Nullable { nulls, values } => {
                marks.push(nulls.len());
                values.mark(marks);
            }
            Column::Array { ends, items } => {
                marks.push(ends.len());
                items.mark(marks);
            }
            Column::Tuple { parts, rows } => {
                marks.push(*rows);
                parts.iter().for_each(|part| part.mark(marks));
            }
            Column::Variant { discriminators, parts } => {
                marks.push(discriminators.len());
                parts.iter().for_each(|part| part.mark(marks));
            }
        }
    }

    /// Goes back to where it was marked; takes its numbers off the front of `marks`.
    pub fn rewind(&mut self, marks: &mut &[usize]) {
        let Some((first, rest)) = marks.split_first() else { return };
        *marks = rest;
        match self {
            Column::Fixed { data, .. } => data.truncate(*first),
            Column::Strings { data, rows }
            | Column::Json { data, rows, .. }
            | Column::Dynamic { data, rows, .. } => {
                data.truncate(*first);
                if let Some((second, rest)) = marks.split_first() {
                    *rows = *second;
                    *marks = rest;
                }
            }
            Column::Nullable { nulls, values } => {
                nulls.truncate(*first);
                values.rewind(marks);
            }
            Column::Array { ends, items } => {
                ends.truncate(*first);
                items.rewind(marks);
            }
            Column::Tuple { parts, rows } => {
                *rows = *first;
                parts.iter_mut().for_each(|part| part.rewind(marks));
            }
            Column::Variant { discriminators, parts } => {
                discriminators.truncate(*first);
                parts.iter_mut().for_each(|part| part.rewind(marks));
            }
            Column::ByPath(_) | Column::ByType(_) => debug_assert!(false, "it is part of a block"),
        }
    }
}
