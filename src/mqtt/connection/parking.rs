//! Waits on a thread alone, outside of its runtime.
//!
//! Each segment that arrives wakes a runtime that waits, though nobody wants it now. A thread that is parked sleeps on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes the thread that it was made on.
#[derive(Debug)]
pub struct Parking(Waker);

impl Parking {
    pub fn new() -> Parking {
        Parking(Arc::new(Unpark(std::thread::current())).into())
    }

    /// The result of `work`, which needs neither time nor I/O of the runtime; `None`: `duration` has passed.
    pub fn wait<T>(&self, duration: Duration, work: impl Future<Output = T>) -> Option<T> {
        // The runtime gives a task a budget of polls, and has no chance here to renew it.
        let mut work = pin!(tokio::task::unconstrained(work));
        let until = Instant::now() + duration;
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&self.0)) {
                return Some(done);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::park_timeout(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(flavor = "current_thread")]
    async fn it_ends_when_something_comes_or_the_time_is_over() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let parking = Parking::new();
        assert_eq!(parking.wait(Duration::from_millis(1), receiver.recv()), None);
        // More than a task may poll without a pause.
        for number in 0..1000 {
            sender.send(number).unwrap();
        }
        assert!((0..1000).all(|number| parking.wait(LONG, receiver.recv()) == Some(Some(number))));
        let thread = std::thread::spawn(move || sender.send(1000));
        assert_eq!(parking.wait(LONG, receiver.recv()), Some(Some(1000)));
        thread.join().unwrap().unwrap();
    }
}
