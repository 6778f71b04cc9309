//! Values of JSON and Dynamic columns, which stand there in the binary form of [`dynamic`](crate::clickhouse::dynamic), as JSON.

use serde_json::{Map, Number, Value};

use crate::clickhouse::Column;
use crate::clickhouse::column_json::{JsonCursor, put_at_path};
use crate::clickhouse::dynamic::{Base, DynamicType, take_byte, take_bytes, take_varint};
use crate::clickhouse::json_type::JsonLayout;

/// One document of a JSON column.
pub fn document(bytes: &mut &[u8], layout: &JsonLayout) -> Value {
    let mut object = Map::new();
    if !layout.typed().is_empty() {
        for _ in 0..take_varint(bytes) {
            let place = take_varint(bytes);
            let mut row = take_bytes(bytes);
            let Some((path, column_type)) = layout.typed().get(place) else { continue };
            let mut column = Column::new(column_type, column_type.nullable);
            column.take_rows(1, &mut row);
            put_at_path(&mut object, path, JsonCursor::new(&column, column_type).read());
        }
    }
    paths(bytes, &mut object);
    Value::Object(object)
}

fn paths(bytes: &mut &[u8], object: &mut Map<String, Value>) {
    for _ in 0..take_varint(bytes) {
        let path = String::from_utf8_lossy(take_bytes(bytes)).into_owned();
        put_at_path(object, &path, value(bytes));
    }
}

/// One value of a Dynamic column.
pub fn value(bytes: &mut &[u8]) -> Value {
    match DynamicType::take(bytes) {
        Some(DynamicType { depth, base }) => item(depth, base, false, bytes),
        None => Value::Null,
    }
}

fn item(depth: u8, base: Base, is_in_list: bool, bytes: &mut &[u8]) -> Value {
    if depth > 0 {
        let count = take_varint(bytes);
        return (0..count).map(|_| item(depth - 1, base, true, bytes)).collect();
    }
    if is_in_list && DynamicType::is_nullable_item(base) && take_byte(bytes) == 1 {
        return Value::Null;
    }
    let mut number = || {
        let mut value = [0; 8];
        value.iter_mut().for_each(|byte| *byte = take_byte(bytes));
        value
    };
    match base {
        Base::Int64 => Value::from(i64::from_le_bytes(number())),
        Base::UInt64 => Value::from(u64::from_le_bytes(number())),
        Base::Float64 => Number::from_f64(f64::from_le_bytes(number())).map_or(Value::Null, Value::Number),
        Base::Bool => Value::Bool(take_byte(bytes) != 0),
        Base::String => Value::String(String::from_utf8_lossy(take_bytes(bytes)).into_owned()),
        Base::Dynamic => value(bytes),
        Base::Json => {
            let mut object = Map::new();
            paths(bytes, &mut object);
            Value::Object(object)
        }
    }
}
