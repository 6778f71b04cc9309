//! A disk that keeps only what it must.
//!
//! In a crash of the machine each sector that was not synced is written, lost or garbage, whichever the
//! seed says. A sector that was written in place may also keep its old bytes. Each name that was made
//! or removed since the names were synced is or is not. A crash of the process loses nothing. A sync
//! that fails leaves the file in a state in which the next sync succeeds and keeps nothing: so Linux
//! does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use millrace::spool::wal::storage::{Disk, DiskFile};

use super::random::Random;

/// Small, so that small records lie in several.
const SECTOR: usize = 32;

#[derive(Clone)]
pub struct Simulated(Arc<Mutex<State>>);

struct State {
    random: Random,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    lasting_names: BTreeMap<String, usize>,
    /// Changes of names since they were synced; `None` removed it.
    renamed: Vec<(String, Option<usize>)>,
    faults: Faults,
    /// The directory was removed.
    is_gone: bool,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// The number of bytes that survive a crash.
    lasting: usize,
    /// The bytes that survive a crash, in a file that is written in place.
    in_place: Option<Vec<u8>>,
    /// The sectors of it that the next sync writes: after one that failed the system takes them for written.
    dirty: BTreeSet<usize>,
    is_broken: bool,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Faults {
    /// One operation in this number fails.
    pub one_in: Option<usize>,
    /// The size of the disk in bytes.
    pub room: Option<usize>,
}

impl Simulated {
    pub fn new(seed: u64) -> Simulated {
        Simulated(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            lasting_names: BTreeMap::new(),
            renamed: Vec::new(),
            faults: Faults::default(),
            is_gone: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn set_gone(&self, is_gone: bool) {
        self.state().is_gone = is_gone;
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The machine loses its power.
    pub fn crash(&self) {
        let State { random, files, names, lasting_names, renamed, .. } = &mut *self.state();
        for (name, file) in renamed.drain(..) {
            if random.one_in(2) {
                continue;
            }
            match file {
                Some(file) => lasting_names.insert(name, file),
                None => lasting_names.remove(&name),
            };
        }
        names.clone_from(lasting_names);
        for file in files {
            file.crash(random);
        }
    }

    pub fn used(&self) -> usize {
        self.state().used()
    }

    /// Changes a file behind the back of the log.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.state();
        let file = &mut state.files[state.names[name]];
        change(&mut file.bytes);
        file.lasting = file.bytes.len();
        file.in_place = file.in_place.is_some().then(|| file.bytes.clone());
    }

    /// Removes a file behind the back of the log.
    pub fn delete(&self, name: &str) {
        let state = &mut *self.state();
        state.names.remove(name).unwrap();
        state.lasting_names.clone_from(&state.names);
    }

    /// The segments, by name.
    pub fn segments(&self) -> BTreeMap<String, Vec<u8>> {
        let mut contents = self.contents();
        contents.retain(|name, _| name.starts_with("segment-"));
        contents
    }

    /// An empty file that no spool made.
    pub fn touch(&self, name: &str) {
        Disk::create(self, name).unwrap();
        Disk::sync_names(self).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        let state = &mut *self.state();
        let file = state.names.remove(from).unwrap();
        state.names.insert(to.into(), file);
        state.lasting_names.clone_from(&state.names);
    }

    /// Files, by name.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].bytes.clone())).collect()
    }
}

impl Content {
    fn crash(&mut self, random: &mut Random) {
        if let Some(before) = &mut self.in_place {
            self.dirty.clear();
            if self.bytes == *before {
                return;
            }
            for at in (0..self.bytes.len()).step_by(SECTOR) {
                let sector = at..(at + SECTOR).min(self.bytes.len());
                if self.bytes[sector.clone()] != before[sector.clone()] {
                    match random.below(4) {
                        0 => self.bytes[sector].fill_with(|| random.next() as u8),
                        1 => {}
                        _ => self.bytes[sector.clone()].copy_from_slice(&before[sector]),
                    }
                }
            }
            before.clone_from(&self.bytes);
            return;
        }
        let written = self.bytes.len() - self.lasting;
        if written > 0 {
            let kept = random.below(written + 1);
            self.bytes.truncate(self.lasting + kept);
            let mut at = self.lasting;
            while at < self.bytes.len() {
                let end = ((at / SECTOR + 1) * SECTOR).min(self.bytes.len());
                match random.below(4) {
                    0 => self.bytes[at..end].fill(0),
                    1 => self.bytes[at..end].fill_with(|| random.next() as u8),
                    _ => {}
                }
                at = end;
            }
        }
        self.lasting = self.bytes.len();
        self.is_broken = false;
    }
}

impl State {
    /// Without the files that have their space already.
    fn used(&self) -> usize {
        let files = self.names.values().map(|file| &self.files[*file]);
        files.filter(|file| file.in_place.is_none()).map(|file| file.bytes.len()).sum()
    }

    fn may_fail(&mut self) -> Result<()> {
        match self.faults.one_in {
            Some(n) if self.random.one_in(n) => Err(Error::other("simulated fault")),
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str) -> Result<&Content> {
        self.names.get(name).map(|file| &self.files[*file]).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for Simulated {
    type File = OpenFile;

    fn path(&self) -> &Path {
        Path::new("simulated")
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<OpenFile> {
        let mut state = self.state();
        state.may_fail()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.into(), file);
        state.renamed.push((name.into(), Some(file)));
        Ok(OpenFile { disk: self.clone(), file })
    }

    fn preallocate(&self, name: &str, len: usize) -> Result<OpenFile> {
        let file = self.create(name)?;
        let mut state = self.state();
        if state.faults.room.is_some_and(|room| room < state.used() + len) {
            return Err(ErrorKind::StorageFull.into());
        }
        let content = &mut state.files[file.file];
        (content.bytes, content.lasting, content.in_place) = (vec![0; len], len, Some(vec![0; len]));
        Ok(file.clone())
    }

    fn open_in_place(&self, name: &str) -> Result<OpenFile> {
        let file = *self.state().names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(OpenFile { disk: self.clone(), file })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.state().file(name).map(|file| file.bytes.clone())
    }

    fn len(&self, name: &str) -> Result<u64> {
        self.state().file(name).map(|file| file.bytes.len() as u64)
    }

    fn read_at(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        let state = self.state();
        let bytes = state.file(name)?.bytes.get(at as usize..at as usize + len);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        state.may_fail()?;
        state.names.remove(name).ok_or(ErrorKind::NotFound)?;
        state.renamed.push((name.into(), None));
        Ok(())
    }

    fn sync_names(&self) -> Result<()> {
        let mut state = self.state();
        state.may_fail()?;
        let State { names, lasting_names, renamed, .. } = &mut *state;
        lasting_names.clone_from(names);
        renamed.clear();
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        let state = self.state();
        state.faults.room.map(|room| room.saturating_sub(state.used()) as u64)
    }

    fn check(&self) -> Result<()> {
        if self.state().is_gone { Err(Error::other("removed or replaced")) } else { Ok(()) }
    }
}

#[derive(Clone)]
pub struct OpenFile {
    disk: Simulated,
    file: usize,
}

impl DiskFile for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut state = self.disk.state();
        let room = state.faults.room.map_or(usize::MAX, |room| room.saturating_sub(state.used()));
        let fault = state.may_fail();
        let len = match &fault {
            Err(_) => state.random.below(bytes.len() + 1),
            Ok(()) => bytes.len(),
        };
        state.files[self.file].bytes.extend_from_slice(&bytes[..len.min(room)]);
        fault?;
        if room < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<()> {
        let mut state = self.disk.state();
        let fault = state.may_fail();
        let file = &mut state.files[self.file];
        let dirty = std::mem::take(&mut file.dirty);
        if let Some(lasting) = &mut file.in_place {
            for at in dirty.into_iter().filter(|_| fault.is_ok()) {
                let sector = at..(at + SECTOR).min(file.bytes.len());
                lasting[sector.clone()].copy_from_slice(&file.bytes[sector]);
            }
            return fault;
        }
        file.is_broken |= fault.is_err();
        if !file.is_broken {
            file.lasting = file.bytes.len();
        }
        fault
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.disk.state();
        let fault = state.may_fail();
        let len = match &fault {
            Err(_) => state.random.below(bytes.len() + 1),
            Ok(()) => bytes.len(),
        };
        let (file, at) = (&mut state.files[self.file], at as usize);
        file.bytes[at..][..len].copy_from_slice(&bytes[..len]);
        file.dirty.extend((at / SECTOR * SECTOR..at + len).step_by(SECTOR));
        fault
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        let mut state = self.disk.state();
        state.may_fail()?;
        let file = &mut state.files[self.file];
        file.bytes.truncate(len as usize);
        file.lasting = file.lasting.min(file.bytes.len());
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let state = self.disk.state();
        let is_there = state.names.values().any(|file| *file == self.file);
        if is_there { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }
}
