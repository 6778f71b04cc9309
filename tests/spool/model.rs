//! The log against a model of it: for each stream a queue of records. The disk takes everything, so the model knows at any
//! time what a crash leaves.

use std::collections::VecDeque;
use std::time::Instant;

use millrace::spool::Log;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::records::{key, options, record};
use super::simulated::Simulated;

#[derive(Debug, Clone)]
enum Step {
    Append { stream: u32, block_len: usize },
    Commit,
    Take,
    Done { stream: u32 },
    Sweep,
    Crash { loses_power: bool },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3u32, 0..200usize).prop_map(|(stream, block_len)| Step::Append { stream, block_len }),
        4 => Just(Step::Commit),
        4 => Just(Step::Take),
        3 => (0..3u32).prop_map(|stream| Step::Done { stream }),
        1 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(|loses_power| Step::Crash { loses_power }),
        1 => Just(Step::Close),
    ]
}

#[derive(Debug, Default)]
struct Model {
    streams: [Stream; 3],
    sent: Vec<usize>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Not done. The first ones are out.
    records: VecDeque<Known>,
    /// The INSERT that is out, and how many records it has.
    out: Option<(u64, usize)>,
    /// Done, but for the commit.
    settling: Vec<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    key: u32,
    is_committed: bool,
}

impl Model {
    fn open(&self) -> usize {
        self.streams.iter().map(|stream| stream.records.len()).sum()
    }

    fn commit(&mut self) {
        for stream in &mut self.streams {
            stream.settling.clear();
            stream.records.iter_mut().for_each(|known| known.is_committed = true);
        }
    }

    fn crash(&mut self) {
        for stream in &mut self.streams {
            stream.out = None;
            stream.records.retain(|known| known.is_committed);
            let settling = std::mem::take(&mut stream.settling);
            settling.into_iter().rev().for_each(|known| stream.records.push_front(known));
        }
    }

    fn run(mut self, steps: Vec<Step>) -> TestCaseResult {
        let (disk, now) = (Simulated::new(1), Instant::now());
        let mut life = 1;
        let (mut log, _) = Log::open(disk.clone(), options(life), now).unwrap();
        for step in steps {
            match step {
                Step::Append { .. } if log.is_full() => {}
                Step::Append { stream, block_len } => {
                    let key = self.sent.len() as u32;
                    self.sent.push(block_len);
                    self.streams[stream as usize].records.push_back(Known { key, is_committed: false });
                    log.append(record(key, stream, block_len), now);
                }
                Step::Commit => {
                    log.commit().unwrap();
                    self.commit();
                }
                Step::Take => match log.take(now, true).unwrap() {
                    Some(insert) => {
                        let at = insert.records[0].stream.connection;
                        let stream = &mut self.streams[at as usize];
                        prop_assert!(stream.out.is_none());
                        stream.out = Some((insert.id, insert.records.len()));
                        for (taken, known) in insert.records.iter().zip(&stream.records) {
                            prop_assert_eq!(&**taken, &record(known.key, at, self.sent[known.key as usize]));
                            prop_assert!(known.is_committed);
                        }
                        let rows: u32 = insert.records.iter().map(|taken| taken.rows).sum();
                        prop_assert!(rows <= 16, "{} rows", rows);
                        prop_assert!(insert.records.iter().all(|taken| key(taken) < self.sent.len() as u32));
                    }
                    None => {
                        for stream in self.streams.iter().filter(|stream| stream.out.is_none()) {
                            prop_assert!(
                                stream.records.iter().any(|known| !known.is_committed)
                                    || stream.records.is_empty()
                            );
                        }
                    }
                },
                Step::Done { stream } => {
                    let stream = &mut self.streams[stream as usize];
                    if let Some((id, count)) = stream.out.take() {
                        log.done(id);
                        stream.settling.extend(stream.records.drain(..count));
                    }
                }
                Step::Sweep => log.delete_obsolete().unwrap(),
                Step::Crash { .. } | Step::Close => {
                    match step {
                        Step::Close => {
                            log.close().unwrap();
                            self.commit();
                        }
                        _ => drop(log),
                    }
                    if matches!(step, Step::Crash { loses_power: true }) {
                        disk.crash();
                    }
                    self.crash();
                    life += 1;
                    let recovered;
                    (log, recovered) = Log::open(disk.clone(), options(life), now).unwrap();
                    prop_assert_eq!(recovered.records, self.open() as u64);
                    prop_assert!(recovered.damages.is_empty() && recovered.torn.is_empty());
                    // Entries that may not have been synced before are now.
                    log.commit().unwrap();
                    self.commit();
                }
            }
            prop_assert_eq!(log.open_records(), self.open());
            let files: usize = disk.segments().values().map(Vec::len).sum();
            prop_assert_eq!(log.bytes(), files as u64);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_its_model(steps in vec(step(), 0..120)) {
        Model::default().run(steps)?;
    }
}
