//! Faults of the disk, and tables that take no rows.

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
    let first = disk.segments();

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
fn an_unsynced_record_is_not_taken() {
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
    // The last one did not fit. Its INSERT waits for it, but others are sent; not even their DONE
    // entries find space.
    let mut keys = drain(&mut log);
    assert!(!keys.is_empty());
    assert!(log.commit().is_err());
    log.delete_obsolete().unwrap();
    log.commit().unwrap();
    keys.extend(drain(&mut log));
    assert_eq!(keys, (0..key).collect::<Vec<_>>());
}

/// Fills a disk with space for `room` bytes beyond the state file. Returns the number of records, the
/// last of which did not fit.
fn fill(disk: &Simulated, log: &mut Log<Simulated>, room: usize, streams: u32) -> u32 {
    disk.set_faults(Faults { one_in: None, room: Some(room) });
    let mut key = 0;
    while !log.is_full() {
        log.append(record(key, key % streams, 100), Instant::now());
        let _ = log.commit();
        key += 1;
    }
    key
}

#[test]
fn a_disk_that_is_smaller_than_a_segment_is_emptied_as_well() {
    for (room, streams) in [(5_000, 1), (5_000, 3), (150_000, 1), (600_000, 2)] {
        let disk = Simulated::new(1);
        let options = Options { segment_bytes: 64 << 20, max_bytes: 1 << 30, ..options(1) };
        let mut log = open(&disk, options);
        let mut taken = 0;
        for _ in 0..3 {
            let end = fill(&disk, &mut log, room, streams);
            let mut keys = Vec::new();
            for round in 0.. {
                assert!(
                    round < 100,
                    "room {room}: {} of {end}, {} segments, {} open, used {}",
                    keys.len(),
                    log.segments(),
                    log.open_records(),
                    disk.used()
                );
                if keys.len() == end as usize {
                    break;
                }
                keys.extend(drain(&mut log));
                let _ = log.commit();
                log.delete_obsolete().unwrap();
            }
            keys.sort();
            assert_eq!(keys, (0..end).collect::<Vec<_>>());
            assert!(!log.is_full(), "it takes again");
            taken += end;
        }
        assert!(taken as usize > room / 300, "{taken} records in all");
    }
}

#[test]
fn segments_of_a_small_disk_are_small_enough_that_room_comes_back() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, Options { segment_bytes: 64 << 20, max_bytes: 1 << 30, ..options(1) });
    fill(&disk, &mut log, 2 << 20, 1);
    assert!(log.segments() >= 6, "{} segments", log.segments());
    let before = disk.used();
    while disk.used() > before - (256 << 10) {
        let insert = log.take(Instant::now(), true).unwrap().unwrap();
        log.done(insert.id);
        let _ = log.commit();
        log.delete_obsolete().unwrap();
    }
    assert!(log.open_records() > 0, "room comes back before all is done");
}

#[test]
fn an_insert_done_on_a_full_disk_is_done_after_a_crash() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    fill(&disk, &mut log, 5_000, 1);
    // In the middle of a segment, which therefore stays.
    let (first, second) = (log.take(Instant::now(), true).unwrap().unwrap(), log.segments());
    log.done(first.id);
    assert!(log.commit().is_err());
    log.delete_obsolete().unwrap();
    assert_eq!(log.segments(), second);
    drop(log);
    disk.crash();
    let (mut log, recovered) = Log::open(disk.clone(), options(2), Instant::now()).unwrap();
    assert_eq!((recovered.damages, recovered.breaks), (vec![], vec![]));
    let next = log.take(Instant::now(), true).unwrap().unwrap();
    assert_eq!(key(&next.records[0]), first.records.len() as u32);
}

#[test]
fn a_full_disk_is_opened() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    let end = fill(&disk, &mut log, 5_000, 1);
    drop(log);
    disk.set_faults(Faults { one_in: None, room: Some(disk.used()) });
    let mut log = open(&disk, options(2));
    let mut keys = drain(&mut log);
    let _ = log.commit();
    log.delete_obsolete().unwrap();
    keys.extend(drain(&mut log));
    assert_eq!(keys, (0..end - 1).collect::<Vec<_>>());
    log.append(record(end, 0, 100), Instant::now());
    log.commit().unwrap();
}

#[test]
fn a_directory_that_is_gone_takes_nothing() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, options(1));
    log.append(record(0, 0, 50), Instant::now());
    log.commit().unwrap();
    disk.set_gone(true);
    assert!(!log.is_full(), "nobody has looked");
    assert!(log.check().is_err());
    assert!(log.is_full());
    let before = disk.contents();
    log.append(record(1, 0, 50), Instant::now());
    assert!(log.commit().is_err());
    log.delete_obsolete().unwrap();
    assert_eq!(disk.contents(), before);
    disk.set_gone(false);
    log.commit().unwrap();
    assert!(!log.is_full());
    assert_eq!(drain(&mut log), [0, 1]);
}

#[test]
fn a_segment_that_vanishes_while_it_is_written_is_noticed_before_the_next_acknowledgement() {
    let disk = Simulated::new(1);
    let mut log = open(&disk, Options { keep_bytes: 0, ..options(1) });
    log.append(record(0, 0, 50), Instant::now());
    log.commit().unwrap();
    disk.delete(disk.segments().first_key_value().unwrap().0);
    log.append(record(1, 1, 50), Instant::now());
    assert!(log.commit().is_err());
    log.commit().unwrap();
    assert_eq!(drain(&mut log), [1]);
    let damages = log.take_damages();
    assert_eq!((damages.len(), damages[0].sequence, &damages[0].file), (1, Some(0), &None));
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
    assert_eq!((disk.segments().len(), log.segments()), (1, 1));
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
