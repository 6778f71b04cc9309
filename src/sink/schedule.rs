//! One thread of INSERTs: one attempt at a time, and any number of INSERTs that wait before they are tried again.
//!
//! An INSERT holds the thread's slot while it is encoded and attempted. Before it waits it gives the slot up, so that the
//! thread takes the next job; to be tried again it takes the slot back.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet, LocalSet};

use crate::core::shard::Shard;
use crate::ingest::batch::Batch;
use crate::ingest::shards;
use crate::sink::worker::{Source, Worker};
use crate::spool::{InsertJob, stored_dead_letters};

/// An INSERT that a worker makes.
pub enum Job {
    Batch(Box<Batch>),
    Spooled(Box<InsertJob>),
}

/// How often a thread with INSERTs that wait looks for other jobs. Without any it blocks.
const JOB_CHECK_INTERVAL: Duration = Duration::from_millis(10);

impl Worker {
    /// Runs until the connections are gone and their batches are in, or all is cancelled.
    pub async fn run(self) {
        LocalSet::new().run_until(self.schedule()).await;
    }

    async fn schedule(self) {
        let slot = Arc::new(Semaphore::new(1));
        let source = self.source.clone();
        let context = self.context.clone();
        let waiting = self.waiting.clone();
        let (servers, more) = (self.servers.clone(), self.parts());
        let mut idle = vec![self];
        let mut inserts: JoinSet<Worker> = JoinSet::new();
        // Batches of the other shards.
        let mut divided: VecDeque<Job> = VecDeque::new();
        loop {
            let permit = slot.clone().acquire_owned().await.expect("nobody closes it");
            while let Some(ended) = inserts.try_join_next() {
                idle.push(worker(ended));
            }
            let job = if let Some(job) = divided.pop_front() {
                job
            } else if inserts.is_empty() {
                match source.receive() {
                    Some(job) => job,
                    None => break,
                }
            } else {
                match source.try_receive() {
                    Ok(job) => job,
                    Err(TryRecvError::Disconnected) => break,
                    Err(TryRecvError::Empty) => {
                        drop(permit);
                        tokio::time::sleep(JOB_CHECK_INTERVAL).await;
                        continue;
                    }
                }
            };
            if context.is_cancelled() {
                break;
            }
            let job = match job {
                Job::Batch(batch) => {
                    let mut parts = shards::divide(batch, &context).into_iter().map(Job::Batch);
                    let Some(first) = parts.next() else { continue };
                    divided.extend(parts);
                    first
                }
                spooled => spooled,
            };
            let mut worker = idle.pop().unwrap_or_else(|| Worker::new(more.clone(), servers.clone()));
            worker.hold(slot.clone(), permit);
            inserts.spawn_local(async move {
                worker.insert_job_and_followers(job).await;
                worker.release();
                worker
            });
        }
        while let Some(ended) = inserts.join_next().await {
            worker(ended);
        }
        if context.is_cancelled() {
            waiting.clear();
        }
    }

    /// Inserts a job, and then those of its table that were put aside meanwhile.
    async fn insert_job_and_followers(&mut self, job: Job) {
        let (table, shard) = self.place_of(&job);
        let table = table.to_owned();
        self.select_shard(shard);
        let lane = self.lane(&table);
        let mut next = self.waiting.defer(&lane, job);
        while let Some(job) = next {
            match job {
                Job::Batch(batch) => self.insert(batch).await,
                Job::Spooled(job) => self.insert_from_spool(*job).await,
            }
            // It is settled, or all is cancelled.
            self.fault.close();
            next = match self.has_waited && !self.context.is_cancelled() {
                true => self.waiting.next(&lane),
                false => None,
            };
        }
        self.has_waited = false;
    }

    /// The table and the shard of a job.
    fn place_of<'a>(&'a self, job: &'a Job) -> (&'a str, Option<Shard>) {
        match job {
            Job::Batch(batch) => (&self.context.config.route(batch.route).table, batch.shard),
            // Dead letters wait for no table.
            Job::Spooled(job) if stored_dead_letters::is_of_dead_letters(&job.insert.records[0]) => {
                ("", None)
            }
            Job::Spooled(job) => {
                let stream = &job.insert.records[0].stream;
                (&stream.table, Shard::split_name(&stream.route).1)
            }
        }
    }
}

/// A panic of an INSERT is one of the thread.
fn worker(ended: Result<Worker, JoinError>) -> Worker {
    match ended {
        Ok(worker) => worker,
        Err(error) => resume_unwind(error.into_panic()),
    }
}

impl Source {
    fn receive(&self) -> Option<Job> {
        match self {
            Source::Ingest(batches) => batches.recv().ok().map(Job::Batch),
            Source::Spool(jobs) => jobs.recv().ok().map(|job| Job::Spooled(Box::new(job))),
        }
    }

    fn try_receive(&self) -> Result<Job, TryRecvError> {
        fn from<T>(source: &Receiver<T>, job: fn(T) -> Job) -> Result<Job, TryRecvError> {
            source.try_recv().map(job)
        }
        match self {
            Source::Ingest(batches) => from(batches, Job::Batch),
            Source::Spool(jobs) => from(jobs, |job| Job::Spooled(Box::new(job))),
        }
    }
}
