//! Stores how INSERTs that are too large were divided: a file beside the segments for each of them.
//!
//! Parts have tokens of their own. A process that is killed between two of them leaves some in, under
//! these tokens; the next one must send the same parts again, also if the undivided INSERT would
//! succeed by then. So a division is synced before its first part is attempted, and forgotten when it
//! is on disk that the INSERT is done.
//!
//! ```text
//! cuts-0000000007-0000000002.v2      the second division of the INSERT that began with record 7; the last valid one counts
//!
//!    0  u32  CRC32C of what follows
//!    4  u64  the INSERT
//!   12  u32  CRC32C of its token
//!   16  u32  number of parts
//!   20  u32  number of runs of messages; for each, in order, u32 how many, u32 the part that they are in, from 0
//! ```
//!
//! A part is made of runs: where a batch is divided by partition, its messages need not stand side by side.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Buf;

use crate::core::fs::sync_directory;
use crate::core::lock::lock;

/// The messages of one INSERT: ranges of their places, in order and apart.
pub type Part = Vec<Range<usize>>;

#[derive(Debug)]
pub struct Cuts {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<u64, Division>,
    /// INSERTs that are done, of which no commit has said so yet.
    done: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Division {
    serial: u64,
    token: u32,
    messages: usize,
    parts: Vec<Part>,
}

const PREFIX: &str = "cuts-";
const SUFFIX: &str = ".v2";

/// Whether a file of this name is one of these.
pub fn is_file_name(name: &str) -> bool {
    parse_name(name).is_some()
}

fn file_name(insert: u64, serial: u64) -> String {
    format!("{PREFIX}{insert:010}-{serial:010}{SUFFIX}")
}

fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (insert, serial) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((insert.parse().ok()?, serial.parse().ok()?))
}

impl Cuts {
    /// Reads what earlier processes divided, and removes the files of INSERTs that are not open any more.
    pub fn open(dir: &Path, is_open: impl Fn(u64) -> bool) -> Cuts {
        let mut known: HashMap<u64, Division> = HashMap::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some((insert, serial)) = name.to_str().and_then(parse_name) else { continue };
            if !is_open(insert) {
                // It is tried again at the next start.
                let _ = fs::remove_file(entry.path());
                continue;
            }
            let is_newer = known.get(&insert).is_none_or(|other| other.serial < serial);
            if is_newer
                && let Ok(bytes) = fs::read(entry.path())
                && let Some(division) = Division::decode(insert, serial, &bytes)
            {
                known.insert(insert, division);
            }
        }
        Cuts { dir: dir.into(), state: Mutex::new(State { known, done: Vec::new() }) }
    }

    pub fn has(&self, insert: u64) -> bool {
        self.lock().known.contains_key(&insert)
    }

    /// The parts of an INSERT of `messages` messages; `None` if it was never divided, or other messages
    /// are left of it.
    pub fn parts(&self, insert: u64, token: &str, messages: usize) -> Option<Vec<Part>> {
        let state = self.lock();
        let division = state.known.get(&insert)?;
        let is_same = division.token == crc32c::crc32c(token.as_bytes()) && division.messages == messages;
        is_same.then(|| division.parts.clone())
    }

    /// Notes how an INSERT is divided. When this has returned it is on disk.
    pub fn record(&self, insert: u64, token: &str, messages: usize, parts: &[Part]) -> io::Result<()> {
        let before = self.lock().known.get(&insert).map(|division| division.serial);
        let division = Division {
            serial: before.unwrap_or(0) + 1,
            token: crc32c::crc32c(token.as_bytes()),
            messages,
            parts: parts.to_vec(),
        };
        let path = self.dir.join(file_name(insert, division.serial));
        let mut file = File::create(&path)?;
        file.write_all(&division.encode(insert))?;
        file.sync_all()?;
        sync_directory(&self.dir)?;
        if let Some(before) = before {
            let _ = fs::remove_file(self.dir.join(file_name(insert, before)));
        }
        self.lock().known.insert(insert, division);
        Ok(())
    }

    /// An INSERT is done; the next commit says so.
    pub fn done(&self, insert: u64) {
        let mut state = self.lock();
        if state.known.contains_key(&insert) {
            state.done.push(insert);
        }
    }

    /// A commit has succeeded: what was done before it needs no division any more.
    pub fn committed(&self) {
        let mut state = self.lock();
        for insert in std::mem::take(&mut state.done) {
            if let Some(division) = state.known.remove(&insert) {
                let _ = fs::remove_file(self.dir.join(file_name(insert, division.serial)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Division {
    fn encode(&self, insert: u64) -> Vec<u8> {
        let in_part =
            |(at, part): (usize, &Part)| part.iter().map(move |run| (run.clone(), at)).collect::<Vec<_>>();
        let mut runs: Vec<_> = self.parts.iter().enumerate().flat_map(in_part).collect();
        runs.sort_unstable_by_key(|(run, _)| run.start);
        let mut out = vec![0; 4];
        out.extend(insert.to_le_bytes());
        out.extend(self.token.to_le_bytes());
        // An INSERT has at most a million rows, and a message one at least.
        out.extend((self.parts.len() as u32).to_le_bytes());
        out.extend((runs.len() as u32).to_le_bytes());
        for (run, part) in runs {
            out.extend((run.len() as u32).to_le_bytes());
            out.extend((part as u32).to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[4..]).to_le_bytes();
        out[..4].copy_from_slice(&crc);
        out
    }

    /// `None`: [`Division::encode`] did not write this for this INSERT.
    fn decode(insert: u64, serial: u64, mut bytes: &[u8]) -> Option<Division> {
        let bytes = &mut bytes;
        if bytes.try_get_u32_le().ok()? != crc32c::crc32c(bytes) || bytes.try_get_u64_le().ok()? != insert {
            return None;
        }
        let token = bytes.try_get_u32_le().ok()?;
        let [parts, runs] = [bytes.try_get_u32_le().ok()? as usize, bytes.try_get_u32_le().ok()? as usize];
        // Each part has a run, and each run eight bytes: nothing larger than the file is made.
        if parts > runs || bytes.len() != runs.checked_mul(8)? {
            return None;
        }
        let mut parts = vec![Part::new(); parts];
        let mut end: usize = 0;
        for _ in 0..runs {
            let (len, part) = (bytes.try_get_u32_le().ok()? as usize, bytes.try_get_u32_le().ok()? as usize);
            parts.get_mut(part)?.push(end..end.checked_add(len)?);
            end += len;
        }
        let is_whole = parts.iter().all(|part| !part.is_empty());
        is_whole.then_some(Division { serial, token, messages: end, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: Range<usize>) -> Part {
        vec![range]
    }

    #[test]
    fn the_last_division_is_found_until_its_insert_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let files = || fs::read_dir(dir.path()).unwrap().count();
        let cuts = Cuts::open(dir.path(), |_| true);
        cuts.record(7, "token", 10, &[part(0..5), part(5..10)]).unwrap();
        cuts.record(7, "token", 10, &[part(0..5), vec![5..7, 9..10], part(7..9)]).unwrap();
        cuts.record(8, "other", 2, &[part(0..1), part(1..2)]).unwrap();
        assert_eq!(files(), 2);
        let next = Cuts::open(dir.path(), |insert| insert == 7);
        assert_eq!(next.parts(7, "token", 10), Some(vec![part(0..5), vec![5..7, 9..10], part(7..9)]));
        assert_eq!((next.parts(7, "token", 9), next.parts(7, "tokem", 10)), (None, None));
        assert!(!next.has(8) && files() == 1, "of an INSERT that is not open");
        next.done(7);
        assert_eq!(files(), 1, "until a commit says that it is done");
        next.committed();
        assert_eq!((files(), next.has(7)), (0, false));
    }

    #[test]
    fn a_torn_file_does_not_count() {
        let division =
            Division { serial: 1, token: 5, messages: 4, parts: vec![vec![0..1, 3..4], part(1..3)] };
        let bytes = division.encode(9);
        assert_eq!(Division::decode(9, 1, &bytes).as_ref(), Some(&division));
        assert_eq!(Division::decode(8, 1, &bytes), None);
        for len in 0..bytes.len() {
            assert_eq!(Division::decode(9, 1, &bytes[..len]), None);
        }
        let empty = Division { parts: vec![vec![0..4], Part::new()], ..division };
        assert_eq!(Division::decode(9, 1, &empty.encode(9)), None, "a part without messages");
        assert!(is_file_name(&file_name(9, 1)) && !is_file_name("cuts-9.v2"));
    }

    #[test]
    fn counts_that_lie_make_nothing() {
        let mut bytes = Division { serial: 1, token: 5, messages: 1, parts: vec![part(0..1)] }.encode(9);
        for at in [16, 20] {
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[4..]).to_le_bytes();
            bytes[..4].copy_from_slice(&crc);
            assert_eq!(Division::decode(9, 1, &bytes), None);
        }
    }
}
