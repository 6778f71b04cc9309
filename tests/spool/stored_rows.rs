//! Rows that a transform changed, in a record and back.

use millrace::clickhouse::{BlockEncoder, Column, ColumnType, CompressionHints};
use millrace::config::Compression;
use millrace::decode::put_value;
use millrace::ingest::kept_rows::MessageRows;
use millrace::spool::stored_rows::{decode, encode};
use serde_json::json;

#[test]
fn rows_come_back_from_a_block_and_from_beside_it() {
    let types = [
        ("Nullable(UInt32)", json!([1, null, 3])),
        ("Variant(String, UInt8)", json!(["a", 7, null])),
        ("Map(String, Array(Float64))", json!([{}, { "a": [1.5] }, { "b": [], "c": [2.5] }])),
        ("JSON", json!([{ "a": 1 }, {}, { "b": { "c": "x" } }])),
    ];
    for skipped in [0, 1] {
        let types = &types[..types.len() - skipped];
        let mut columns = Vec::new();
        for (name, values) in types {
            let column_type = ColumnType::parse(name, "UTC").unwrap();
            let mut column = Column::new(&column_type, column_type.nullable);
            for value in values.as_array().unwrap() {
                put_value(value, &column_type, &mut column).unwrap();
            }
            columns.push(column);
        }
        let headers: Vec<_> = types.iter().map(|(name, _)| (format!("c {name}"), name.to_string())).collect();
        let mut rows = MessageRows::default();
        [2, 0, 1].into_iter().for_each(|count| rows.push(count));
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let block = BlockEncoder::new(compression).encode(&headers, &columns, &CompressionHints::of(4));
            let stored = encode(&rows, &headers, &columns);
            let kept = decode(stored.into(), &block.frames, 3, 3).unwrap();
            assert_eq!(kept.headers, headers);
            assert_eq!(format!("{:?}", kept.columns), format!("{columns:?}"));
            assert_eq!(kept.message_rows, rows);
        }
    }
}
