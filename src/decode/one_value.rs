//! One JSON value into a column, outside of any message.

use serde_json::Value;

use crate::clickhouse::{Column, ColumnType};
use crate::core::reason::{Code, Reason};
use crate::decode::format::json::lexer::Reader;
use crate::decode::value::{self, DecodeContext};

/// Appends a value by the rules for JSON. After an error nothing is appended.
pub fn put_value(value: &Value, column_type: &ColumnType, column: &mut Column) -> Result<(), Reason> {
    if value.is_null() {
        return match column {
            Column::Nullable { .. } | Column::Variant { .. } | Column::Dynamic { .. } => {
                column.push_null();
                Ok(())
            }
            _ => Err(Reason::new(Code::TypeMismatch, "NULL does not fit a column that is not Nullable")),
        };
    }
    let text = value.to_string();
    let mut marks = Vec::new();
    column.mark(&mut marks);
    let mut context = DecodeContext::default();
    match value::read(&mut Reader::new(text.as_bytes()), column_type, column, &mut context) {
        Ok(_) => Ok(()),
        Err(reason) => {
            column.rewind(&mut &marks[..]);
            Err(*reason)
        }
    }
}
