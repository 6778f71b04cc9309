//! Any content of a spool directory through recovery: no panic, no hang, nothing out twice, and damage reported once.
//!
//! Entries have valid checksums, so that what they say is read. An input is one item after another: a byte that says what it
//! is, three bytes of numbers, and a body. What is left at the end is the state file. `fuzz/fuzz_targets/spool.rs` looks for
//! inputs that are worse than random ones.

use std::collections::BTreeSet;
use std::time::Instant;

use millrace::spool::wal::storage::{Disk, DiskFile};
use millrace::spool::{Log, inspect};

use super::records;
use super::simulated::Simulated;

const MARKER: u64 = 0x0123_4567_89ab_cdef;

/// Bytes of an entry with valid checksums.
fn entry(kind: u8, sequence: u64, synced: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(MARKER.to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(synced.to_le_bytes());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Small numbers are frequent, large ones possible.
fn number(byte: u8) -> u64 {
    if byte > 250 { u64::MAX - u64::from(byte) } else { u64::from(byte) }
}

fn put(disk: &Simulated, name: &str, bytes: &[u8]) {
    if let Ok(mut file) = disk.create(name) {
        file.write(bytes).unwrap();
        file.sync().unwrap();
    }
    disk.sync_names().unwrap();
}

/// A directory that the input describes.
fn directory(mut input: &[u8]) -> Simulated {
    let disk = Simulated::new(1);
    let (mut segment, mut id) = (Vec::new(), 1);
    while let Some(([what, a, b, len], rest)) = input.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at((*len as usize).min(rest.len()));
        input = rest;
        match what % 9 {
            // A record as the log writes it.
            0 | 1 => {
                let mut valid = Vec::new();
                records::record(u32::from(*a), u32::from(b % 3), *len as usize).encode(
                    number(*b),
                    "token",
                    &mut valid,
                );
                segment.extend(entry(1, number(*a), 0, &valid));
            }
            kind @ 2..=6 => segment.extend(entry(kind - 1, number(*a), number(*b).wrapping_mul(8), body)),
            7 => segment.extend(body),
            _ => {
                let version = 1 + a % 2;
                put(&disk, &format!("segment-{id:010}-{MARKER:016x}.v{version}"), &segment);
                segment.clear();
                id =
                    if *b > 250 { u64::MAX - u64::from(*b) } else { id.saturating_add(1 + u64::from(b % 3)) };
            }
        }
    }
    put(&disk, &format!("segment-{id:010}-{MARKER:016x}.v2"), &segment);
    let mut state = vec![0; 4];
    state.extend((input.len() as u32 + 8).to_le_bytes());
    state.extend(input);
    let crc = crc32c::crc32c(&state[4..]).to_le_bytes();
    state[..4].copy_from_slice(&crc);
    state.resize(64 << 10, 0);
    put(&disk, "state-0000000001.v2", &state);
    disk
}

/// Recovers a directory, takes everything out of it, and recovers it again.
pub fn check(input: &[u8]) {
    let disk = directory(input);
    inspect(&disk).unwrap();
    let (mut log, recovered) = Log::open(disk.clone(), records::options(1), Instant::now()).unwrap();
    log.commit().unwrap();
    let mut taken = BTreeSet::new();
    while let Some(insert) = log.take(Instant::now(), true).unwrap() {
        assert!(taken.insert(insert.id), "{} came twice", insert.id);
        log.done(insert.id);
    }
    assert!(taken.len() as u64 <= recovered.records);
    for _ in 0..4 {
        log.commit().unwrap();
        log.delete_obsolete().unwrap();
    }
    assert_eq!(log.open_records(), 0);
    drop(log);
    let again = Log::open(disk, records::options(2), Instant::now()).unwrap().1;
    assert_eq!((again.records, again.damages, again.breaks, again.missing), (0, vec![], vec![], None));
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;

    #[test]
    fn a_directory_of_random_entries_is_recovered() {
        for seed in 0..3_000 {
            let mut random = Random::new(seed);
            let len = random.below(600);
            // Mostly small numbers: the same sequences and segments again and again.
            let small = 1 + random.below(255);
            let input: Vec<u8> = (0..len)
                .map(|_| if random.one_in(20) { random.next() as u8 } else { random.below(small) as u8 })
                .collect();
            let checked = std::panic::catch_unwind(|| super::check(&input));
            assert!(checked.is_ok(), "seed {seed}");
        }
    }
}
