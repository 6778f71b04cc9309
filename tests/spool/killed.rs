//! A process that is killed while it writes, on a real disk.

use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Command, Stdio};
use std::time::Instant;

use millrace::spool::wal::storage::Directory;
use millrace::spool::{Log, Options};

use super::records::{key, options, record};

/// Large enough not to be full before it is killed.
fn roomy(life: u64) -> Options {
    Options { max_bytes: 1 << 30, segment_bytes: 16 * 1024, ..options(life) }
}

#[test]
fn a_process_that_is_killed_leaves_all_that_it_had_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut committed = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::writes_until_it_is_killed", "--ignored", "--nocapture", "--quiet"])
            .env("SPOOL_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("committed ")?.parse::<u32>().ok());
        let before = committed;
        for key in told {
            committed = key + 1;
            if committed == before + 100 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(committed >= before + 100 * round);
    }

    let (mut log, _) = Log::open(Directory::lock(dir.path()).unwrap(), roomy(9), Instant::now()).unwrap();
    log.commit().unwrap();
    let mut next = 0;
    while let Some(insert) = log.take(Instant::now(), true).unwrap() {
        for taken in &insert.records {
            assert_eq!(key(taken), next);
            assert_eq!(**taken, record(next, 0, 300));
            next += 1;
        }
        log.done(insert.id);
    }
    assert!(next >= committed, "{next} of {committed}");
}

#[test]
#[ignore = "never ends: the other test starts it"]
fn writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os("SPOOL_DIR") else { return };
    let life = u64::from(std::process::id());
    let (mut log, recovered) =
        Log::open(Directory::lock(dir.as_ref()).unwrap(), roomy(life), Instant::now()).unwrap();
    assert_eq!((&recovered.damages[..], &recovered.breaks[..]), (&[][..], &[][..]));
    for key in recovered.records as u32.. {
        log.append(record(key, 0, 300), Instant::now());
        log.commit().unwrap();
        writeln!(stdout(), "committed {key}").unwrap();
    }
}
