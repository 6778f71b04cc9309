//! Each type with each kind of scalar.

use super::*;
use crate::clickhouse::ColumnType;

fn wire(type_name: &str, value: Scalar<'_>) -> std::result::Result<Vec<u8>, Code> {
    let column_type = ColumnType::parse(type_name, "UTC").unwrap();
    let mut column = Column::new(&column_type, false);
    match put(&mut column, &column_type.kind, value, &mut DecodeContext::default()) {
        Ok(()) => {
            let mut data = Vec::new();
            column.encode(&mut data);
            Ok(data)
        }
        Err(reason) => {
            assert_eq!(column.rows(), 0, "a refused value leaves nothing behind");
            Err(reason.code)
        }
    }
}

fn number(text: &str) -> Scalar<'_> {
    Scalar::Number(Number::scan(text.as_bytes(), 0).0.unwrap())
}

#[test]
fn integers_fit_or_are_refused() {
    assert_eq!(wire("UInt8", number("255")), Ok(vec![255]));
    assert_eq!(wire("UInt8", number("256")), Err(Code::OutOfRange));
    assert_eq!(wire("UInt8", number("-1")), Err(Code::OutOfRange));
    assert_eq!(wire("Int64", number("-9223372036854775808")), Ok(i64::MIN.to_le_bytes().to_vec()));
    assert_eq!(wire("Int64", number("18446744073709551615")), Err(Code::OutOfRange));
    assert_eq!(wire("UInt64", Scalar::Text("18446744073709551615")), Ok(vec![255; 8]));
    assert_eq!(wire("Int16", number("1e3")), Ok(1000i16.to_le_bytes().to_vec()));
    assert_eq!(wire("Int16", number("1.5")), Err(Code::TypeMismatch));
    assert_eq!(wire("Int64", number("1e18")), Ok(10i64.pow(18).to_le_bytes().to_vec()));
    assert_eq!(wire("Int8", Scalar::Text("fast")), Err(Code::TypeMismatch));
    assert_eq!(wire("UInt8", Scalar::Bool(true)), Ok(vec![1]));
    assert_eq!(wire("Int256", number("-1")), Ok(vec![255; 32]));
    assert_eq!(wire("UInt128", number("-1")), Err(Code::OutOfRange));
    assert_eq!(wire("Int128", Scalar::Bool(true)).unwrap()[..2], [1, 0]);
}

#[test]
fn floats_do_not_overflow_in_silence() {
    assert_eq!(wire("Float32", number("1e39")), Err(Code::OutOfRange));
    assert_eq!(wire("Float64", number("1e400")), Err(Code::OutOfRange));
    assert_eq!(wire("Float32", Scalar::Text("-inf")), Ok(f32::NEG_INFINITY.to_le_bytes().to_vec()));
    assert_eq!(wire("Float64", Scalar::Text("1e400")), Err(Code::OutOfRange));
    assert_eq!(wire("Float64", number("3")), Ok(3f64.to_le_bytes().to_vec()));
    assert_eq!(wire("Float64", Scalar::Text("12,5")), Err(Code::TypeMismatch));
}

#[test]
fn decimals_keep_every_digit_or_are_refused() {
    assert_eq!(wire("Decimal(9, 2)", number("-1.5")), Ok((-150i32).to_le_bytes().to_vec()));
    assert_eq!(wire("Decimal(9, 2)", number("1.230")), Ok(123i32.to_le_bytes().to_vec()));
    assert_eq!(wire("Decimal(9, 2)", number("1.234")), Err(Code::OutOfRange));
    assert_eq!(wire("Decimal(9, 2)", number("9999999.99")), Ok(999_999_999i32.to_le_bytes().to_vec()));
    assert_eq!(wire("Decimal(9, 2)", number("10000000")), Err(Code::OutOfRange));
    assert_eq!(wire("Decimal(18, 0)", Scalar::Text("1e3")), Ok(1000i64.to_le_bytes().to_vec()));
    assert_eq!(wire("Decimal(9, 2)", Scalar::Text("x")), Err(Code::TypeMismatch));
}

#[test]
fn texts_of_fixed_width_are_padded() {
    assert_eq!(wire("FixedString(3)", Scalar::Text("ab")), Ok(b"ab\0".to_vec()));
    assert_eq!(wire("FixedString(3)", Scalar::Text("abcd")), Err(Code::OutOfRange));
}

#[test]
fn addresses_are_as_the_wire_has_them() {
    assert_eq!(wire("IPv4", Scalar::Text("1.2.3.4")), Ok(vec![4, 3, 2, 1]));
    let mapped = [&[0; 10][..], &[255, 255, 1, 2, 3, 4]].concat();
    assert_eq!(wire("IPv6", Scalar::Text("1.2.3.4")), Ok(mapped.clone()));
    assert_eq!(wire("IPv6", Scalar::Text("::ffff:1.2.3.4")), Ok(mapped));
    assert_eq!(wire("IPv4", Scalar::Text("001.02.3.004")), Ok(vec![4, 3, 2, 1]));
    assert_eq!(wire("IPv4", Scalar::Text("0001.2.3.4")), Err(Code::TypeMismatch));
    assert_eq!(wire("IPv4", Scalar::Text("+1.2.3.4")), Err(Code::TypeMismatch));
    assert_eq!(wire("IPv4", Scalar::Text("1.2.3.256")), Err(Code::TypeMismatch));
    assert_eq!(wire("IPv6", Scalar::Text("::g")), Err(Code::TypeMismatch));
}

#[test]
fn a_uuid_is_two_little_endian_halves() {
    let wire = wire("UUID", Scalar::Text("12345678-1234-5678-8765-432112345678")).unwrap();
    assert_eq!(wire[..8], [0x78, 0x56, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12]);
    assert_eq!(wire[8..], [0x78, 0x56, 0x34, 0x12, 0x21, 0x43, 0x65, 0x87]);
    assert!(uuid("12345678-1234-5678-8765-43211234567").is_none());
    assert!(uuid("1234567-81234-5678-8765-432112345678").is_none());
}

#[test]
fn times_take_texts_and_numbers() {
    let seconds = 1_730_000_000u32.to_le_bytes().to_vec();
    assert_eq!(wire("DateTime", number("1730000000999")), Ok(seconds.clone()));
    assert_eq!(wire("DateTime", Scalar::Text("1730000000")), Ok(seconds.clone()));
    assert_eq!(wire("DateTime", Scalar::Text("2024-10-27T03:33:20Z")), Ok(seconds));
    assert_eq!(wire("DateTime", number("-1")), Err(Code::OutOfRange));
    assert_eq!(
        wire("DateTime64(3)", Scalar::Text("1730000000.5")),
        Ok(1_730_000_000_500i64.to_le_bytes().to_vec())
    );
    assert_eq!(wire("DateTime64(9)", Scalar::Text("2299-01-01T00:00:00Z")), Err(Code::OutOfRange));
    assert_eq!(wire("DateTime64(3)", Scalar::Text("soon")), Err(Code::TypeMismatch));
    assert_eq!(wire("Date", Scalar::Text("1970-01-03")), Ok(vec![2, 0]));
    assert_eq!(wire("Date", Scalar::Text("1969-12-31")), Err(Code::OutOfRange));
    assert_eq!(wire("Date", number("172800")), Ok(vec![2, 0]));
    assert_eq!(wire("Date32", Scalar::Text("1969-12-31")), Ok(vec![255; 4]));
    assert_eq!(wire("Date32", Scalar::Text("1899-12-31")), Err(Code::OutOfRange));
    assert_eq!(wire("Time", Scalar::Text("-00:00:01")), Ok(vec![255; 4]));
    assert_eq!(wire("Time64(3)", number("1.5")), Ok(1500i64.to_le_bytes().to_vec()));
    assert_eq!(wire("Time", Scalar::Text("1000:00:00")), Err(Code::TypeMismatch));
    assert_eq!(wire("Time", number("3600000")), Err(Code::OutOfRange));
}

#[test]
fn cut_digits_are_reported() {
    let column_type = ColumnType::parse("DateTime64(3)", "UTC").unwrap();
    for (text, expected) in [("2024-10-27T03:33:20.123Z", false), ("2024-10-27T03:33:20.1234Z", true)] {
        let mut context = DecodeContext::default();
        let mut column = Column::new(&column_type, false);
        put(&mut column, &column_type.kind, Scalar::Text(text), &mut context).unwrap();
        assert_eq!(context.was_truncated, expected, "{text}");
    }
}

#[test]
fn enums_take_names_and_numbers_that_exist() {
    let name = "Enum8('off' = 0, 'on' = 1, 'broken' = -1)";
    assert_eq!(wire(name, Scalar::Text("broken")), Ok(vec![255]));
    assert_eq!(wire(name, number("1")), Ok(vec![1]));
    assert_eq!(wire(name, number("-1")), Ok(vec![255]));
    assert_eq!(wire(name, number("7")), Err(Code::TypeMismatch));
    assert_eq!(wire(name, Scalar::Text("On")), Err(Code::TypeMismatch));
}

#[test]
fn digits_alone_are_a_time_by_their_number() {
    let day = 20_787u16.to_le_bytes().to_vec();
    let midnight = 1_795_996_800u32.to_le_bytes().to_vec();
    assert_eq!(wire("Date", Scalar::Text("20261130")), Ok(day));
    assert_eq!(wire("DateTime", Scalar::Text("20261130")), Ok(midnight));
    assert_eq!(wire("DateTime", Scalar::Text("20261130120000")), Ok(1_796_040_000u32.to_le_bytes().to_vec()));
    assert_eq!(wire("DateTime", Scalar::Text("99999999")), Err(Code::TypeMismatch));
    // A number has the unit of the column, and so has a text where one is given.
    assert_eq!(wire("DateTime", number("20261130")), Ok(20_261_130u32.to_le_bytes().to_vec()));
    let column_type = ColumnType::parse("DateTime", "UTC").unwrap();
    let mut column = Column::new(&column_type, false);
    let mut context = DecodeContext { unit: crate::config::Unit::Seconds, ..DecodeContext::default() };
    put(&mut column, &column_type.kind, Scalar::Text("20261130"), &mut context).unwrap();
    let mut data = Vec::new();
    column.encode(&mut data);
    assert_eq!(data, 20_261_130u32.to_le_bytes());
}

#[test]
fn a_number_is_a_flag_or_an_enum_however_it_is_written() {
    let name = "Enum8('off' = 0, 'on' = 1, 'low' = 10)";
    for text in ["1", "1.0", "1e0", "10e-1"] {
        assert_eq!(wire("Bool", number(text)), Ok(vec![1]), "{text}");
        assert_eq!(wire(name, number(text)), Ok(vec![1]), "{text}");
    }
    for text in ["0", "0.0", "-0", "0e5"] {
        assert_eq!(wire("Bool", number(text)), Ok(vec![0]), "{text}");
        assert_eq!(wire(name, number(text)), Ok(vec![0]), "{text}");
    }
    assert_eq!(wire("Bool", number("1e1")), Err(Code::OutOfRange));
    assert_eq!(wire(name, number("1e1")), Ok(vec![10]));
    assert_eq!(wire("Bool", number("0.5")), Err(Code::OutOfRange));
    assert_eq!(wire("Bool", number("-1")), Err(Code::OutOfRange));
    assert_eq!(wire(name, number("1.5")), Err(Code::TypeMismatch));
    for (texts, flag) in
        [(["on", "YES", "Enabled", "True", "1"], 1), (["off", "No", "DISABLED", "false", "0"], 0)]
    {
        for text in texts {
            assert_eq!(wire("Bool", Scalar::Text(text)), Ok(vec![flag]), "{text}");
        }
    }
    assert_eq!(wire("Bool", Scalar::Text("maybe")), Err(Code::TypeMismatch));
}

#[test]
fn a_float_of_a_binary_format_is_the_number_that_it_says() {
    assert_eq!(wire("UInt64", Scalar::Float(4_294_967_296.0)), Ok(4_294_967_296u64.to_le_bytes().to_vec()));
    assert_eq!(wire("Int8", Scalar::Float(-5.0)), Ok(vec![251]));
    assert_eq!(wire("Int8", Scalar::Float(0.5)), Err(Code::TypeMismatch));
    assert_eq!(wire("Int8", Scalar::Float(300.0)), Err(Code::OutOfRange));
    assert_eq!(wire("Decimal(9, 2)", Scalar::Float(0.29)), Ok(29i32.to_le_bytes().to_vec()));
    assert_eq!(wire("String", Scalar::Float(21.5)), Ok(b"\x0421.5".to_vec()));
    assert_eq!(wire("String", Scalar::Float(1e300)), Ok(b"\x051e300".to_vec()));
    assert_eq!(wire("Float64", Scalar::Float(f64::NAN)), Ok(f64::NAN.to_le_bytes().to_vec()));
    assert_eq!(wire("Float32", Scalar::Float(1e39)), Err(Code::OutOfRange));
    assert_eq!(wire("Bool", Scalar::Float(1.0)), Ok(vec![1]));
    assert_eq!(
        wire("DateTime64(3)", Scalar::Float(1_730_000_000.123)),
        Ok(1_730_000_000_123i64.to_le_bytes().to_vec())
    );
    assert_eq!(wire("FixedString(2)", Scalar::Bytes(&[255, 0])), Ok(vec![255, 0]));
    assert_eq!(wire("Int8", Scalar::Bytes(&[1])), Err(Code::TypeMismatch));
}
