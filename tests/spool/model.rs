//! The log against a model of it: for each lane a queue of records. The disk takes everything, so the model knows at any
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
    Append { lane: u32, block_len: usize },
    Commit,
    Take,
    Done { lane: u32 },
    Sweep,
    Crash { loses_power: bool },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3u32, 0..200usize).prop_map(|(lane, block_len)| Step::Append { lane, block_len }),
        4 => Just(Step::Commit),
        4 => Just(Step::Take),
        3 => (0..3u32).prop_map(|lane| Step::Done { lane }),
        1 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(|loses_power| Step::Crash { loses_power }),
        1 => Just(Step::Close),
    ]
}

#[derive(Debug, Default)]
struct Model {
    lanes: [Lane; 3],
    sent: Vec<usize>,
}

#[derive(Debug, Default)]
struct Lane {
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
        self.lanes.iter().map(|lane| lane.records.len()).sum()
    }

    fn commit(&mut self) {
        for lane in &mut self.lanes {
            lane.settling.clear();
            lane.records.iter_mut().for_each(|known| known.is_committed = true);
        }
    }

    fn crash(&mut self) {
        for lane in &mut self.lanes {
            lane.out = None;
            lane.records.retain(|known| known.is_committed);
            let settling = std::mem::take(&mut lane.settling);
            settling.into_iter().rev().for_each(|known| lane.records.push_front(known));
        }
    }

    fn run(mut self, steps: Vec<Step>) -> TestCaseResult {
        let (disk, now) = (Simulated::new(1), Instant::now());
        let mut life = 1;
        let (mut log, _) = Log::open(disk.clone(), options(life), now).unwrap();
        for step in steps {
            match step {
                Step::Append { .. } if log.is_full() => {}
                Step::Append { lane, block_len } => {
                    let key = self.sent.len() as u32;
                    self.sent.push(block_len);
                    self.lanes[lane as usize].records.push_back(Known { key, is_committed: false });
                    log.append(record(key, lane, block_len), now);
                }
                Step::Commit => {
                    log.commit().unwrap();
                    self.commit();
                }
                Step::Take => match log.take(now, true).unwrap() {
                    Some(insert) => {
                        let at = insert.records[0].lane.connection;
                        let lane = &mut self.lanes[at as usize];
                        prop_assert!(lane.out.is_none());
                        lane.out = Some((insert.id, insert.records.len()));
                        for (taken, known) in insert.records.iter().zip(&lane.records) {
                            prop_assert_eq!(&**taken, &record(known.key, at, self.sent[known.key as usize]));
                            prop_assert!(known.is_committed);
                        }
                        let rows: u32 = insert.records.iter().map(|taken| taken.rows).sum();
                        prop_assert!(rows <= 16, "{} rows", rows);
                        prop_assert!(insert.records.iter().all(|taken| key(taken) < self.sent.len() as u32));
                    }
                    None => {
                        for lane in self.lanes.iter().filter(|lane| lane.out.is_none()) {
                            prop_assert!(
                                lane.records.iter().any(|known| !known.is_committed)
                                    || lane.records.is_empty()
                            );
                        }
                    }
                },
                Step::Done { lane } => {
                    let lane = &mut self.lanes[lane as usize];
                    if let Some((id, count)) = lane.out.take() {
                        log.done(id);
                        lane.settling.extend(lane.records.drain(..count));
                    }
                }
                Step::Sweep => log.sweep().unwrap(),
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
                    // What may not have been synced before is now.
                    log.commit().unwrap();
                    self.commit();
                }
            }
            prop_assert_eq!(log.open_records(), self.open());
            let files: usize = disk.contents().values().map(Vec::len).sum();
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
