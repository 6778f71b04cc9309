//! Business logic of the user's own between decoding and the INSERT: a call per batch.
//!
//! ```text
//! ingest ──batches──▶ stage ──call──▶ host (JavaScript) ──outcome──▶ stage ──batches──▶ sink or spool
//!                                                                       └──dead letters──▶ store
//! ```
//!
//! [`stage`] has a thread for each route with a transform. It hands one [`call`] to each thread of JavaScript at a time, and
//! makes of what came back ([`outcome`]) the batch that goes on, dead letters, and batches of emitted rows, which `outgoing` gathers
//! where there is no spool. [`columns`] says how the host reads and writes columns: it copies them, when they are first touched, into memory that it owns.
//!
//! Beside transforms a host may watch what is inserted: [`sample`].
//!
//! The engine does not know JavaScript: a [`TransformHost`] makes the calls.

pub mod call;
pub mod columns;
pub mod outcome;
mod outgoing;
pub mod sample;
pub mod stage;

use crate::core::lock::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use call::TransformCall;

use crate::ingest::taps::Taps;

/// The side that makes the calls of one route.
pub trait TransformHost: Send + Sync {
    /// How many calls it takes at once; 0 for now, if it may take some later.
    fn threads(&self) -> usize;

    /// Takes a call, without waiting for its end. A call that is dropped unfinished is made again.
    fn call(&self, call: TransformCall);
}

/// The program that has a pipeline: its hosts, by the place of the route, and its taps.
#[derive(Clone, Default)]
pub struct TransformHosts {
    hosts: Arc<Mutex<HashMap<usize, Arc<dyn TransformHost>>>>,
    pub taps: Arc<Taps>,
}

impl TransformHosts {
    /// Makes the calls of a route from its next start on.
    pub fn set(&self, route: usize, host: Arc<dyn TransformHost>) {
        lock(&self.hosts).insert(route, host);
    }

    pub fn of(&self, route: usize) -> Option<Arc<dyn TransformHost>> {
        lock(&self.hosts).get(&route).cloned()
    }
}
