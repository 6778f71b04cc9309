use super::*;

#[test]
fn wrappers_come_off() {
    for name in [
        "String",
        "LowCardinality(String)",
        "Nullable(String)",
        "LowCardinality(Nullable(String))",
        "SimpleAggregateFunction(anyLast, Nullable(String))",
    ] {
        let parsed = ColumnType::parse(name, "UTC").unwrap();
        assert!(matches!(parsed.kind, Kind::String), "{name}");
        assert_eq!(parsed.nullable, name.contains("Nullable"), "{name}");
        assert_eq!(parsed.inner_name, "String");
    }
}

#[test]
fn times_know_their_scale_and_zone() {
    let parsed = ColumnType::parse("Nullable(DateTime64(6, 'Europe/Berlin'))", "UTC").unwrap();
    assert!(matches!(parsed.kind, Kind::DateTime64 { scale: 6, zone: Zone::Named(_) }));
    assert_eq!(parsed.inner_name, "DateTime64(6, 'Europe/Berlin')");
    assert!(matches!(ColumnType::parse("DateTime", "UTC").unwrap().kind, Kind::DateTime { zone: Zone::Utc }));
    assert!(ColumnType::parse("DateTime('Mars/Olympus')", "UTC").unwrap_err().contains("Mars/Olympus"));
}

#[test]
fn enums_know_their_names() {
    let parsed = ColumnType::parse("Enum8('a' = 1, 'it\\'s (' = -3)", "UTC").unwrap();
    let Kind::Enum8(names) = parsed.kind else { panic!("not an Enum8") };
    assert_eq!((names.number("it's ("), names.first()), (Some(-3), -3));
    assert!(matches!(ColumnType::parse("Enum16('a' = 1)", "UTC").unwrap().kind, Kind::Enum16(_)));
}

#[test]
fn a_block_carries_what_converts_by_itself() {
    for (name, wire) in [
        ("Array(LowCardinality(Nullable(String)))", "Array(Nullable(String))"),
        ("Map(LowCardinality(String), Array(UInt8))", "Map(String, Array(UInt8))"),
        ("Tuple(a LowCardinality(String), `b c` Point)", "Tuple(`a` String, `b c` Point)"),
        ("Nested(a UInt8, b String)", "Array(Tuple(`a` UInt8, `b` String))"),
        ("Array(Polygon)", "Array(Polygon)"),
        ("JSON(a.b UInt32, max_dynamic_paths = 8)", "JSON(a.b UInt32, max_dynamic_paths = 8)"),
        ("Decimal(9, 2)", "Decimal(9, 2)"),
        ("Variant(Array(UInt8), String)", "Variant(Array(UInt8), String)"),
    ] {
        assert_eq!(ColumnType::parse(name, "UTC").unwrap().wire_name(), wire);
    }
}

#[test]
fn widths_are_those_of_the_wire() {
    for (name, width) in [
        ("Int256", Some(32)),
        ("UInt128", Some(16)),
        ("Decimal(9, 2)", Some(4)),
        ("Decimal(39, 2)", Some(32)),
        ("FixedString(5)", Some(5)),
        ("Time64(3)", Some(8)),
        ("Array(UInt8)", None),
    ] {
        assert_eq!(ColumnType::parse(name, "UTC").unwrap().kind.width(), width, "{name}");
    }
}

#[test]
fn an_unsupported_type_is_an_error_with_advice() {
    let advice = |name: &str| ColumnType::parse(name, "UTC").unwrap_err();
    assert!(advice("Tuple(AggregateFunction(sum, UInt64))").contains("materialized view"));
    assert!(advice("Array(AggregateFunction(sum, UInt64))").contains("materialized view"));
    assert!(advice("NoSuchType").contains("DEFAULT"));
    assert!(advice("DateTime64(10)").contains("not understood"));
    assert!(advice("Variant(Array(LowCardinality(String)), UInt8)").contains("plain type"));
}

#[test]
fn a_column_of_states_has_the_type_of_its_values() {
    let of = |name: &str| ColumnType::parse_column(name, "UTC").unwrap();
    for (name, values) in [
        ("AggregateFunction(avg, Float64)", "Float64"),
        ("AggregateFunction(uniq, LowCardinality(String))", "String"),
        ("AggregateFunction(1, sumMap, Array(UInt8), Array(UInt64))", "Tuple(Array(UInt8), Array(UInt64))"),
        ("AggregateFunction(argMax, Float64, DateTime)", "Tuple(Float64, DateTime)"),
        ("AggregateFunction(sum, Nullable(UInt8))", "Nullable(UInt8)"),
        ("AggregateFunction(count)", "Nullable(Bool)"),
    ] {
        let column_type = of(name);
        assert_eq!(column_type.wire_name(), values, "{name}");
        assert!(column_type.aggregate.is_some(), "{name}");
    }
    assert!(of("SimpleAggregateFunction(sum, UInt64)").aggregate.is_none());
    assert!(
        ColumnType::parse_column("Array(AggregateFunction(max, UInt8))", "UTC").unwrap_err().contains("view")
    );
}
