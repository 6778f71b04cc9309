//! What the log needs of a file system, small enough to be simulated.
//!
//! Files are only ever appended to. A write lasts when [`DiskFile::sync`] has returned without an error, a name that was
//! created or removed when [`Disk::sync_names`] has. After an error of either nothing is known of what came since the last
//! success.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};

pub trait Disk {
    type File: DiskFile;

    /// Where it is, for messages.
    fn path(&self) -> &Path;
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A new file. An error if there is one of this name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// The whole of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// How many bytes a file has.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// So many bytes of a file; an error if it has fewer.
    fn read_at(&self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
}

pub trait DiskFile {
    /// Appends. After an error any part of it may have been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory of the file system, locked for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Unlocked when it is closed, however the process ends. `None`: only to be looked at.
    _lock: Option<File>,
}

const LOCK: &str = "lock";

impl Directory {
    /// Makes the directory if there is none, and locks it.
    pub fn lock(path: &Path) -> Result<Directory> {
        let io = |source| Error::spool_io(path, source);
        make(path).map_err(io)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.into(), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(Error::SpoolLocked { dir: path.display().to_string() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// To look inside, whoever has the lock. Changes nothing.
    pub fn look(path: &Path) -> Directory {
        Directory { path: path.into(), _lock: None }
    }
}

/// Makes a directory and those it lies in, so that a crash does not take it away with all that is in it.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        None => return Err(io::ErrorKind::NotFound.into()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    make(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        _ => sync_names(parent),
    }
}

#[cfg(unix)]
fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Elsewhere a directory cannot be synced, and need not be: NTFS keeps a journal of its names.
#[cfg(not(unix))]
fn sync_names(_: &Path) -> io::Result<()> {
    Ok(())
}

impl Disk for Directory {
    type File = File;

    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours.
        fs::read_dir(&self.path)?
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().append(true).create_new(true).open(self.path.join(name))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name))?.len())
    }

    fn read_at(&self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path.join(name))?;
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_names(&self.path)
    }
}

impl DiskFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
