use super::*;

#[test]
fn tables_beyond_a_number_are_counted_together() {
    let recorder = Recorder::new((0..MAX_TABLES + 500).map(|at| format!("t{at}")), 1);
    recorder.count_insert("t0", 1, 1);
    recorder.count_insert("t999", 2, 1);
    recorder.count_insert("t1000", 4, 1);
    recorder.count_insert("t1499", 8, 1);
    let metrics = recorder.snapshot("idle", Default::default(), &Ledger::default(), &MemoryBudget::new(1));
    assert_eq!(metrics.tables.len(), MAX_TABLES + 1);
    let rows = |table: &str| metrics.tables.get(table).map(|table| table.rows);
    assert_eq!((rows("t0"), rows("t999"), rows("t1000")), (Some(1), Some(2), None));
    assert_eq!((rows(OTHER_TABLES), metrics.tables[OTHER_TABLES].inserts), (Some(12), 2));
    let text = crate::telemetry::prometheus::text(&crate::telemetry::prometheus::families(
        "p", "node", &metrics, &recorder,
    ));
    let series = text.lines().filter(|line| line.starts_with("millrace_table_rows_total{")).count();
    assert_eq!(series, MAX_TABLES + 1);
}

#[test]
fn a_few_tables_have_no_others() {
    let recorder = Recorder::new(["a", "b", "a"].map(String::from), 1);
    assert!(recorder.table("a").is_some() && recorder.table("c").is_none());
}
