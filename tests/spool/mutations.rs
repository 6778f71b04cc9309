//! A directory of the spool in which one file is changed in any way: what is recovered, and what is said of it.
//!
//! The fuzz target `spool` and a test of seeds read the same bytes as a list of changes. Whatever they do:
//!
//! - Recovery ends without a panic, and so does what only looks.
//! - A record that is recovered has the bytes that were written, and each is recovered once.
//! - A record that was synced and not done is recovered, or its loss is reported: damaged bytes, or bytes that are gone.
//! - What is reported once is not reported again, and nothing more is lost by a second start.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Instant;

use millrace::spool::{Insert, Log, Recovered, inspect};

use super::records::{key, options, record};
use super::simulated::Simulated;

const RECORDS: u32 = 14;
const STREAMS: u32 = 2;
const BLOCK: usize = 60;

/// The bytes of each file of a directory, by name, and the keys of the records in it that are not done.
struct Directory {
    files: Vec<(String, Vec<u8>)>,
    open: BTreeSet<u32>,
}

/// A directory as two processes left it: several segments, INSERTs that are done, one that was divided between segments, and a
/// state file.
static DIRECTORY: LazyLock<Directory> = LazyLock::new(|| {
    let disk = Simulated::new(1);
    let now = Instant::now();
    let mut open = BTreeSet::new();
    for life in 1..=2 {
        let (mut log, _) = Log::open(disk.clone(), options(life), now).unwrap();
        log.commit().unwrap();
        for number in 0..RECORDS / 2 {
            let key = number + (life as u32 - 1) * RECORDS / 2;
            log.append(written(key), now);
            open.insert(key);
            if number % 2 == 1 {
                log.commit().unwrap();
                log.delete_obsolete().unwrap();
            }
            if number % 4 == 3
                && let Some(insert) = log.take(now, true).unwrap()
            {
                keys(&insert).for_each(|key| assert!(open.remove(&key)));
                log.done(insert.id);
            }
        }
        log.close().unwrap();
    }
    Directory { files: disk.contents().into_iter().collect(), open }
});

fn written(number: u32) -> millrace::spool::Record {
    record(number, number % STREAMS, BLOCK)
}

fn keys(insert: &Insert) -> impl Iterator<Item = u32> + '_ {
    insert.records.iter().map(|record| key(record))
}

/// Takes bytes of the input, and zeros behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % end
    }
}

/// Changes the directory as the input says, and starts from it twice.
pub fn check(input: &[u8]) {
    let Directory { files, open } = &*DIRECTORY;
    let mut input = Input(input);
    let disk = Simulated::new(1);
    let changed = &files[input.below(files.len())].0;
    for (name, bytes) in files {
        disk.touch(name);
        disk.change(name, |content| content.clone_from(bytes));
    }
    let segments: Vec<&(String, Vec<u8>)> =
        files.iter().filter(|(name, _)| name.starts_with("segment-")).collect();
    let mut is_deleted = false;
    while !input.0.is_empty() && !is_deleted {
        match input.below(8) {
            0 => {
                disk.delete(changed);
                is_deleted = true;
            }
            kind => {
                let other = &segments[input.below(segments.len())].1;
                disk.change(changed, |bytes| change(kind, bytes, other, &mut input));
            }
        }
    }

    inspect(&disk).map(drop).unwrap_or_default();
    let Ok((recovered, found)) = start(&disk, 3) else { return };
    let lost: Vec<&u32> = open.iter().filter(|key| !found.contains(key)).collect();
    let is_reported = !(recovered.damages.is_empty() && recovered.breaks.is_empty());
    assert!(lost.is_empty() || is_reported, "{lost:?} are lost without a word: {recovered:?}");
    let Ok((again, rest)) = start(&disk, 4) else { panic!("it starts once and not twice") };
    assert_eq!((again.damages.as_slice(), again.breaks.as_slice()), (&[][..], &[][..]), "reported once");
    assert!(rest.is_empty(), "{rest:?} are done");
}

fn change(kind: usize, bytes: &mut Vec<u8>, other: &[u8], input: &mut Input) {
    let from = input.below(bytes.len() + 1);
    let len = input.below(bytes.len() - from + 1);
    let range = from..from + len;
    match kind {
        1 => bytes.truncate(from),
        2 => bytes[range].fill(0),
        3 => drop(bytes.drain(range)),
        4 => bytes.extend_from_within(range),
        // Bytes of another segment, or of another place.
        5 => {
            let at = input.below(other.len());
            let piece = &other[at..(at + len).min(other.len())];
            drop(bytes.splice(from..from, piece.iter().copied()));
        }
        6 => {
            let piece: Vec<u8> = (0..input.below(64)).map(|_| input.byte()).collect();
            let end = (from + piece.len()).min(bytes.len());
            drop(bytes.splice(from..end, piece));
        }
        _ => {
            if let Some(byte) = bytes.get_mut(from) {
                *byte ^= input.byte();
            }
        }
    }
}

/// Opens the directory, and takes and settles all there is.
fn start(disk: &Simulated, life: u64) -> Result<(Recovered, BTreeSet<u32>), millrace::core::error::Error> {
    let (mut log, recovered) = Log::open(disk.clone(), options(life), Instant::now())?;
    log.commit().unwrap();
    let mut found = BTreeSet::new();
    while let Some(insert) = log.take(Instant::now(), true).unwrap() {
        for taken in &insert.records {
            assert_eq!(**taken, written(key(taken)), "other bytes than were written");
            assert!(found.insert(key(taken)), "it comes twice");
        }
        log.done(insert.id);
    }
    assert_eq!(log.take_damages(), [], "damage that the start had not found");
    log.close().unwrap();
    Ok((recovered, found))
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::check;

    #[test]
    fn whatever_is_done_to_one_file_nothing_is_lost_without_a_word() {
        match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
            Some(seed) => run(seed),
            None => (0..2_000).for_each(run),
        }
    }

    fn run(seed: u64) {
        let mut random = Random::new(seed);
        let input: Vec<u8> = (0..2 + random.below(40)).map(|_| random.next() as u8).collect();
        if std::panic::catch_unwind(|| check(&input)).is_err() {
            panic!("SEED={seed} repeats it");
        }
    }
}
