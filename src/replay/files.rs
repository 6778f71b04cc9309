//! JSON Lines files of dead letters, one line at a time.
//!
//! Each file is read to the length it had when the replay began: dead letters that are appended
//! meanwhile are left for the next one. A line that cannot be read is reported and skipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::dead_letter::jsonl;
use crate::replay::{Item, Malformed};

pub struct Files {
    /// The option that named them.
    option: &'static str,
    /// The remaining files, the next one last; with the length each had at the beginning.
    rest: Vec<(PathBuf, u64)>,
    open: Option<Open>,
    longest_line: usize,
    /// The directory of the files.
    directory: PathBuf,
}

struct Open {
    path: PathBuf,
    lines: BufReader<io::Take<File>>,
    number: u64,
}

impl Files {
    /// All `*.jsonl`, by name: as a pipeline names them, the oldest first.
    pub fn of_directory(dir: &Path, max_packet_bytes: usize) -> Result<Files> {
        let list = || -> io::Result<Vec<PathBuf>> {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "jsonl") && path.is_file() {
                    paths.push(path);
                }
            }
            paths.sort();
            Ok(paths)
        };
        let paths = list().map_err(|error| unreadable("source.dir", dir, &error))?;
        Files::new("source.dir", dir, paths, max_packet_bytes)
    }

    pub fn one(path: &Path, max_packet_bytes: usize) -> Result<Files> {
        // Fail now rather than in the middle.
        File::open(path).map_err(|error| unreadable("source.file", path, &error))?;
        let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Files::new("source.file", directory, vec![path.into()], max_packet_bytes)
    }

    fn new(
        option: &'static str,
        directory: &Path,
        paths: Vec<PathBuf>,
        max_packet_bytes: usize,
    ) -> Result<Files> {
        let with_length = |path: PathBuf| match std::fs::metadata(&path) {
            Ok(metadata) => Ok((path, metadata.len())),
            Err(error) => Err(unreadable(option, &path, &error)),
        };
        let rest = paths.into_iter().rev().map(with_length).collect::<Result<_>>()?;
        // A byte of a topic or a payload is at most six in JSON, `\u0000`; and the message has space of
        // its own.
        let longest_line = 6 * (max_packet_bytes + 65535) + (1 << 20);
        Ok(Files { option, rest, open: None, longest_line, directory: directory.into() })
    }

    /// Whether `dir` is where they lie.
    pub fn lie_in(&self, dir: &Path) -> bool {
        match (self.directory.canonicalize(), dir.canonicalize()) {
            (Ok(own), Ok(other)) => own == other,
            _ => false,
        }
    }

    pub fn next(&mut self) -> Result<Option<Item>> {
        loop {
            let Some(open) = &mut self.open else {
                let Some((path, len)) = self.rest.pop() else { return Ok(None) };
                let file = File::open(&path).map_err(|error| unreadable(self.option, &path, &error))?;
                let lines = BufReader::with_capacity(64 << 10, file.take(len));
                self.open = Some(Open { path, lines, number: 0 });
                continue;
            };
            let line = open
                .next_line(self.longest_line)
                .map_err(|error| unreadable(self.option, &open.path, &error))?;
            let Some(line) = line else {
                self.open = None;
                return Ok(Some(Item::EndOfFile));
            };
            let message = match line {
                Line::TooLong => format!("is longer than a dead letter can be: {} bytes", self.longest_line),
                Line::Whole(text) | Line::Last(text) if text.trim_ascii().is_empty() => continue,
                Line::Whole(ref text) | Line::Last(ref text) => match (jsonl::read(text), &line) {
                    (Ok(dead_letter), _) => return Ok(Some(Item::DeadLetter(dead_letter))),
                    (Err(message), Line::Last(_)) => format!("{message}; the file ends in this line"),
                    (Err(message), _) => message,
                },
            };
            let file = Some(open.path.display().to_string());
            return Ok(Some(Item::Malformed(Malformed { file, line: open.number, message })));
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    /// Without a line end: incomplete, unless it happens to be valid.
    Last(Vec<u8>),
    TooLong,
}

impl Open {
    fn next_line(&mut self, longest: usize) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        (&mut self.lines).take(longest as u64 + 1).read_until(b'\n', &mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if text.last() == Some(&b'\n') {
            text.pop();
            return Ok(Some(Line::Whole(text)));
        }
        if text.len() <= longest {
            return Ok(Some(Line::Last(text)));
        }
        self.lines.skip_until(b'\n')?;
        Ok(Some(Line::TooLong))
    }
}

fn unreadable(option: &str, path: &Path, error: &io::Error) -> Error {
    Error::SourceUnreadable { path: option.into(), message: format!("{}: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], max_packet_bytes: usize) -> Vec<String> {
        let name = format!("millrace-files-{}-{:p}.jsonl", std::process::id(), &text);
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let mut files = Files::one(&path, max_packet_bytes).unwrap();
        // Lines appended later are not for this replay.
        std::fs::write(&path, [text, b"\nlater\n"].concat()).unwrap();
        let mut said = Vec::new();
        while let Some(item) = files.next().unwrap() {
            said.push(match item {
                Item::DeadLetter(dead_letter) => String::from_utf8(dead_letter.payload).unwrap(),
                Item::Malformed(malformed) => format!("{}: {}", malformed.line, malformed.message),
                Item::EndOfFile => "end".into(),
            });
        }
        std::fs::remove_file(&path).unwrap();
        said
    }

    fn line(payload: &str) -> String {
        format!(r#"{{"receivedAt":"2024-10-27T03:33:20.123Z","topic":"a","payload":"{payload}"}}"#)
    }

    #[test]
    fn lines_come_one_by_one() {
        let text = format!("{}\n\r\n{}\r\n{}", line("1"), line("2"), line("3"));
        assert_eq!(read(text.as_bytes(), 1024), ["1", "2", "3", "end"]);
        assert_eq!(read(b"", 1024), ["end"]);
    }

    #[test]
    fn unreadable_lines_do_not_stop_the_others() {
        let whole = line("1");
        let long = "x".repeat(6 * (1024 + 65535) + (1 << 20) + 1);
        let text = format!("{{}}\n{whole}\n{long}\n\u{0}\n{whole}\n{}", &whole[..whole.len() - 3]);
        let said = read(text.as_bytes(), 1024);
        assert!(said[0].starts_with("1: is not a dead letter"), "{}", said[0]);
        assert!(said[2].starts_with("3: is longer"), "{}", said[2]);
        assert!(said[3].starts_with("4: is not JSON"), "{}", said[3]);
        assert!(said[5].starts_with("6: is not JSON") && said[5].ends_with("the file ends in this line"));
        assert_eq!([&said[1], &said[4], &said[6]], ["1", "1", "end"]);
    }
}
