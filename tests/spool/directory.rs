//! The log in a real directory.

use std::time::Instant;

use millrace::spool::wal::storage::{Directory, Disk};
use millrace::spool::{Log, inspect};

use super::records::{options, record};

#[test]
fn a_log_in_a_directory_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/for/spool");
    let now = Instant::now();
    let (mut log, _) = Log::open(Directory::lock(&path).unwrap(), options(1), now).unwrap();
    for key in 0..30 {
        log.append(record(key, 0, 100), now);
        log.commit().unwrap();
    }
    let first = log.take(now, true).unwrap().unwrap();
    log.done(first.id);
    log.close().unwrap();

    let left = 30 - first.records.len() as u64;
    let inspection = inspect(&Directory::open_read_only(&path)).unwrap();
    assert!(inspection.segments > 1);
    assert_eq!(
        (inspection.streams[0].records, inspection.damages.len(), inspection.torn.len()),
        (left, 0, 0)
    );

    let (mut log, recovered) = Log::open(Directory::lock(&path).unwrap(), options(2), now).unwrap();
    assert_eq!(recovered.records, left);
    let mut at = first.records.len() as u32;
    while let Some(insert) = log.take(now, true).unwrap() {
        for taken in insert.records {
            assert_eq!(*taken, record(at, 0, 100));
            at += 1;
        }
        log.done(insert.id);
    }
    assert_eq!(at, 30);
    log.commit().unwrap();
    log.delete_obsolete().unwrap();
    assert!(log.segments() <= 1);
}

#[test]
fn a_log_can_be_given_to_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<Log<Directory>>();
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let owner = Directory::lock(dir.path()).unwrap();
    let error = Directory::lock(dir.path()).unwrap_err();
    assert_eq!(error.code(), "SPOOL_LOCKED");
    assert_eq!(Directory::open_read_only(dir.path()).names().unwrap(), ["lock"]);
    drop(owner);
    Directory::lock(dir.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Directory::lock(&file).unwrap_err();
    assert_eq!(error.code(), "SPOOL_IO");
    assert!(error.to_string().contains("file"), "{error}");
}
