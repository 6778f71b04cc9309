//! The records of an INSERT, and the time when it is sent.

use std::time::{Duration, Instant};

use millrace::spool::{Insert, Log, Record};

use super::records::{key, options, record};
use super::simulated::Simulated;

fn keys(insert: Option<Insert>) -> Vec<u32> {
    insert.iter().flat_map(|insert| &insert.records).map(|record| key(record)).collect()
}

fn log_of(records: impl IntoIterator<Item = Record>, now: Instant) -> Log<Simulated> {
    let (mut log, _) = Log::open(Simulated::new(1), options(1), now).unwrap();
    for record in records {
        log.append(record, now);
    }
    log.commit().unwrap();
    log
}

#[test]
fn records_join_until_the_limit_or_their_time() {
    let now = Instant::now();
    // Records of 1, 2, 3, 1, 2 rows; an INSERT takes 8.
    let mut log = log_of((0..5).map(|key| record(key, 0, 10)), now);
    let first = log.take(now, false).unwrap().unwrap();
    assert_eq!(keys(Some(first.clone())), [0, 1, 2, 3]);
    log.done(first.id);
    assert!(log.take(now, false).unwrap().is_none());
    assert_eq!(log.due_at(now), Some(now + Duration::from_secs(1)));
    assert_eq!(keys(log.take(now + Duration::from_secs(1), false).unwrap()), [4]);
}

#[test]
fn an_insert_that_has_to_wait_takes_more() {
    let now = Instant::now();
    // Records of 1, 2, 3, 1, 2, 3 … rows; an INSERT takes 8, behind another 16.
    let mut log = log_of((0..12).map(|key| record(key, 0, 10)), now);
    for expected in [&[0, 1, 2, 3][..], &[4, 5, 6, 7, 8, 9, 10], &[11]] {
        let insert = log.take(now, true).unwrap().unwrap();
        log.done(insert.id);
        assert_eq!(keys(Some(insert)), expected);
    }
}

/// All records of an INSERT are in memory together, and their messages may be far more than their blocks.
#[test]
fn an_insert_takes_no_more_than_memory_has_for_it() {
    let (now, mut options) = (Instant::now(), options(1));
    options.insert.rows = 1000;
    options.insert.decoded_bytes = 500;
    let (mut log, _) = Log::open(Simulated::new(1), options, now).unwrap();
    // A frame says what it is when it is decompressed: 100 bytes each, and 20 of the block.
    let mut raw = vec![0; 25];
    raw[21..25].copy_from_slice(&100u32.to_le_bytes());
    for key in 0..10 {
        log.append(Record { raw: raw.clone().into(), ..record(key, 0, 10) }, now);
    }
    log.commit().unwrap();
    let mut taken = Vec::new();
    while let Some(bytes) = log.next_bytes(now, true) {
        let insert = log.take(now, true).unwrap().unwrap();
        log.done(insert.id);
        assert_eq!(bytes, insert.records.iter().map(|record| record.bytes()).sum::<usize>());
        taken.push(keys(Some(insert)));
    }
    assert_eq!(taken, [&[0, 1, 2, 3][..], &[4, 5, 6, 7], &[8, 9]]);
    assert_eq!(log.stored_bytes(), 0);
    log.commit().unwrap();
    assert_eq!(log.memory_bytes(), 0);
}

#[test]
fn an_insert_reaches_over_two_segments_at_most() {
    let (now, mut options) = (Instant::now(), options(1));
    options.insert.rows = 1000;
    let (mut log, _) = Log::open(Simulated::new(1), options, now).unwrap();
    for key in 0..40 {
        log.append(record(key, 0, 100), now);
        log.commit().unwrap();
    }
    let most = 2 * 40 / log.segments() + 1;
    while let Some(insert) = log.take(now, true).unwrap() {
        assert!(insert.records.len() <= most);
        log.done(insert.id);
    }
}

#[test]
fn a_lane_has_one_insert_out_and_others_do_not_wait_for_it() {
    let now = Instant::now();
    let mut log = log_of((0..12).map(|key| record(key, key % 2, 10)), now);
    let first = log.take(now, true).unwrap().unwrap();
    let other = log.take(now, true).unwrap().unwrap();
    assert_eq!((first.records[0].stream.connection, other.records[0].stream.connection), (0, 1));
    assert!(log.take(now, true).unwrap().is_none());
    log.done(other.id);
    let next = log.take(now, true).unwrap().unwrap();
    assert_eq!(next.records[0].stream.connection, 1);
    assert!(key(&next.records[0]) > key(other.records.last().unwrap()));
}

#[test]
fn another_statement_is_another_insert() {
    let now = Instant::now();
    let mut changed = record(1, 0, 10);
    changed.statement = "INSERT INTO t (a, b) FORMAT Native".into();
    let mut log = log_of([record(0, 0, 10), changed, record(2, 0, 10)], now);
    for key in 0..3 {
        let insert = log.take(now, true).unwrap().unwrap();
        log.done(insert.id);
        assert_eq!(keys(Some(insert)), [key]);
    }
}

#[test]
fn no_record_joins_a_taken_insert() {
    let now = Instant::now();
    let mut log = log_of([record(0, 0, 10)], now);
    let first = log.take(now, true).unwrap().unwrap();
    log.append(record(1, 0, 10), now);
    log.commit().unwrap();
    log.done(first.id);
    let second = log.take(now, true).unwrap().unwrap();
    assert_ne!(first.token, second.token);
    assert_eq!((keys(Some(first)), keys(Some(second))), (vec![0], vec![1]));
}

#[test]
fn no_record_joins_a_due_insert_though_it_must_still_be_synced() {
    let now = Instant::now();
    let mut log = log_of([], now);
    log.append(record(0, 0, 10), now);
    assert!(log.take(now, true).unwrap().is_none());
    let second = log.append(record(1, 0, 10), now);
    log.commit().unwrap();
    let first = log.take(now, true).unwrap().unwrap();
    log.done(first.id);
    assert_eq!(keys(Some(first)), [0]);
    assert_eq!(log.take(now, true).unwrap().unwrap().id, second);
}

#[test]
fn found_records_are_sent_before_new_ones() {
    let (now, disk) = (Instant::now(), Simulated::new(1));
    let (mut log, _) = Log::open(disk.clone(), options(1), now).unwrap();
    log.append(record(0, 0, 10), now);
    log.commit().unwrap();
    let token = log.take(now, true).unwrap().unwrap().token;
    drop(log);
    let (mut log, recovered) = Log::open(disk, options(2), now).unwrap();
    assert_eq!((recovered.records, recovered.rows, recovered.messages), (1, 1, 0));
    log.append(record(1, 0, 10), now);
    log.commit().unwrap();
    let found = log.take(now, false).unwrap().unwrap();
    assert_eq!((keys(Some(found.clone())), found.token), (vec![0], token));
    log.done(found.id);
    assert_eq!(keys(log.take(now, true).unwrap()), [1]);
}
