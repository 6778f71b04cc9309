//! What the log does when the disk or a table does not take what it is given.

use std::time::Instant;

use millrace::spool::{Log, Options};

use super::records::{key, options, record};
use super::simulated::{Faults, Simulated};

const BROKEN: Faults = Faults { one_in: Some(1), room: None };

fn open(disk: &Simulated, options: Options) -> Log<Simulated> {
    Log::open(disk.clone(), options, Instant::now()).unwrap().0
}

/// Takes and settles all there is.
fn drain(log: &mut Log<Simulated>) -> Vec<u32> {
    let mut keys = Vec::new();
    while let Some(insert) = log.take(Instant::now(), true).unwrap() {
        keys.extend(insert.records.iter().map(|record| key(record)));
        log.done(insert.id);
    }
    keys.sort();
    keys
}

#[test]
fn after_a_failed_sync_all_is_written_to_another_segment() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    log.append(record(0, 0, 50), Instant::now());
    log.commit().unwrap();
    let first = disk.contents();

    disk.set_faults(BROKEN);
    log.append(record(1, 0, 50), Instant::now());
    assert!(log.commit().is_err());
    assert!(log.is_full(), "nothing more is taken");
    assert!(log.commit().is_err());

    disk.set_faults(Faults::default());
    log.commit().unwrap();
    assert!(!log.is_full());
    assert_eq!(log.segments(), 2);
    let (name, bytes) = first.first_key_value().unwrap();
    assert!(disk.contents()[name].starts_with(bytes));
    drop(log);
    disk.crash();
    let mut log = open(&disk, options(2));
    log.commit().unwrap();
    assert_eq!(drain(&mut log), [0, 1]);
}

#[test]
fn what_is_not_synced_is_not_taken() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    log.append(record(0, 0, 50), Instant::now());
    assert!(log.take(Instant::now(), true).unwrap().is_none());
    disk.set_faults(BROKEN);
    assert!(log.commit().is_err());
    assert!(log.take(Instant::now(), true).unwrap().is_none());
    disk.set_faults(Faults::default());
    log.commit().unwrap();
    assert!(log.take(Instant::now(), true).unwrap().is_some());
}

#[test]
fn a_log_that_is_full_takes_again_what_comes_when_it_has_been_emptied() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    for round in 0..3 {
        let mut key = round * 1000;
        let begin = key;
        while !log.is_full() {
            log.append(record(key, 0, 100), Instant::now());
            log.commit().unwrap();
            key += 1;
        }
        assert!(log.bytes() < options(1).max_bytes + 1000);
        assert_eq!(drain(&mut log), (begin..key).collect::<Vec<_>>());
        log.commit().unwrap();
        log.delete_obsolete().unwrap();
        assert!(!log.is_full());
    }
}

#[test]
fn a_disk_without_room_is_emptied_into_clickhouse() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    disk.set_faults(Faults { one_in: None, room: Some(5000) });
    let mut key = 0;
    while !log.is_full() {
        log.append(record(key, 0, 100), Instant::now());
        let _ = log.commit();
        key += 1;
    }
    // The last one did not fit. Its INSERT waits for it, but others go; not even the word that they are done finds room.
    let mut keys = drain(&mut log);
    assert!(!keys.is_empty());
    assert!(log.commit().is_err());
    log.delete_obsolete().unwrap();
    log.commit().unwrap();
    keys.extend(drain(&mut log));
    assert_eq!(keys, (0..key).collect::<Vec<_>>());
}

#[test]
fn attempts_on_a_broken_disk_leave_no_files_behind() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    log.append(record(0, 0, 100), Instant::now());
    disk.set_faults(Faults { one_in: None, room: Some(60) });
    for _ in 0..10 {
        assert!(log.commit().is_err());
        assert_eq!(disk.used(), 0);
    }
    disk.set_faults(Faults::default());
    log.commit().unwrap();
    assert_eq!((disk.contents().len(), log.segments()), (1, 1));
}

#[test]
fn a_table_that_takes_nothing_leaves_room_for_others() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    log.append(record(0, 0, 100), Instant::now());
    log.commit().unwrap();
    let stuck = log.take(Instant::now(), true).unwrap().unwrap();
    for key in 1..300 {
        assert!(!log.is_full());
        log.append(record(key, 1, 100), Instant::now());
        log.commit().unwrap();
        if key % 5 == 0 {
            drain(&mut log);
        }
        log.delete_obsolete().unwrap();
    }
    drain(&mut log);
    log.commit().unwrap();
    assert!(log.segments() <= 4, "{} segments", log.segments());
    drop(log);
    disk.crash();
    let (mut log, recovered) = Log::open(disk.clone(), options(2), Instant::now()).unwrap();
    assert_eq!((recovered.records, recovered.damages.len()), (1, 0));
    assert_eq!(log.oldest(), Some(record(0, 0, 100).received_at));
    assert_eq!(log.take(Instant::now(), true).unwrap().unwrap().token, stuck.token);
}
