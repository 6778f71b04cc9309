//! The INSERT statements of a table: the ordinary one, and the one that inserts the rows that a crash
//! of ClickHouse lost.

use super::{ColumnRow, Table, TableColumn};
use crate::clickhouse::aggregate::Aggregate;
use crate::clickhouse::quote;

/// An INSERT of only those rows of its blocks that the table does not have.
///
/// A plain MergeTree notes a token before the part is in its place. If the server ends in between, it confirms the token
/// afterwards and the rows are not there. Rows are compared by their bytes, with those in parts that have been written since
/// a time: what came at that time or later is in no others, also if they were merged.
#[derive(Debug, Clone)]
pub struct RepairSql {
    before: String,
}

impl RepairSql {
    /// The statement for rows that were sent at most `seconds` ago.
    pub fn statement(&self, seconds: u64) -> String {
        format!("{}{seconds})) FORMAT Native", self.before)
    }
}

/// Types without a byte form of their own, because they hold values of several types.
const OF_MANY_TYPES: [&str; 4] = ["JSON", "Dynamic", "Variant", "Object"];

impl Table {
    /// ClickHouse computes the DEFAULT of a column that gets NULL, unless the column can hold NULL itself. A table with
    /// such a column is filled through a SELECT that puts the expression in place of NULL. So is one with states, which the SELECT
    /// makes of values.
    pub(super) fn is_filled_by_select(&self) -> bool {
        let is_computed = |column: &TableColumn| {
            column.column_type.aggregate.is_some()
                || (column.default.is_some() && (column.column_type.nullable || column.is_flagged()))
        };
        self.columns.iter().any(is_computed)
    }

    /// The INSERT statement for blocks that declare `heads`: the names and types of this table's columns, in order.
    pub fn insert_sql(&self, heads: &[(String, String)]) -> String {
        if !self.is_filled_by_select() {
            return format!("{}{} FORMAT Native", self.into(), settings_clause(&self.settings()));
        }
        format!("{} FORMAT Native", self.select_sql(heads))
    }

    /// The statement that inserts what the table lacks of such blocks. `None`: nothing of it is lost by this engine, or its
    /// columns cannot be compared.
    pub fn repair_sql(&self, heads: &[(String, String)]) -> Option<RepairSql> {
        if !self.may_lose_rows {
            return None;
        }
        let is_comparable = |column: &&TableColumn| {
            let type_name = self.type_name(column);
            column.default.is_none()
                && !column.is_ephemeral
                && !column.column_type.is_converted()
                && column.column_type.aggregate.is_none()
                && !OF_MANY_TYPES.iter().any(|part| type_name.contains(part))
        };
        let compared = self.columns.iter().filter(is_comparable).map(|column| quote(&column.name));
        let compared = compared.collect::<Vec<_>>().join(", ");
        if compared.is_empty() {
            return None;
        }
        let row = format!("cityHash64(formatRowNoNewline('RowBinary', {compared}))");
        let (database, name) = (escaped(&self.database), escaped(&self.name));
        // Parts that are known to be older are left out, not the others chosen: between the look at the list of parts and the one
        // at the table a merge can give rows to a part of another name.
        let before = format!(
            "{} WHERE {row} NOT IN (SELECT {row} FROM {}.{} WHERE _part NOT IN (SELECT name FROM system.parts WHERE \
             database = '{database}' AND table = '{name}' AND modification_time < now() - ",
            self.select_sql(heads),
            quote(&self.database),
            quote(&self.name),
        );
        Some(RepairSql { before })
    }

    fn into(&self) -> String {
        let names = self.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
        format!("INSERT INTO {}.{} ({names})", quote(&self.database), quote(&self.name))
    }

    fn settings(&self) -> Vec<&'static str> {
        match self.columns.iter().any(|column| column.column_type.is_converted()) {
            true => vec!["input_format_native_allow_types_conversion = 1"],
            false => Vec::new(),
        }
    }

    /// An INSERT of such blocks through a SELECT, without a format.
    fn select_sql(&self, heads: &[(String, String)]) -> String {
        let mut settings = self.settings();
        let values = self.values().map(|(_, value)| value).collect::<Vec<_>>().join(", ");
        let structure = structure(heads);
        settings.extend(suspicious_types(&structure));
        let (settings, structure) = (settings_clause(&settings), escaped(&structure));
        format!("{}{settings} SELECT {values} FROM input('{structure}')", self.into())
    }

    /// Each column, and the expression of its value in a row that was sent.
    fn values(&self) -> impl Iterator<Item = (&TableColumn, String)> {
        self.columns.iter().map(|column| {
            let name = quote(&column.name);
            if let Some(aggregate) = &column.column_type.aggregate {
                return (column, self.state(column, aggregate));
            }
            let value = match (&column.default, column.missing_flag(&self.columns)) {
                (Some(default), Some(flag)) => {
                    let type_name = escaped(self.type_name(column));
                    let sent = match column.column_type.is_converted() {
                        true => format!("CAST({name}, '{type_name}')"),
                        false => name,
                    };
                    format!("if({}, CAST({default}, '{type_name}'), {sent})", quote(&flag))
                }
                (Some(default), None) if column.column_type.nullable => format!("ifNull({name}, {default})"),
                _ => name,
            };
            (column, value)
        })
    }

    /// The state of the value that was sent. A missing one is its DEFAULT, or the state of no value.
    fn state(&self, column: &TableColumn, aggregate: &Aggregate) -> String {
        let name = quote(&column.name);
        let (type_name, state_type) = (self.type_name(column), Aggregate::state_type(self.type_name(column)));
        let cast = |state: &str| format!("CAST({state}, '{}')", escaped(&state_type));
        let missing = cast(&column.default.clone().unwrap_or_else(|| aggregate.empty_state()));
        let state = match (column.missing_flag(&self.columns), column.column_type.nullable) {
            (Some(flag), _) => format!("if({}, {missing}, {})", quote(&flag), cast(&aggregate.state(&name))),
            // The function itself passes over NULL.
            (None, true) if column.default.is_none() => cast(&aggregate.state(&name)),
            (None, true) => format!("if(isNull({name}), {missing}, {})", cast(&aggregate.state(&name))),
            (None, false) => {
                let state = cast(&aggregate.state(&format!("assumeNotNull({name})")));
                format!("if(isNull({name}), {missing}, {state})")
            }
        };
        if state_type == type_name { state } else { format!("CAST({state}, '{}')", escaped(type_name)) }
    }

    /// The query that gives for each row of such a block the number that an expression of the table's columns has. The block is
    /// the table `sent`.
    pub fn sent_sql(&self, expression: &str) -> String {
        let stored = self.values().map(|(column, value)| {
            let value = match (&column.default, column.missing_flag(&self.columns)) {
                // An INSERT leaves that to ClickHouse where the column cannot hold NULL.
                (Some(default), None) if column.column_type.aggregate.is_none() => {
                    format!("ifNull({}, {default})", quote(&column.name))
                }
                _ => value,
            };
            format!("CAST({value}, '{}') AS {}", escaped(self.type_name(column)), quote(&column.name))
        });
        let stored = stored.collect::<Vec<_>>().join(", ");
        // The expression may name columns that ClickHouse computes.
        let computed = self.described.iter().filter(|column| {
            column.default_kind == "MATERIALIZED" && expression.contains(column.name.as_str())
        });
        let computed = computed.map(|column| {
            let ColumnRow { name, column_type, default_expression, .. } = column;
            format!(", CAST({default_expression}, '{}') AS {}", escaped(column_type), quote(name))
        });
        let computed = computed.collect::<String>();
        format!(
            "SELECT {expression} FROM \
             (SELECT *{computed} FROM (SELECT {stored} FROM sent)) FORMAT RowBinary"
        )
    }

    /// The structure of that table, and what must be allowed for it.
    pub fn sent_structure(heads: &[(String, String)]) -> (String, Vec<(&'static str, &'static str)>) {
        let structure = structure(heads);
        let allowed = suspicious_types(&structure).filter_map(|setting| setting.split_once(" = ")).collect();
        (structure, allowed)
    }

    /// The type of a column as ClickHouse writes it.
    fn type_name<'a>(&'a self, column: &'a TableColumn) -> &'a str {
        let described = self.described.iter().find(|described| described.name == column.name);
        described.map_or(&column.column_type.inner_name, |described| &described.column_type)
    }
}

/// Types that the structure of an `input` may name only with a setting, as CREATE TABLE: the table has
/// them already, or a `Dynamic` is sent as one.
const SUSPICIOUS_TYPES: [(&str, &str); 2] = [
    ("FixedString(", "allow_suspicious_fixed_string_types = 1"),
    ("Variant(", "allow_suspicious_variant_types = 1"),
];

fn structure(heads: &[(String, String)]) -> String {
    let columns = heads.iter().map(|(name, column_type)| format!("{} {column_type}", quote(name)));
    columns.collect::<Vec<_>>().join(", ")
}

/// The settings that allow the types of a structure.
fn suspicious_types(structure: &str) -> impl Iterator<Item = &'static str> {
    SUSPICIOUS_TYPES.iter().filter(move |(part, _)| structure.contains(part)).map(|(_, setting)| *setting)
}

fn settings_clause(settings: &[&str]) -> String {
    if settings.is_empty() { String::new() } else { format!(" SETTINGS {}", settings.join(", ")) }
}

/// The text of a literal between `'` and `'`.
pub(in crate::clickhouse) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(heads: &[(&str, &str)]) -> Vec<(String, String)> {
        heads.iter().map(|(name, column_type)| (name.to_string(), column_type.to_string())).collect()
    }

    #[test]
    fn a_default_of_a_nullable_column_is_put_in_place_of_null() {
        let sent = heads(&[("a", "DateTime('UTC')"), ("b", "Nullable(Int8)")]);
        let a = ("a", "DateTime('UTC')", None);
        let plain = Table::of(&[a, ("b", "Int8", Some("7"))]);
        assert_eq!(plain.insert_sql(&sent), "INSERT INTO `d`.`t` (`a`, `b`) FORMAT Native");
        let nullable = Table::of(&[a, ("b", "Nullable(Int8)", Some("7"))]);
        assert_eq!(
            nullable.insert_sql(&sent),
            "INSERT INTO `d`.`t` (`a`, `b`) SELECT `a`, ifNull(`b`, 7) FROM \
             input('`a` DateTime(\\'UTC\\'), `b` Nullable(Int8)') FORMAT Native"
        );
    }

    #[test]
    fn a_default_of_a_list_is_asked_for_by_a_column_of_a_name_of_its_own() {
        let table = Table::of(&[("a", "Array(Int8)", Some("[7]")), ("missing a", "Int8", None)]);
        let sent = heads(&[("a", "Array(Int8)"), ("missing a", "Int8"), ("missing  a", "Bool")]);
        assert_eq!(
            table.insert_sql(&sent),
            "INSERT INTO `d`.`t` (`a`, `missing a`) SELECT \
             if(`missing  a`, CAST([7], 'Array(Int8)'), `a`), `missing a` FROM \
             input('`a` Array(Int8), `missing a` Int8, `missing  a` Bool') FORMAT Native"
        );
    }

    #[test]
    fn a_select_gives_what_the_table_has_and_may_take_what_it_may_have() {
        let table = Table::of(&[
            ("a", "Array(JSON(a LowCardinality(String)))", Some("[]")),
            ("b", "FixedString(300)", None),
        ]);
        let sent = heads(&[("a", "Array(JSON(a String))"), ("b", "FixedString(300)"), ("missing a", "Bool")]);
        assert_eq!(table.columns[0].column_type.wire_name(), "Array(JSON(a String))");
        assert_eq!(
            table.insert_sql(&sent),
            "INSERT INTO `d`.`t` (`a`, `b`) SETTINGS input_format_native_allow_types_conversion = 1, \
             allow_suspicious_fixed_string_types = 1 SELECT \
             if(`missing a`, CAST([], 'Array(JSON(a LowCardinality(String)))'), \
             CAST(`a`, 'Array(JSON(a LowCardinality(String)))')), `b` FROM \
             input('`a` Array(JSON(a String)), `b` FixedString(300), `missing a` Bool') FORMAT Native"
        );
    }

    #[test]
    fn states_are_made_of_the_values_that_are_sent() {
        let table = Table::of(&[
            ("a", "AggregateFunction(avg, Float64)", None),
            ("b", "AggregateFunction(sum, Nullable(UInt8))", None),
            ("c", "AggregateFunction(argMax, Float64, Date)", Some("made()")),
            ("d", "AggregateFunction(max, UInt8)", Some("made()")),
            ("e", "UInt8", None),
        ]);
        let sent = heads(&[
            ("a", "Nullable(Float64)"),
            ("b", "Nullable(UInt8)"),
            ("c", "Tuple(Float64, Date)"),
            ("e", "UInt8"),
        ]);
        let sql = table.insert_sql(&sent);
        for part in [
            "if(isNull(`a`), CAST(arrayReduce('avgState', CAST([], 'Array(Float64)')), 'AggregateFunction(avg, Float64)'), \
             CAST(initializeAggregation('avgState', CAST(assumeNotNull(`a`), 'Float64')), 'AggregateFunction(avg, Float64)'))",
            "CAST(initializeAggregation('sumState', CAST(`b`, 'Nullable(UInt8)')), 'AggregateFunction(sum, Nullable(UInt8))')",
            "if(`missing c`, CAST(made(), 'AggregateFunction(argMax, Float64, Date)'), CAST(initializeAggregation('argMaxState', \
             CAST(tupleElement(`c`, 1), 'Float64'), CAST(tupleElement(`c`, 2), 'Date')), 'AggregateFunction(argMax, Float64, Date)'))",
            "if(isNull(`d`), CAST(made(), 'AggregateFunction(max, UInt8)'),",
        ] {
            assert!(sql.contains(part), "{part}\n{sql}");
        }
        // A state cannot be compared with the value that was sent.
        let repair = table.repair_sql(&sent).unwrap().statement(1);
        assert!(repair.contains("WHERE cityHash64(formatRowNoNewline('RowBinary', `e`)) NOT IN"), "{repair}");
    }

    #[test]
    fn a_repair_inserts_what_recent_parts_do_not_have() {
        let sent = heads(&[("a", "UInt8"), ("b", "Nullable(Int8)"), ("c", "JSON")]);
        let table = Table::of(&[("a", "UInt8", None), ("b", "Int8", Some("7")), ("c", "JSON", None)]);
        assert_eq!(
            table.repair_sql(&sent).unwrap().statement(90),
            "INSERT INTO `d`.`t` (`a`, `b`, `c`) SELECT `a`, `b`, `c` \
             FROM input('`a` UInt8, `b` Nullable(Int8), `c` JSON') WHERE \
             cityHash64(formatRowNoNewline('RowBinary', `a`)) NOT IN \
             (SELECT cityHash64(formatRowNoNewline('RowBinary', `a`)) FROM `d`.`t` WHERE _part NOT IN \
             (SELECT name FROM system.parts WHERE database = 'd' AND table = 't' AND \
             modification_time < now() - 90)) FORMAT Native"
        );
        let defaults = Table::of(&[("a", "UInt8", Some("1"))]);
        assert!(defaults.repair_sql(&heads(&[("a", "Nullable(UInt8)")])).is_none());
    }

    #[test]
    fn the_partition_of_a_row_is_that_of_what_is_stored() {
        let mut table = Table::of(&[("a", "DateTime", None), ("b", "Date", Some("toDate(a)"))]);
        table.described.push(ColumnRow {
            name: "c".into(),
            column_type: "UInt8".into(),
            default_kind: "MATERIALIZED".into(),
            default_expression: "toDayOfWeek(a)".into(),
            comment: String::new(),
        });
        let stored =
            "SELECT CAST(`a`, 'DateTime') AS `a`, CAST(ifNull(`b`, toDate(a)), 'Date') AS `b` FROM sent";
        assert_eq!(
            table.sent_sql(&crate::clickhouse::partitions::expression("(b, c)")),
            format!(
                "SELECT cityHash64(formatRowNoNewline('RowBinary', (b, c))) FROM \
                 (SELECT *, CAST(toDayOfWeek(a), 'UInt8') AS `c` FROM ({stored})) FORMAT RowBinary"
            )
        );
        let (structure, allowed) =
            Table::sent_structure(&heads(&[("a", "DateTime"), ("d", "FixedString(300)")]));
        assert_eq!(structure, "`a` DateTime, `d` FixedString(300)");
        assert_eq!(allowed, [("allow_suspicious_fixed_string_types", "1")]);
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quote("a`b\\c"), "`a\\`b\\\\c`");
    }
}
