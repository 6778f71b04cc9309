//! The file system as the log uses it, small enough to be simulated.
//!
//! Segments are only appended to; the state file has a fixed length and is written in place. A write is durable when [`DiskFile::sync`] has returned without an error; a name that was
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
    /// Creates a file of `len` zeros and syncs it: later writes in place need no space. Fails if the
    /// name exists.
    fn preallocate(&self, name: &str, len: usize) -> io::Result<Self::File>;
    /// Opens a file for writes in place.
    fn open_in_place(&self, name: &str) -> io::Result<Self::File>;
    /// Reads all of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// The length of a file in bytes.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Reads `len` bytes of a file at offset `at`. Fails if the file ends before.
    fn read_at(&self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
    /// Bytes that files can still take. `None`: unknown.
    fn free(&self) -> Option<u64>;
    /// Fails if the directory is no longer the one that was locked: it, or the lock in it, was removed or replaced.
    fn check(&self) -> io::Result<()>;
}

pub trait DiskFile {
    /// Appends `bytes`. After an error any part of them may have been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes in place, at offset `at`. After an error the state of these bytes is unknown.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file off after `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Fails if the file was removed from its directory.
    fn check(&self) -> io::Result<()>;
}

/// A directory of the file system. The lock lasts as long as the value.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The lock file and the directory itself. The system releases the lock when the file is closed, however the process
    /// ends. `None`: opened read-only.
    locked: Option<(File, File)>,
}

pub const LOCK: &str = "lock";

impl Directory {
    /// Creates the directory if it does not exist, and locks it.
    pub fn lock(path: &Path) -> Result<Directory> {
        let io = |source| Error::spool_io(path, source);
        // The process may change its working directory.
        let path = &std::path::absolute(path).map_err(io)?;
        let io = |source| Error::spool_io(path, source);
        create_directory(path).map_err(io)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {
                // Elsewhere a directory cannot be opened as a file, and this one is not used.
                let directory = if cfg!(unix) { File::open(path) } else { lock.try_clone() };
                Ok(Directory { path: path.into(), locked: Some((lock, directory.map_err(io)?)) })
            }
            Err(TryLockError::WouldBlock) => Err(Error::SpoolLocked { dir: path.display().to_string() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// For reading only: takes no lock and changes nothing.
    pub fn open_read_only(path: &Path) -> Directory {
        Directory { path: path.into(), locked: None }
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

    fn preallocate(&self, name: &str, len: usize) -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(self.path.join(name))?;
        file.write_all(&vec![0; len])?;
        file.sync_all()?;
        Ok(file)
    }

    fn open_in_place(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join(name))
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

    fn free(&self) -> Option<u64> {
        fs4::available_space(&self.path).ok()
    }

    #[cfg(unix)]
    fn check(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let Some((lock, directory)) = &self.locked else { return Ok(()) };
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let is_same = |path: &Path, file: &File| match fs::metadata(path) {
            Ok(found) => Ok(identity(found) == identity(file.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        match is_same(&self.path, directory)? && is_same(&self.path.join(LOCK), lock)? {
            true => Ok(()),
            false => Err(io::Error::other("the directory was removed or replaced while it was in use")),
        }
    }

    /// Elsewhere the system does not remove a directory while a file in it is open, and the lock is.
    #[cfg(not(unix))]
    fn check(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    #[cfg(unix)]
    fn check(&self) -> io::Result<()> {
        match std::os::unix::fs::MetadataExt::nlink(&self.metadata()?) {
            0 => Err(io::Error::other("a segment was removed while it was in use")),
            _ => Ok(()),
        }
    }

    /// Elsewhere the system does not remove a file while it is open.
    #[cfg(not(unix))]
    fn check(&self) -> io::Result<()> {
        Ok(())
    }
}
