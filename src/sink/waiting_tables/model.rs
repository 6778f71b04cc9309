//! Tries every order in which threads can pass INSERTs to each other through [`WaitingTables`], for a
//! few small cases: a job that waits there and that no thread takes would wait until the end.
//!
//! A thread does what `schedule` does, one step at a time, and between two steps any other thread may
//! do one. Everything under the lock of [`WaitingTables`] is one step. All states that can be reached
//! are visited; where nothing more can happen every INSERT must be in, and each table's in the order in
//! which they failed or were put aside.

use std::collections::HashSet;

use super::*;

/// An INSERT: its number, its table, and how often it fails before it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Job {
    number: usize,
    table: &'static str,
    failures: u32,
}

/// Where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// Takes a job from the channel, if one is left.
    Idle,
    /// Has a job in hand that may have to be put aside.
    Received(Job),
    /// Attempts it.
    Attempting(Job),
    /// Has failed and gives the slot up; its table is not marked as waiting yet.
    Failed(Job),
    /// Waits before the next attempt.
    Waiting(Job),
    /// It is in, after a wait: others of its table may be behind it.
    Following(&'static str),
}

#[derive(Debug, Clone)]
struct Thread {
    at: At,
    has_waited: bool,
}

struct Model {
    tables: WaitingTables<Job>,
    threads: Vec<Thread>,
    /// Jobs still in the channel.
    jobs: VecDeque<Job>,
    inserted: Vec<usize>,
}

impl<J: Clone> Clone for WaitingTables<J> {
    fn clone(&self) -> Self {
        let tables = self.lock();
        let copy =
            |waiting: &Waiting<J>| Waiting { inserts: waiting.inserts, behind: waiting.behind.clone() };
        WaitingTables(Mutex::new(
            tables.iter().map(|(table, waiting)| (table.clone(), copy(waiting))).collect(),
        ))
    }
}

impl Model {
    fn new(threads: usize, jobs: &[Job]) -> Model {
        let thread = Thread { at: At::Idle, has_waited: false };
        Model {
            tables: WaitingTables::default(),
            threads: vec![thread; threads],
            jobs: jobs.iter().copied().collect(),
            inserted: Vec::new(),
        }
    }

    fn copy(&self) -> Model {
        Model {
            tables: self.tables.clone(),
            threads: self.threads.clone(),
            jobs: self.jobs.clone(),
            inserted: self.inserted.clone(),
        }
    }

    /// A key of the state, to recognise states that were visited.
    fn key(&self) -> String {
        let tables = self.tables.lock();
        let mut waiting: Vec<_> =
            tables.iter().map(|(table, waiting)| (table, waiting.inserts, &waiting.behind)).collect();
        waiting.sort_by_key(|(table, ..)| *table);
        format!("{waiting:?} {:?} {:?} {:?}", self.threads, self.jobs, self.inserted)
    }

    /// The next step of a thread; `false`: it has none.
    fn step(&mut self, at: usize) -> bool {
        let Model { tables, threads, jobs, inserted } = self;
        let thread = &mut threads[at];
        thread.at = match thread.at {
            At::Idle => match jobs.pop_front() {
                Some(job) => At::Received(job),
                None => return false,
            },
            At::Received(job) => match tables.defer(job.table, job) {
                Some(job) => At::Attempting(job),
                None => At::Idle,
            },
            At::Attempting(Job { failures: 0, number, table }) => {
                inserted.push(number);
                if thread.has_waited { At::Following(table) } else { At::Idle }
            }
            At::Attempting(job) => At::Failed(Job { failures: job.failures - 1, ..job }),
            At::Failed(job) => {
                if !thread.has_waited {
                    thread.has_waited = true;
                    tables.enter(job.table);
                }
                At::Waiting(job)
            }
            At::Waiting(job) => At::Attempting(job),
            At::Following(table) => match tables.next(table) {
                Some(job) => At::Attempting(job),
                None => {
                    thread.has_waited = false;
                    At::Idle
                }
            },
        };
        true
    }
}

/// Visits every state that can be reached, and gives how many there are.
fn explore(threads: usize, jobs: &[Job]) -> usize {
    let mut visited = HashSet::new();
    let mut open = vec![Model::new(threads, jobs)];
    while let Some(model) = open.pop() {
        if !visited.insert(model.key()) {
            continue;
        }
        let mut is_end = true;
        for at in 0..threads {
            let mut next = model.copy();
            if next.step(at) {
                is_end = false;
                open.push(next);
            }
        }
        if is_end {
            let mut inserted = model.inserted.clone();
            inserted.sort_unstable();
            assert_eq!(
                inserted,
                (0..jobs.len()).collect::<Vec<_>>(),
                "an INSERT is left behind: {}",
                model.key()
            );
            assert!(model.tables.lock().is_empty(), "a table waits for nothing: {}", model.key());
        }
    }
    visited.len()
}

fn jobs(of: &[(&'static str, u32)]) -> Vec<Job> {
    of.iter()
        .enumerate()
        .map(|(number, (table, failures))| Job { number, table, failures: *failures })
        .collect()
}

#[test]
fn no_insert_is_left_behind_in_any_order() {
    let mut states = 0;
    for threads in 2..=3 {
        for failing in 0..2_u32.pow(4) {
            let failures = |job: u32| failing / 2_u32.pow(job) % 2;
            states += explore(
                threads,
                &jobs(&[("a", failures(0)), ("a", failures(1)), ("b", failures(2)), ("a", failures(3))]),
            );
        }
    }
    assert!(states > 3_000, "{states} states");
}

/// The check itself: where the one that ends does not look behind itself, jobs are left.
#[test]
fn a_wake_up_that_is_lost_is_found() {
    let lost = std::panic::catch_unwind(|| {
        let mut model = Model::new(2, &jobs(&[("a", 1), ("a", 0)]));
        for thread in [0, 0, 0, 0, 1, 1] {
            assert!(model.step(thread));
        }
        // The first is in, and forgets the second.
        model.threads[0] = Thread { at: At::Idle, has_waited: false };
        assert!(model.tables.lock().is_empty());
    });
    assert!(lost.is_err());
}
