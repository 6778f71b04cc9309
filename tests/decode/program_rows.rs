//! Rows of a program, in CBOR as `lib/row-encoder.js` writes it, into the columns of a table by their names.

use millrace::clickhouse::schema::TableColumn;
use millrace::core::error::Error;
use millrace::core::reason::Code;
use millrace::decode::{RowDecoder, RowError};
use proptest::prelude::*;

use crate::documents::{floats, hex, table, texts};
use crate::rows::{self, encoded};

/// The bytes of each column after rows in hexadecimal.
fn decoded(columns: &[(&str, &str)], rows: &str) -> Result<Vec<Vec<u8>>, RowError> {
    let mut decoder = RowDecoder::new("tables[0]", "t", &table(columns)).unwrap();
    let mut columns = decoder.columns();
    decoder.append(&hex(rows), &mut columns)?;
    Ok(columns.iter().map(encoded).collect())
}

/// One row with the column `v`: `value` in hexadecimal.
fn value(type_name: &str, value: &str) -> Result<Vec<u8>, (Code, String)> {
    let columns = decoded(&[("v", type_name)], &format!("bf6176{value}ff"));
    let mut columns = columns.map_err(|error| (error.reason.code, error.reason.message.to_string()))?;
    Ok(columns.remove(0))
}

#[test]
fn rows_stand_one_behind_the_other_and_name_their_columns() {
    let rows = "bf6161 6178 6162 02ff  bf6162 03 6161 6179ff  a2 6161 617a 6162 fb4010000000000000";
    let got = decoded(&[("a", "String"), ("b", "Float64")], rows);
    assert_eq!(got, Ok(vec![texts(&["x", "y", "z"]), floats(&[2.0, 3.0, 4.0])]));
    assert_eq!(decoded(&[("a", "String")], ""), Ok(vec![vec![]]));
}

#[test]
fn values_beyond_json_fill_columns() {
    let millis = 1_730_000_000_123i64;
    let at = "c1fb41d9c76d2007df3b";
    for (type_name, given, expected) in [
        ("DateTime64(3)", at, Ok(millis.to_le_bytes().to_vec())),
        ("DateTime64(9)", at, Ok((millis * 1_000_000).to_le_bytes().to_vec())),
        ("DateTime", "c11a671dbb40", Ok(0x671d_bb40u32.to_le_bytes().to_vec())),
        ("Date", at, Ok((millis / 86_400_000).to_le_bytes()[..2].to_vec())),
        ("Date32", at, Ok((millis / 86_400_000).to_le_bytes()[..4].to_vec())),
        ("String", at, Ok(texts(&["2024-10-27T03:33:20.123Z"]))),
        ("UInt64", "1bffffffffffffffff", Ok(vec![0xff; 8])),
        ("Int64", "1bffffffffffffffff", Err(Code::OutOfRange)),
        ("Int64", at, Err(Code::TypeMismatch)),
        ("UInt256", &format!("c25820{}", "ff".repeat(32)), Ok(vec![0xff; 32])),
        ("Int128", "c349010000000000000000", Ok((-(1i128 << 64) - 1).to_le_bytes().to_vec())),
        ("Decimal(38, 2)", "c249010000000000000000", Ok((100i128 << 64).to_le_bytes().to_vec())),
        ("String", "4301fe00", Ok(vec![3, 1, 0xfe, 0])),
        ("FixedString(4)", "4301fe00", Ok(vec![1, 0xfe, 0, 0])),
        ("IPv4", "447f000001", Ok(vec![1, 0, 0, 127])),
        ("UInt8", "4107", Err(Code::TypeMismatch)),
        ("Float64", "fb7ff8000000000000", Ok(f64::NAN.to_le_bytes().to_vec())),
        ("Int32", "fb7ff8000000000000", Err(Code::TypeMismatch)),
        ("Int32", "fb3ff8000000000000", Err(Code::TypeMismatch)),
        ("UInt32", "fb41f0000000000000", Err(Code::OutOfRange)),
        ("UInt8", "19 0100", Err(Code::OutOfRange)),
        ("UInt8", "6137", Ok(vec![7])),
        ("Bool", "f5", Ok(vec![1])),
        ("Nullable(UInt8)", "f6", Ok(vec![1, 0])),
        ("UInt8", "f6", Err(Code::FieldMissing)),
        ("Tuple(a UInt8)", "bf616101ff", Ok(vec![1])),
        ("Tuple(a UInt8)", "bf616101 616202ff", Err(Code::UnknownField)),
        ("Array(UInt8)", "820102", Ok([&2u64.to_le_bytes()[..], &[1, 2]].concat())),
    ] {
        let got = value(type_name, given).map_err(|(code, _)| code);
        assert_eq!(got, expected, "{given} for {type_name}");
    }
}

#[test]
fn an_error_names_the_row_and_the_column_and_leaves_nothing_behind() {
    let columns = [("a", "UInt8"), ("b", "Nullable(String)")];
    let mut decoder = RowDecoder::new("tables[0]", "t", &table(&columns)).unwrap();
    let mut filled = decoder.columns();
    decoder.append(&hex("bf616107ff"), &mut filled).unwrap();
    for (rows, row, code, column, message) in [
        (
            "bf616101ff bf616119012cff",
            1,
            Code::OutOfRange,
            Some("a"),
            "column a: 300 is out of range for UInt8",
        ),
        (
            "bf616101ff bf616101ff bf6162 6178ff",
            2,
            Code::FieldMissing,
            Some("a"),
            "column a: is required and missing",
        ),
        ("bf616101 616301ff", 0, Code::UnknownField, Some("c"), "no column takes the field \"c\""),
        ("bf616101ff 8101", 1, Code::NotAnObject, None, "it must be an object"),
        ("bf616101ff 01", 1, Code::NotAnObject, None, "it must be an object"),
        ("bf616101", 0, Code::PayloadInvalid, None, "no CBOR: it ends too early, at byte 4"),
    ] {
        let error = decoder.append(&hex(rows), &mut filled).unwrap_err();
        assert_eq!(
            (error.row, error.reason.code, error.reason.column.as_deref()),
            (row, code, column),
            "{rows}"
        );
        assert_eq!(&*error.reason.message, message);
        assert_eq!(filled.iter().map(encoded).collect::<Vec<_>>(), [vec![7], vec![1, 0]], "{rows}");
    }
    assert_eq!(decoder.append(&hex("bf616108ff"), &mut filled), Ok(1));
    assert_eq!(encoded(&filled[0]), [7, 8]);
}

#[test]
fn defaults_are_flagged_and_a_nested_has_one_length() {
    let mut columns =
        table(&[("a", "UInt8"), ("b", "Array(UInt8)"), ("n.x", "Array(UInt8)"), ("n.y", "Array(UInt8)")]);
    for column in &mut columns[..2] {
        column.default = Some("1".into());
    }
    let mut decoder = RowDecoder::new("tables[0]", "t", &columns).unwrap();
    let mut filled = decoder.columns();
    let heads: Vec<_> = decoder.heads().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(heads, ["a", "b", "n.x", "n.y", "missing b"]);
    // `n` as a list of objects, and each of its columns by its own name.
    let rows = "bf616e 81bf617801 617902ffff  bf 636e2e78 8103 636e2e79 8104 6162 80ff";
    assert_eq!(decoder.append(&hex(rows), &mut filled), Ok(2));
    assert_eq!(encoded(&filled[4]), [1, 0]);
    let error = decoder.append(&hex("bf 636e2e78 8103 636e2e79 80ff"), &mut filled).unwrap_err();
    assert_eq!((error.reason.code, error.reason.column.as_deref()), (Code::TypeMismatch, Some("n.y")));
}

#[test]
fn many_rows_may_be_far_larger_than_what_was_given() {
    let columns: Vec<(String, &str)> =
        (0..100).map(|at| (format!("c{at}"), "Nullable(FixedString(64))")).collect();
    let columns: Vec<(&str, &str)> =
        columns.iter().map(|(name, type_name)| (name.as_str(), *type_name)).collect();
    let mut decoder = RowDecoder::new("tables[0]", "t", &table(&columns)).unwrap();
    let mut filled = decoder.columns();
    assert_eq!(decoder.append(&hex("bfff").repeat(5000), &mut filled), Ok(5000));
    let error = decoder.append(&hex("bfff").repeat(100_001), &mut filled).unwrap_err();
    assert_eq!((error.row, error.reason.code), (100_000, Code::OutOfRange));
    assert_eq!(filled[0].rows(), 5000);
}

#[test]
fn a_table_that_cannot_be_filled_is_named_by_its_path() {
    let columns: Vec<TableColumn> = table(&[("a", "UInt8")]);
    assert!(RowDecoder::new("tables[3]", "t", &columns).is_ok());
    let error = value("UInt8", "1901").unwrap_err();
    assert_eq!(error.0, Code::PayloadInvalid);
    assert!(!matches!(RowDecoder::new("tables[3]", "t", &columns), Err(Error::Internal { .. })));
}

proptest! {
    /// Any bytes: all rows, or none of them.
    #[test]
    fn any_bytes_are_rows_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), before in 0usize..3) {
        let mut decoder = RowDecoder::new("tables[0]", "t", &rows::table()).unwrap();
        let mut columns = decoder.columns();
        for _ in 0..before {
            let _ = decoder.append(&hex("bf6275380162693807ff"), &mut columns);
        }
        let earlier: Vec<_> = columns.iter().map(encoded).collect();
        let rows = columns[0].rows();
        match decoder.append(&bytes, &mut columns) {
            Ok(count) => prop_assert!(columns.iter().all(|column| column.rows() == rows + count)),
            Err(_) => prop_assert_eq!(columns.iter().map(encoded).collect::<Vec<_>>(), earlier),
        }
    }
}
