//! The file system as the log uses it, small enough to be simulated.
//!
//! The log only appends to files. A write is durable when [`DiskFile::sync`] has returned without an error; a name that was
//! created or removed is durable when [`Disk::sync_names`] has. After an error of either, the state of everything since the
//! last success is unknown.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::core::fs::sync_directory;

pub trait Disk {
    type File: DiskFile;

    /// The path of the directory, for messages.
    fn path(&self) -> &Path;
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Creates a file. Fails if the name exists.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Reads a whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// The length of a file in bytes.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Reads `len` bytes of a file at offset `at`. Fails if the file ends before.
    fn read_at(&self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
}

pub trait DiskFile {
    /// Appends `bytes`. After an error any part of them may have been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory of the file system. The lock lasts as long as the value.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The system releases the lock when the file is closed, however the process ends. `None`: opened read-only.
    _lock: Option<File>,
}

const LOCK: &str = "lock";

impl Directory {
    /// Creates the directory if it does not exist, and locks it.
    pub fn lock(path: &Path) -> Result<Directory> {
        let io = |source| Error::spool_io(path, source);
        create_directory(path).map_err(io)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.into(), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(Error::SpoolLocked { dir: path.display().to_string() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// For reading only: takes no lock and changes nothing.
    pub fn open_read_only(path: &Path) -> Directory {
        Directory { path: path.into(), _lock: None }
    }
}

/// Creates a directory and its parents durably: a crash removes none of them.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        None => return Err(io::ErrorKind::NotFound.into()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    create_directory(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        _ => sync_directory(parent),
    }
}

impl Disk for Directory {
    type File = File;

    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        // The log gives no file a name that is not UTF-8.
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
        sync_directory(&self.path)
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
