//! Dead letters in a directory: one file a day, `<pipeline>-<date>.jsonl`, with one letter a line: see [`jsonl`].
//!
//! Either all letters of a call are in the file and synced, or none is: after an error, such as that of a full disk, the file
//! is as long as before, and the call can be made again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::core::dead_letter::DeadLetter;
use crate::core::fs::sync_directory;
use crate::dead_letter::jsonl;

/// Appends letters to the file of the day and syncs it: they may be acknowledged afterwards.
pub fn append(dir: &Path, pipeline: &str, letters: &[DeadLetter]) -> io::Result<()> {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let path = dir.join(format!("{pipeline}-{}.jsonl", now.strftime("%Y-%m-%d")));
    let mut text = Vec::new();
    for letter in letters {
        jsonl::write(&mut text, letter)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
    let before = file.metadata()?.len();
    if lacks_line_end(&mut file, before)? {
        text.insert(0, b'\n');
    }
    let written = file.write_all(&text).and_then(|()| file.sync_data());
    // An earlier call may have created the file and failed, so that its name is not synced.
    let written = written.and_then(|()| if before == 0 { sync_directory(dir) } else { Ok(()) });
    if written.is_err() {
        // The next call would otherwise continue a half line, or write letters twice.
        let _ = file.set_len(before);
    }
    written
}

/// Whether the last line has no end: a crash can cut it off.
fn lacks_line_end(file: &mut File, len: u64) -> io::Result<bool> {
    if len == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(len - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{Code, Reason};

    fn letter(payload: &[u8]) -> DeadLetter {
        DeadLetter {
            received_at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_730_000_000_123),
            route: None,
            topic: b"a/b".to_vec(),
            payload: payload.to_vec(),
            reason: Reason::new(Code::NoRoute, "no route takes this topic"),
        }
    }

    /// The payloads in the only file of a directory that matches; `None` for a line that is no letter.
    fn payloads(dir: &Path) -> Vec<Option<Vec<u8>>> {
        let mut files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap();
        let text = std::fs::read(file).unwrap();
        let lines = text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n');
        lines.map(|line| jsonl::read(line).ok().map(|stored| stored.payload)).collect()
    }

    #[test]
    fn letters_are_lines_of_the_days_file() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), "test", &[letter(b"{\n}"), letter(b"\xff\x00")]).unwrap();
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"receivedAt\":\"20").unwrap();
        append(dir.path(), "test", &[letter(b"")]).unwrap();
        let expected = [Some(b"{\n}".to_vec()), Some(b"\xff\x00".to_vec()), None, Some(b"".to_vec())];
        assert_eq!(payloads(dir.path()), expected);
    }

    /// Takes root, to mount a disk of one MiB; without it nothing is tested.
    #[test]
    #[cfg(target_os = "linux")]
    fn on_a_full_disk_letters_are_stored_whole_or_not_at_all() {
        use std::process::Command;
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path());
        if !mount.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success()) {
            return;
        }
        let filler = dir.path().join("filler");
        append(dir.path(), "test", &[letter(b"first")]).unwrap();
        // Room for a part of the letter.
        std::fs::write(&filler, vec![0; 1 << 19]).unwrap();
        let large = letter(&vec![b'x'; 700 << 10]);
        let refused: Vec<io::Error> = (0..3)
            .map(|_| append(dir.path(), "test", &[letter(b"second"), large.clone()]).unwrap_err())
            .collect();
        let between = payloads(dir.path());
        std::fs::remove_file(&filler).unwrap();
        let retried = append(dir.path(), "test", &[letter(b"second"), large.clone()]);
        let after = payloads(dir.path());
        Command::new("umount").arg(dir.path()).status().unwrap();

        assert!(refused.iter().all(|error| error.kind() == io::ErrorKind::StorageFull), "{refused:?}");
        assert_eq!(between, [Some(b"first".to_vec())]);
        retried.unwrap();
        assert_eq!(after, [Some(b"first".to_vec()), Some(b"second".to_vec()), Some(large.payload)]);
    }
}
