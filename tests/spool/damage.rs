//! Bytes that change on the disk, and files that vanish: found, reported, quarantined, and no loss of others.

use std::collections::BTreeSet;
use std::time::Instant;

use millrace::spool::{ChainBreak, Log, Missing, Recovered, inspect};

use super::random::Random;
use super::records::{key, options, record};
use super::simulated::Simulated;

const RECORDS: u32 = 6;
/// Bytes of a header, and so of the END entry.
const HEADER: usize = 40;
/// Bytes of a BEGIN entry.
const BEGIN: usize = HEADER + 24;

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
    let name = disk.segments().into_keys().next().unwrap();
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

/// The name of the newest state file.
fn state_file(disk: &Simulated) -> String {
    disk.contents().into_keys().rfind(|name| name.starts_with("state-")).unwrap()
}

#[test]
fn every_flipped_byte_is_found_and_costs_one_record() {
    let (disk, name) = closed();
    let bytes = disk.contents()[&name].clone();
    let (recovered, keys) = recover(&disk);
    assert_eq!((recovered.records, recovered.torn.len(), recovered.damages.len()), (6, 0, 0));
    assert_eq!((keys, recovered.missing), ((0..RECORDS).collect(), None));

    let records = BEGIN..bytes.len() - HEADER;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let (disk, name) = closed();
            disk.change(&name, |bytes| bytes[at] ^= flip);
            let (recovered, keys) = recover(&disk);
            assert_eq!((recovered.damages.len(), recovered.torn.len()), (1, 0), "byte {at}");
            assert_eq!(recovered.breaks, [], "byte {at}");
            let lost: Vec<u32> = (0..RECORDS).filter(|key| !keys.contains(key)).collect();
            let missing = Missing {
                records: lost.len() as u64,
                messages: lost.iter().map(|key| u64::from(*key)).sum(),
            };
            assert_eq!(recovered.missing, Some(missing), "byte {at}");
            assert_eq!(lost.len(), usize::from(records.contains(&at)), "byte {at}");
            let damage = &recovered.damages[0];
            let range = damage.at as usize..damage.at as usize + damage.len;
            assert!(range.contains(&at));
            let mut quarantined = disk.contents()[damage.file.as_ref().unwrap()].clone();
            quarantined[at - range.start] ^= flip;
            assert_eq!(quarantined, bytes[range]);
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
fn damage_is_reported_once() {
    let (disk, name) = closed();
    disk.change(&name, |bytes| bytes[150] ^= 1);
    let open = |life| Log::open(disk.clone(), options(life), Instant::now()).unwrap().1;
    let first = open(2);
    assert_eq!((first.damages.len(), first.missing.unwrap().records), (1, 1));
    let second = open(3);
    assert_eq!((second.damages, second.breaks, second.missing), (vec![], vec![], None));
}

#[test]
fn a_cut_of_synced_bytes_is_reported() {
    let (disk, name) = closed();
    let len = disk.contents()[&name].len();
    for cut in 0..len {
        let (disk, name) = closed();
        disk.change(&name, |bytes| bytes.truncate(cut));
        let (recovered, keys) = recover(&disk);
        let gone = ChainBreak { segment: name.clone(), at: cut as u64, len: (len - cut) as u64 };
        assert_eq!(recovered.breaks, [gone], "cut at {cut}");
        assert!(recovered.torn.is_empty() && recovered.damages.len() <= 1, "cut at {cut}");
        assert_eq!(keys, (0..keys.len() as u32).collect(), "cut at {cut}");
        assert_eq!(
            recovered.missing.unwrap().records,
            u64::from(RECORDS) - keys.len() as u64,
            "cut at {cut}"
        );
        let again = Log::open(disk, options(3), Instant::now()).unwrap().1;
        assert_eq!((again.breaks, again.damages), (vec![], vec![]), "cut at {cut}");
    }
}

#[test]
fn an_unsynced_tail_does_not_count_as_damage() {
    let (disk, name) = closed();
    let next = disk.contents()[&name][..100].to_vec();
    for len in 1..next.len() {
        let (disk, name) = closed();
        disk.change(&name, |bytes| bytes.extend(&next[..len]));
        let (recovered, keys) = recover(&disk);
        assert_eq!((recovered.damages, recovered.breaks, recovered.missing), (vec![], vec![], None));
        assert_eq!(keys, (0..RECORDS).collect());
    }
}

/// A log of several segments with 40 records, of which the first four are done.
fn log_of_several_segments() -> Simulated {
    let disk = Simulated::new(1);
    let (mut log, _) = Log::open(disk.clone(), options(1), Instant::now()).unwrap();
    for key in 0..40 {
        log.append(record(key, 0, 100), Instant::now());
        log.commit().unwrap();
    }
    let first = log.take(Instant::now(), true).unwrap().unwrap();
    assert_eq!(first.records.len(), 4);
    log.done(first.id);
    log.commit().unwrap();
    log.delete_obsolete().unwrap();
    disk
}

/// Takes all there is, and returns what was found and the keys that did not come.
fn recover_several(disk: &Simulated) -> (Recovered, BTreeSet<u32>) {
    let (mut log, recovered) = Log::open(disk.clone(), options(2), Instant::now()).unwrap();
    let mut lost: BTreeSet<u32> = (4..40).collect();
    loop {
        log.commit().unwrap();
        log.delete_obsolete().unwrap();
        let Some(insert) = log.take(Instant::now(), true).unwrap() else { break };
        insert.records.iter().for_each(|taken| assert!(lost.remove(&key(taken))));
        log.done(insert.id);
    }
    drop(log);
    let again = Log::open(disk.clone(), options(3), Instant::now()).unwrap().1;
    assert_eq!((again.damages, again.breaks, again.missing, again.records), (vec![], vec![], None, 0));
    (recovered, lost)
}

fn missing(keys: &BTreeSet<u32>) -> Option<Missing> {
    Some(Missing { records: keys.len() as u64, messages: keys.iter().map(|key| u64::from(*key)).sum() })
}

#[test]
fn a_segment_that_is_removed_emptied_or_halved_is_noticed_wherever_it_is() {
    let names: Vec<String> = log_of_several_segments().segments().into_keys().collect();
    assert!(names.len() > 5);
    let (recovered, lost) = recover_several(&log_of_several_segments());
    assert_eq!((recovered.breaks, recovered.missing, lost.len()), (vec![], None, 0));
    for name in &names {
        let disk = log_of_several_segments();
        let bytes = disk.contents()[name].len() as u64;
        disk.delete(name);
        let (recovered, lost) = recover_several(&disk);
        assert_eq!(recovered.breaks.len(), 1, "{name} removed");
        assert!(name.starts_with(&recovered.breaks[0].segment));
        assert_eq!((recovered.breaks[0].at, recovered.breaks[0].len), (0, bytes));
        assert_eq!(recovered.missing, missing(&lost), "{name} removed");

        let disk = log_of_several_segments();
        disk.change(name, |bytes| bytes.clear());
        let (recovered, lost) = recover_several(&disk);
        let gone = ChainBreak { segment: name.clone(), at: 0, len: bytes };
        assert_eq!((recovered.breaks, recovered.missing), (vec![gone], missing(&lost)), "{name} emptied");

        let disk = log_of_several_segments();
        disk.change(name, |content| content.truncate(bytes as usize / 2));
        let (recovered, lost) = recover_several(&disk);
        assert_eq!(recovered.breaks.len(), 1, "{name} halved");
        assert_eq!(recovered.missing, missing(&lost), "{name} halved");
        assert!(recovered.torn.is_empty());
    }
}

#[test]
fn all_segments_removed_are_noticed() {
    let disk = log_of_several_segments();
    disk.segments().keys().for_each(|name| disk.delete(name));
    let (recovered, lost) = recover_several(&disk);
    assert_eq!((recovered.breaks.len(), recovered.missing), (1, missing(&(4..40).collect())));
    assert_eq!(lost.len(), 36);
}

#[test]
fn a_segment_with_other_content_of_the_same_length_is_noticed() {
    let (disk, name) = closed();
    disk.change(&name, |bytes| {
        // The last record replaces the one before it.
        let entry = (bytes.len() - HEADER - BEGIN) / RECORDS as usize;
        let last = bytes.len() - HEADER - entry;
        bytes.copy_within(last..last + entry, last - entry);
    });
    let (recovered, keys) = recover(&disk);
    assert_eq!(recovered.breaks, [ChainBreak { segment: name, at: 0, len: 0 }]);
    assert_eq!((keys, recovered.missing), (BTreeSet::from([0, 1, 2, 3, 5]), missing(&BTreeSet::from([4]))));
}

#[test]
fn a_state_file_that_is_removed_or_damaged_loses_nothing() {
    let disk = log_of_several_segments();
    disk.delete(&state_file(&disk));
    let (recovered, lost) = recover_several(&disk);
    assert_eq!((recovered.breaks.len(), recovered.missing, lost.len()), (1, None, 0));

    // One slot is enough.
    for at in 0..200 {
        for slot in [0, 32 << 10] {
            let disk = log_of_several_segments();
            let state = state_file(&disk);
            disk.change(&state, |bytes| bytes[slot + at] ^= 1);
            let records = Log::open(disk.clone(), options(2), Instant::now()).unwrap().1;
            assert_eq!((records.records, records.damages, records.breaks.len()), (36, vec![], 0));
        }
    }
}

#[test]
fn foreign_files_are_named_and_left_alone() {
    let (disk, _) = closed();
    for name in ["notes.txt", "segment", "state-1.v2", "lost+found"] {
        disk.touch(name);
    }
    let before = disk.contents();
    let foreign = ["notes.txt", "segment", "state-1.v2"];
    assert_eq!(inspect(&disk).unwrap().foreign, foreign);
    let (recovered, keys) = recover(&disk);
    assert_eq!((recovered.foreign, keys.len()), (foreign.map(String::from).to_vec(), 6));
    assert!(foreign.iter().all(|name| disk.contents().get(*name) == before.get(*name)));
}

#[test]
fn bytes_that_change_while_the_log_is_open_are_quarantined_when_they_are_read() {
    let (disk, name) = closed();
    let (mut log, _) = Log::open(disk.clone(), options(2), Instant::now()).unwrap();
    disk.change(&name, |bytes| bytes[150] ^= 1);
    let insert = log.take(Instant::now(), true).unwrap().unwrap();
    assert_eq!(insert.records.iter().map(|record| key(record)).collect::<Vec<_>>(), [2, 4]);
    let damages = log.take_damages();
    assert_eq!((damages.len(), damages[0].sequence), (1, Some(0)));
    assert!(disk.contents().contains_key(damages[0].file.as_ref().unwrap()));
}

#[test]
fn a_segment_of_another_version_is_refused() {
    let (disk, name) = closed();
    disk.rename(&name, &name.replace(".v2", ".v3"));
    let error = Log::open(disk.clone(), options(2), Instant::now()).err().unwrap();
    assert_eq!(error.code(), "SPOOL_CORRUPT");
    assert!(error.to_string().contains("another version"), "{error}");
    assert!(inspect(&disk).is_err());
}

#[test]
fn an_inspection_lists_the_contents() {
    let (disk, name) = closed();
    disk.change(&name, |bytes| bytes[150] ^= 1);
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
    assert_eq!(inspect(&disk).unwrap().quarantined, [recovered.damages[0].file.clone().unwrap()]);
}
