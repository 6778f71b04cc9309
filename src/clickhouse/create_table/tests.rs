use super::*;

/// The columns of one table: name, type, kind and expression of its default.
fn columns(list: &str) -> Vec<String> {
    let text = format!("CREATE TABLE t ({list}) ENGINE = MergeTree ORDER BY tuple()");
    let tables = created_tables("schema", &[text]).unwrap_or_else(|error| panic!("{list}: {error}"));
    let described = tables[0].columns.iter().map(|column| format!("{} {column}", column.name));
    described.collect()
}

fn error(text: &str) -> String {
    created_tables("schema", &[text.into()]).unwrap_err().to_string()
}

// As ClickHouse 26.7 has them in system.columns for the same lists.
#[test]
fn types_are_named_as_clickhouse_names_them() {
    for (list, expected) in [
        ("a text, b Json, c bool, d TIMESTAMP, e date", "a String|b JSON|c Bool|d DateTime|e Date"),
        ("a FLOAT, b REAL, c inet6, d Time64", "a Float32|b Float32|c IPv6|d Time64(3)"),
        ("a DOUBLE PRECISION, b INT UNSIGNED, c BIGINT SIGNED", "a Float64|b UInt32|c Int64"),
        ("a CHAR VARYING, b NATIONAL CHARACTER VARYING, c BINARY LARGE OBJECT", "a String|b String|c String"),
        ("a varchar(255), b INT(11) UNSIGNED, c BINARY(4)", "a String|b UInt32|c FixedString(4)"),
        (
            "a numeric(12,4), b fixed(3), c BYTE, d TINYINT UNSIGNED",
            "a Decimal(12, 4)|b Decimal(3, 0)|c Int8|d UInt8",
        ),
        ("a signed, b BIT, c YEAR, d Nullable (UInt8)", "a Int64|b UInt64|c UInt16|d Nullable(UInt8)"),
        (
            "a Decimal(10), b Decimal32(3), c Decimal256(2), d Decimal",
            "a Decimal(10, 0)|b Decimal(9, 3)|c Decimal(76, 2)|d Decimal(10, 0)",
        ),
        (
            "a DateTime('UTC'), b DateTime64, c DateTime32, d DateTime64(6,'UTC')",
            "a DateTime('UTC')|b DateTime64(3)|c DateTime|d DateTime64(6, 'UTC')",
        ),
        (
            "a Enum('k' = 300), b Enum8('a','b'), c Enum('a' = 2, 'b'), d Enum8('q' = -3)",
            "a Enum16('k' = 300)|b Enum8('a' = 1, 'b' = 2)|c Enum8('a' = 2, 'b' = 3)|d Enum8('q' = -3)",
        ),
        ("a Enum8('it\\'s' = 1, 'a,b' = 2)", "a Enum8('it\\'s' = 1, 'a,b' = 2)"),
        (
            "a Tuple(x UInt8, y Tuple(String, Int8)), b Tuple(`x y` UInt8, \"z\" Int8)",
            "a Tuple(x UInt8, y Tuple(String, Int8))|b Tuple(`x y` UInt8, z Int8)",
        ),
        (
            "b Map(String,Array(Nullable( UInt64 ))), c Tuple(Int8)",
            "b Map(String, Array(Nullable(UInt64)))|c Tuple(Int8)",
        ),
        (
            "a SimpleAggregateFunction(sum, UInt64), b AggregateFunction(quantiles(0.5, 0.9), UInt64)",
            "a SimpleAggregateFunction(sum, UInt64)|b AggregateFunction(quantiles(0.5,0.9), UInt64)",
        ),
        (
            "a Variant(UInt8, String, Array(String)), b Dynamic(max_types=4)",
            "a Variant(Array(String), String, UInt8)|b Dynamic(max_types=4)",
        ),
        (
            "a JSON(max_dynamic_paths=8, a.b UInt32, SKIP c, SKIP REGEXP 'x.*')",
            "a JSON(max_dynamic_paths=8, `a.b` UInt32, SKIP c, SKIP REGEXP 'x.*')",
        ),
        (
            "f Nested(x UInt8, `y z` LowCardinality(String)), r Nested(a Nested(b UInt8))",
            "f.x Array(UInt8)|f.y z Array(LowCardinality(String))|r.a Array(Nested(b UInt8))",
        ),
    ] {
        assert_eq!(columns(list).join("|"), expected, "{list}");
    }
}

#[test]
fn defaults_and_clauses_of_columns() {
    for (list, expected) in [
        (
            "a UInt8 NULL, b String NOT NULL DEFAULT 1, d Int8 MATERIALIZED 1+1",
            "a Nullable(UInt8)|b String DEFAULT 1|d Int8 MATERIALIZED 1+1",
        ),
        (
            "a UInt8 DEFAULT 1 NULL, b UInt8 DEFAULT NULL",
            "a Nullable(UInt8) DEFAULT 1|b Nullable(UInt8) DEFAULT NULL",
        ),
        (
            "a LowCardinality(Nullable(String)) DEFAULT NULL",
            "a LowCardinality(Nullable(String)) DEFAULT NULL",
        ),
        (
            "a String DEFAULT 'x' COMMENT 'c, d' CODEC(ZSTD(1)), d String CODEC(NONE)",
            "a String DEFAULT 'x'|d String",
        ),
        (
            "c UInt8 EPHEMERAL, e UInt8 EPHEMERAL 3 COMMENT 'x', f String ALIAS e",
            "c UInt8 EPHEMERAL defaultValueOfTypeName('UInt8')|e UInt8 EPHEMERAL 3|f String ALIAS e",
        ),
        (
            "c UInt8 EPHEMERAL COMMENT 'x', d UInt8",
            "c UInt8 EPHEMERAL defaultValueOfTypeName('UInt8')|d UInt8",
        ),
        (
            "comment String DEFAULT comment2, comment2 String COMMENT 'x'",
            "comment String DEFAULT comment2|comment2 String",
        ),
        (
            "a DateTime TTL a + INTERVAL 1 DAY, b UInt8 DEFAULT CAST(1 AS UInt8) TTL a + toIntervalDay(1)",
            "a DateTime|b UInt8 DEFAULT CAST(1 AS UInt8)",
        ),
        (
            "a UInt8 DEFAULT if(1 > 0, 2, 3) COMMENT 'it''s', b Bool DEFAULT x IS NOT NULL, x Int8",
            "a UInt8 DEFAULT if(1 > 0, 2, 3)|b Bool DEFAULT x IS NOT NULL|x Int8",
        ),
        (
            "a String DEFAULT $x$ab, c$x$, b Array(UInt8) DEFAULT [1, 2], c UInt8",
            "a String DEFAULT $x$ab, c$x$|b Array(UInt8) DEFAULT [1, 2]|c UInt8",
        ),
        (
            "\"a b\" UInt8, `c``d` UInt8, `n.z` Array(UInt8), primary UInt8, ttl UInt8, default UInt8",
            "a b UInt8|c`d UInt8|n.z Array(UInt8)|primary UInt8|ttl UInt8|default UInt8",
        ),
        (
            "a UInt8, CONSTRAINT c CHECK a > 0, INDEX i (a, 1) TYPE bloom_filter(0.1) GRANULARITY 1, PROJECTION p (SELECT a ORDER BY a), PRIMARY KEY (a), b UInt8,",
            "a UInt8|b UInt8",
        ),
        ("a UInt8 # it's one\n, b UInt8 -- and another (\n /* c UInt8 */", "a UInt8|b UInt8"),
    ] {
        assert_eq!(columns(list).join("|"), expected, "{list}");
    }
}

#[test]
fn a_migration_has_other_statements() {
    let text = "
        CREATE DATABASE IF NOT EXISTS fleet;
        SET allow_experimental_x = 1;
        CREATE OR REPLACE TABLE fleet.`posi tions` ON CLUSTER '{cluster}' (a UInt8) ENGINE = Null;
        CREATE TABLE IF NOT EXISTS other UUID '00000000-0000-0000-0000-000000000001' (a UInt8) ENGINE = Memory AS SELECT 1;
        CREATE MATERIALIZED VIEW v TO other AS SELECT a FROM fleet.positions WHERE a > (SELECT 1; );
        ALTER TABLE other MODIFY TTL a + 1;
        INSERT INTO other VALUES (1), ('it''s');
        DROP TABLE IF EXISTS old";
    let tables = created_tables("schema", &[text.into()]).unwrap();
    let named: Vec<_> = tables.iter().map(|table| (table.database.as_deref(), &*table.name)).collect();
    assert_eq!(named, [(Some("fleet"), "posi tions"), (None, "other")]);
    assert_eq!(find(&tables, "fleet", "posi tions").unwrap().name, "posi tions");
    assert!(find(&tables, "default", "posi tions").is_none());
    assert!(find(&tables, "any", "other").is_some());
}

#[test]
fn errors_say_the_line_and_the_column() {
    for (text, expected) in [
        (
            "CREATE TABLE t (\n  a UInt8\n  b UInt8) ENGINE = Memory",
            "schema: line 3, column 3: a comma, or the ) that ends the columns, is expected here, not b",
        ),
        (
            "CREATE TABLE t (a UInt8",
            "line 1, column 24: a comma, or the ) that ends the columns, is expected here, not the end",
        ),
        ("CREATE TABLE t (a DEFAULT 1)", "line 1, column 19: the column a has no type"),
        ("CREATE TABLE t (a uint8)", "line 1, column 19: uint8 is no type: it is written UInt8"),
        (
            "CREATE TABLE t AS other",
            "line 1, column 16: the list of the table's columns, from ( on, is expected here, not AS",
        ),
        (
            "CREATE TABLE {db:Identifier}.t (a UInt8)",
            "line 1, column 14: the name of the table is expected here, not {",
        ),
        ("CREATE TABLE t ()", "line 1, column 1: the table has no columns"),
        ("CREATE TABLE t (a UInt8, a Int8)", "line 1, column 26: there is a column a already"),
        (
            "CREATE TABLE t (a Enum8(1 = 2))",
            "line 1, column 25: a name of the enum in single quotes is expected here, not 1",
        ),
        (
            "CREATE TABLE t (a Array(UInt8) NULL)",
            "line 1, column 19: Array(UInt8) cannot be NULL in this way",
        ),
        ("CREATE TABLE t (a Nullable(", "line 1, column 28: a type is expected here, not the end"),
        (
            "CREATE TABLE t (a UInt8);\nALTER TABLE t ADD COLUMN b UInt8",
            "line 2, column 1: a change of a table is not followed",
        ),
        (
            "CREAT TABLE t (a UInt8)",
            "line 1, column 1: a statement, such as CREATE TABLE, is expected here, not CREAT",
        ),
        ("CREATE TABLE t (é String, b 'x')", "line 1, column 29: a type is expected here, not 'x'"),
        ("CREATE TABLE t (a String DEFAULT 'x)", "line 1, column 34: this ' is not closed"),
        (
            "CREATE TABLE t (a UInt8); CREATE TABLE t (a UInt8)",
            "line 1, column 27: the table t is created twice",
        ),
    ] {
        let message = error(text);
        assert!(message.contains(expected), "{text}\n{message}");
    }
    let deep = format!("CREATE TABLE t (a {}UInt8{})", "Array(".repeat(5000), ")".repeat(5000));
    assert!(error(&deep).contains("types are nested too deeply"));
    let second = created_tables("schema", &["CREATE TABLE t (a UInt8)".into(), "x".into()]).unwrap_err();
    assert_eq!((second.code(), second.path()), ("SCHEMA_INVALID", Some("schema[1]")));
}
