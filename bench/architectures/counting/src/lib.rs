//! The work that all services do: how many of the numbers below `size`, mixed with a seed, are multiples of eight. It is split
//! into parts, which run on a pool of threads. `lib/counting.mjs` is the same in JavaScript.
//!
//! A client that goes away cancels its count: a part asks between steps of 65,536 numbers whether it should go on.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub use rayon::ThreadPool;

/// Numbers between two looks at whether a count is cancelled: some ten microseconds.
const STEP: u64 = 1 << 16;

/// The work of one request.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub seed: u32,
    /// How many numbers are looked at, from 0.
    pub size: u64,
    /// The number of parts; at least 1.
    pub parts: u64,
}

/// Ends a count before its time. It is shared by who asked for the count and by the parts.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A pool with as many threads as there are cores, or as many as `threads` says.
pub fn pool(threads: Option<usize>) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build()
}

/// Counts on the pool. `done` is called there, by the last part, with the count, or with `None` when it was cancelled.
///
/// Each part is a job of its own, and jobs are taken in their order. A parallel iterator in one job would take parts of other
/// requests while it waits for its own, and so hold an early request back behind late ones.
pub fn count_on(
    pool: &ThreadPool,
    task: Task,
    cancellation: &Cancellation,
    done: impl FnOnce(Option<u64>) + Send + 'static,
) {
    let shared = Arc::new(Shared {
        left: AtomicUsize::new(task.parts as usize),
        count: AtomicU64::new(0),
        done: std::sync::Mutex::new(Some(done)),
    });
    for part in 0..task.parts {
        let (shared, cancellation) = (shared.clone(), cancellation.clone());
        pool.spawn_fifo(move || {
            let (from, to) = bounds(task, part);
            if let Some(count) = count_part(task.seed, from, to, &cancellation) {
                shared.count.fetch_add(count, Ordering::Relaxed);
            }
            // AcqRel: the last part sees what all others have added.
            if shared.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                let done = shared.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
                let count = shared.count.load(Ordering::Relaxed);
                if let Some(done) = done {
                    done((!cancellation.is_cancelled()).then_some(count));
                }
            }
        });
    }
}

struct Shared<F> {
    left: AtomicUsize,
    count: AtomicU64,
    done: std::sync::Mutex<Option<F>>,
}

/// Where a part begins and ends.
fn bounds(task: Task, part: u64) -> (u64, u64) {
    let bound = |part: u64| (u128::from(task.size) * u128::from(part) / u128::from(task.parts)) as u64;
    (bound(part), bound(part + 1))
}

/// The count from `from` to below `to`, or `None` when it was cancelled.
fn count_part(seed: u32, from: u64, to: u64, cancellation: &Cancellation) -> Option<u64> {
    let mut count = 0;
    let mut at = from;
    while at < to {
        if cancellation.is_cancelled() {
            return None;
        }
        let end = to.min(at + STEP);
        count += u64::from((at..end).map(|number| u32::from(is_counted(seed, number))).sum::<u32>());
        at = end;
    }
    Some(count)
}

/// Numbers beyond 32 bits are taken by their lower 32, as JavaScript's `^` does.
#[inline]
fn is_counted(seed: u32, number: u64) -> bool {
    let mut mixed = (number as u32 ^ seed).wrapping_mul(0x9e37_79b1);
    mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca6b);
    (mixed ^ (mixed >> 13)) & 7 == 0
}

/// Ends this process when its standard input ends: the benchmark that started it is gone then.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn count(task: Task, cancellation: &Cancellation) -> Option<u64> {
        let pool = pool(Some(2)).unwrap();
        let (sender, receiver) = mpsc::channel();
        count_on(&pool, task, cancellation, move |count| sender.send(count).unwrap());
        receiver.recv().unwrap()
    }

    #[test]
    fn parts_make_no_difference() {
        // As lib/counting.mjs counts them: __test__/ops/architectures.test.mjs has the same figures.
        for (seed, size, expected) in EXPECTED {
            for parts in [1, 3, 8] {
                let task = Task { seed, size, parts };
                assert_eq!(count(task, &Cancellation::default()), Some(expected), "{task:?}");
            }
        }
    }

    #[test]
    fn a_cancelled_count_ends() {
        let cancellation = Cancellation::default();
        let (pool, (sender, receiver)) = (pool(Some(2)).unwrap(), mpsc::channel());
        // Hours of work.
        let task = Task { seed: 1, size: 1 << 48, parts: 8 };
        count_on(&pool, task, &cancellation, move |count| sender.send(count).unwrap());
        cancellation.cancel();
        assert_eq!(receiver.recv().unwrap(), None);
    }

    const EXPECTED: [(u32, u64, u64); 3] =
        [(0, 0, 0), (1, 1_000_000, 125_082), (4_294_967_295, 20_000_000, 2_498_767)];
}
