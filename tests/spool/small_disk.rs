//! The log on a real disk that is full: a tmpfs of a few MiB. To mount one takes root; without it nothing is tested here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use millrace::spool::wal::storage::Directory;
use millrace::spool::{Log, Options};

use super::records::{key, options, record};

/// A tmpfs that is unmounted with its end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// `None`: not allowed here.
    fn mount(mebibytes: usize) -> Option<Tmpfs> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(dir.path());
        let is_mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        is_mounted.then(|| Tmpfs(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Also while a file is still open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Settles all INSERTs that can be taken. Returns the number of their records.
fn drain(log: &mut Log<Directory>, next: &mut u32) -> usize {
    let mut records = 0;
    while let Some(insert) = log.take(Instant::now(), true).unwrap() {
        for taken in &insert.records {
            assert_eq!(key(taken), *next, "in order, none missing");
            *next += 1;
        }
        records += insert.records.len();
        log.done(insert.id);
        // A broken-off commit is tried again after the next INSERT.
        let _ = log.commit();
        log.delete_obsolete().unwrap();
    }
    records
}

#[test]
fn a_full_disk_is_emptied_and_takes_again() {
    for mebibytes in [3, 12, 48] {
        for segment_bytes in [256 << 10, 64 << 20] {
            let Some(disk) = Tmpfs::mount(mebibytes) else {
                // The reason is read in the output of the test.
                #[allow(clippy::print_stdout)]
                {
                    println!("skipped: to mount a tmpfs takes root and Linux");
                }
                return;
            };
            let open = |open_id| {
                let mut options = Options { max_bytes: 4 << 30, segment_bytes, ..options(open_id) };
                (options.insert.rows, options.insert.rows_behind) = (1_000_000, 1_000_000);
                Log::open(Directory::lock(disk.path()).unwrap(), options, Instant::now()).unwrap()
            };
            let (mut log, _) = open(1);
            let (mut end, mut next) = (0, 0);
            for round in 0..3 {
                let before = end;
                while !log.is_full() {
                    log.append(record(end, 0, 20_000), Instant::now());
                    let _ = log.commit();
                    end += 1;
                }
                let bytes = (end - before) as usize * 20_000;
                assert!(bytes > (mebibytes << 20) / 2, "{bytes} bytes on {mebibytes} MiB");
                if round == 1 {
                    // A crash of the process on the full disk: all but the last record, which did not fit, is there.
                    drop(log);
                    let recovered;
                    (log, recovered) = open(2);
                    assert_eq!(
                        (recovered.damages, recovered.breaks, recovered.torn),
                        (vec![], vec![], vec![])
                    );
                    end -= 1;
                    assert_eq!(recovered.records, u64::from(end - next));
                }
                let mut attempts = 0;
                while next < end {
                    drain(&mut log, &mut next);
                    let _ = log.commit();
                    log.delete_obsolete().unwrap();
                    attempts += 1;
                    assert!(attempts < 10, "{mebibytes} MiB, segments of {segment_bytes}: {next} of {end}");
                }
                log.commit().unwrap();
                log.delete_obsolete().unwrap();
                assert!(log.segments() <= 1 && !log.is_full());
            }
        }
    }
}
