//! Bytes that change on the disk: found, told of, put quarantined, and no loss of others.

use std::collections::BTreeSet;
use std::time::Instant;

use millrace::spool::{Log, Recovered, inspect};

use super::random::Random;
use super::records::{key, options, record};
use super::simulated::Simulated;

const RECORDS: u32 = 6;

/// A log of two streams that was closed, with the same bytes each time.
fn closed() -> (Simulated, String) {
    let disk = Simulated::new(1);
    let (mut log, _) = Log::open(disk.clone(), options(1), Instant::now()).unwrap();
    for key in 0..RECORDS {
        log.append(record(key, key % 2, 30), Instant::now());
        if key % 3 == 2 {
            log.commit().unwrap();
        }
    }
    log.close().unwrap();
    let name = disk.contents().into_keys().next().unwrap();
    (disk, name)
}

/// Opens it and takes all there is.
fn recover(disk: &Simulated) -> (Recovered, BTreeSet<u32>) {
    let (mut log, recovered) = Log::open(disk.clone(), options(2), Instant::now()).unwrap();
    log.commit().unwrap();
    let mut keys = BTreeSet::new();
    while let Some(insert) = log.take(Instant::now(), true).unwrap() {
        for taken in &insert.records {
            assert_eq!(**taken, record(key(taken), key(taken) % 2, 30));
            assert!(keys.insert(key(taken)));
        }
        log.done(insert.id);
    }
    assert_eq!(log.take_damages(), []);
    (recovered, keys)
}

#[test]
fn every_flipped_byte_is_found_and_costs_one_record() {
    let (disk, name) = closed();
    let bytes = disk.contents()[&name].clone();
    let (recovered, keys) = recover(&disk);
    assert_eq!((recovered.records, recovered.torn.len(), recovered.damages.len()), (6, 0, 0));
    assert_eq!(keys, (0..RECORDS).collect());

    let end = bytes.len() - 40;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let (disk, name) = closed();
            disk.change(&name, |bytes| bytes[at] ^= flip);
            let (recovered, keys) = recover(&disk);
            if at >= end {
                // Only the word that nothing follows is lost.
                assert_eq!((recovered.damages.len(), recovered.torn.len()), (0, 1), "byte {at}");
                assert_eq!(keys, (0..RECORDS).collect());
                continue;
            }
            assert_eq!((recovered.damages.len(), recovered.torn.len()), (1, 0), "byte {at}");
            assert_eq!(keys.len() as u32, RECORDS - 1, "byte {at}");
            let damage = &recovered.damages[0];
            let place = damage.at as usize..damage.at as usize + damage.len;
            assert!(place.contains(&at));
            let mut quarantined = disk.contents()[&damage.file].clone();
            quarantined[at - place.start] ^= flip;
            assert_eq!(quarantined, bytes[place]);
        }
    }
}

#[test]
fn whatever_is_done_to_a_segment_nothing_false_comes_out_of_it() {
    for seed in 0..5000 {
        let mut random = Random::new(seed);
        let (disk, name) = closed();
        for _ in 0..1 + random.below(4) {
            disk.change(&name, |bytes| {
                let from = random.below(bytes.len() + 1);
                let to = from + random.below(bytes.len() - from + 1);
                match random.below(5) {
                    0 => bytes[from..to].fill(0),
                    1 => bytes[from..to].iter_mut().for_each(|byte| *byte = random.next() as u8),
                    2 => drop(bytes.drain(from..to)),
                    3 => bytes.extend_from_within(from..to),
                    _ => drop(bytes.splice(from..from, (from..to).map(|at| at as u8))),
                }
            });
        }
        // It compares each record with what was written, and takes none twice.
        recover(&disk);
    }
}

#[test]
fn damage_is_told_of_once() {
    let (disk, name) = closed();
    disk.change(&name, |bytes| bytes[50] ^= 1);
    let open = |life| Log::open(disk.clone(), options(life), Instant::now()).unwrap().1;
    assert_eq!(open(2).damages.len(), 1);
    assert_eq!(open(3).damages, []);
}

#[test]
fn a_tail_that_was_cut_off_anywhere_is_no_damage() {
    let (disk, name) = closed();
    let len = disk.contents()[&name].len();
    for cut in 0..len {
        let (disk, name) = closed();
        disk.change(&name, |bytes| bytes.truncate(cut));
        let (recovered, keys) = recover(&disk);
        assert_eq!(recovered.damages, [], "cut at {cut}");
        assert_eq!(keys, (0..keys.len() as u32).collect(), "cut at {cut}");
    }
}

#[test]
fn what_changes_while_the_log_is_open_is_put_aside_when_it_is_read() {
    let (disk, name) = closed();
    let (mut log, _) = Log::open(disk.clone(), options(2), Instant::now()).unwrap();
    disk.change(&name, |bytes| bytes[100] ^= 1);
    let insert = log.take(Instant::now(), true).unwrap().unwrap();
    assert_eq!(insert.records.iter().map(|record| key(record)).collect::<Vec<_>>(), [2, 4]);
    let damages = log.take_damages();
    assert_eq!((damages.len(), damages[0].sequence), (1, Some(0)));
    assert!(disk.contents().contains_key(&damages[0].file));
}

#[test]
fn a_segment_of_another_version_is_refused() {
    let (disk, name) = closed();
    disk.rename(&name, &name.replace(".v1", ".v2"));
    let error = Log::open(disk.clone(), options(2), Instant::now()).err().unwrap();
    assert_eq!(error.code(), "SPOOL_CORRUPT");
    assert!(error.to_string().contains("another version"), "{error}");
    assert!(inspect(&disk).is_err());
}

#[test]
fn an_inspection_tells_what_lies_there() {
    let (disk, name) = closed();
    disk.change(&name, |bytes| bytes[50] ^= 1);
    let before = disk.contents();
    let inspection = inspect(&disk).unwrap();
    assert_eq!((inspection.segments, inspection.bytes), (1, before[&name].len() as u64));
    let records: Vec<_> =
        inspection.streams.iter().map(|backlog| (backlog.stream.connection, backlog.records)).collect();
    assert_eq!(records, [(1, 3), (0, 2)]);
    assert_eq!(inspection.streams[0].oldest, record(1, 1, 30).received_at);
    assert_eq!((inspection.damages.len(), inspection.quarantined.len()), (1, 0));
    assert_eq!(disk.contents(), before);
    let (recovered, _) = recover(&disk);
    assert_eq!(inspect(&disk).unwrap().quarantined, [recovered.damages[0].file.clone()]);
}
