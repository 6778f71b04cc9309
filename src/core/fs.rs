//! Operations on directories that the standard library lacks.

use std::io;
use std::path::Path;

/// Syncs the names in a directory: a file that was created or removed stays so after a crash only when this has returned.
#[cfg(unix)]
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

/// Elsewhere a directory cannot be synced, and need not be: NTFS keeps a journal of its names.
#[cfg(not(unix))]
pub fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
