//! Finding the messages that ClickHouse refuses among those that it takes, with few attempts.
//!
//! A batch that was refused is tried in halves, and halves of halves, until the bad ones are alone. For `n` messages
//! of which `k` are bad that is about `2 k log2(n)` attempts, of which there must not be too many: they are bounded, and
//! where nothing is taken at all, as of a batch that is bad throughout, it ends much sooner. Messages
//! that are not isolated then are rejected together.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

/// How many attempts may be made.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u32>,
    /// How many more may fail before the first succeeds.
    fruitless: Cell<u32>,
}

impl Budget {
    /// The budget for `messages`; each time that `exhausted` counts halves the attempts.
    pub fn new(messages: usize, exhausted: u32) -> Budget {
        let log2 = usize::BITS - messages.leading_zeros();
        Budget { left: Cell::new((8 * log2) >> exhausted), fruitless: Cell::new(2 * log2) }
    }

    /// Takes one attempt; `false`: there is none left.
    pub fn spend(&self) -> bool {
        let may = self.left.get() > 0 && self.fruitless.get() > 0;
        if may {
            self.left.set(self.left.get() - 1);
        }
        may
    }

    fn failed(&self) {
        self.fruitless.set(self.fruitless.get() - 1);
    }

    fn succeeded(&self) {
        self.fruitless.set(u32::MAX);
    }
}

/// The result of some messages.
#[derive(Debug, Clone)]
pub enum AttemptOutcome {
    Taken,
    /// Some of them are bad, for this reason.
    Refused(Arc<str>),
    /// The good ones are inserted and the bad ones known: nothing is left to isolate.
    Settled,
}

/// Messages that are not to be tried any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub messages: Range<usize>,
    pub reason: Arc<str>,
}

impl Refused {
    /// The same messages, with places that count `before` earlier messages too.
    pub fn behind(self, before: usize) -> Refused {
        Refused { messages: self.messages.start + before..self.messages.end + before, ..self }
    }

    /// Whether there may be good ones among them.
    pub fn is_given_up(&self) -> bool {
        self.messages.len() > 1
    }
}

/// Isolates the bad ones of `messages`, which were refused for `reason`. `attempt` gives `None` when it
/// is cancelled, as does this.
pub async fn halve(
    messages: Range<usize>,
    reason: Arc<str>,
    budget: &Budget,
    mut attempt: impl AsyncFnMut(Range<usize>) -> Option<AttemptOutcome>,
) -> Option<Vec<Refused>> {
    let mut refused = Vec::new();
    let mut open = vec![Refused { messages, reason }];
    while let Some(Refused { messages, reason }) = open.pop() {
        let middle = messages.start + messages.len() / 2;
        if messages.len() == 1 || !budget.spend() {
            refused.push(Refused { messages, reason });
            continue;
        }
        // Both halves are tried before either is halved again: the large good ones are inserted first.
        let (left, right) = (messages.start..middle, middle..messages.end);
        let answer = attempt(left.clone()).await?;
        let is_right_bad = matches!(answer, AttemptOutcome::Taken);
        let left = after(answer, left, budget);
        let right = if is_right_bad && right.len() > 1 {
            Some(Refused { messages: right, reason })
        } else if budget.spend() {
            after(attempt(right.clone()).await?, right, budget)
        } else {
            Some(Refused { messages: right, reason })
        };
        open.extend(right);
        open.extend(left);
    }
    refused.sort_by_key(|refused| refused.messages.start);
    Some(refused)
}

fn after(answer: AttemptOutcome, messages: Range<usize>, budget: &Budget) -> Option<Refused> {
    match answer {
        AttemptOutcome::Taken | AttemptOutcome::Settled => {
            budget.succeeded();
            None
        }
        AttemptOutcome::Refused(reason) => {
            budget.failed();
            Some(Refused { messages, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Isolated {
        taken: Vec<usize>,
        refused: Vec<Refused>,
        attempts: usize,
    }

    /// Halves `count` messages against a server that refuses what contains a bad one.
    fn isolate(count: usize, budget: &Budget, is_bad: impl Fn(usize) -> bool) -> Isolated {
        let (mut taken, mut attempts) = (Vec::new(), 0);
        let server = async |messages: Range<usize>| {
            attempts += 1;
            match messages.clone().find(|i| is_bad(*i)) {
                Some(bad) => Some(AttemptOutcome::Refused(bad.to_string().into())),
                None => {
                    taken.extend(messages);
                    Some(AttemptOutcome::Taken)
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let refused = runtime.block_on(halve(0..count, "all".into(), budget, server)).unwrap();
        taken.sort_unstable();
        Isolated { taken, refused, attempts }
    }

    fn plenty() -> Budget {
        Budget { left: Cell::new(u32::MAX), fruitless: Cell::new(u32::MAX) }
    }

    #[test]
    fn one_of_5000_is_found_in_a_few_attempts() {
        for bad in [0, 1, 17, 2499, 2500, 4998, 4999] {
            let isolated = isolate(5000, &Budget::new(5000, 0), |i| i == bad);
            assert_eq!(
                isolated.refused,
                [Refused { messages: bad..bad + 1, reason: bad.to_string().into() }]
            );
            assert_eq!(isolated.taken.len(), 4999);
            assert!(isolated.attempts <= 26, "{} attempts", isolated.attempts);
        }
    }

    #[test]
    fn a_batch_that_is_bad_throughout_is_soon_given_up() {
        let isolated = isolate(5000, &Budget::new(5000, 0), |_| true);
        assert_eq!(isolated.attempts, 26);
        assert_eq!(isolated.refused.iter().map(|refused| refused.messages.len()).sum::<usize>(), 5000);
        assert!(isolated.refused.iter().any(Refused::is_given_up));
    }

    #[test]
    fn a_run_of_bad_ones_does_not_condemn_the_batch() {
        let isolated = isolate(5000, &Budget::new(5000, 0), |i| i < 100);
        assert!(isolated.taken.len() >= 4800, "{} taken", isolated.taken.len());
    }

    #[test]
    fn too_many_bad_ones_use_the_budget_up_and_no_more() {
        let isolated = isolate(5000, &Budget::new(5000, 0), |i| i % 10 == 9);
        assert_eq!(isolated.attempts, 8 * 13);
        assert!(isolated.taken.len() > 100, "{} taken", isolated.taken.len());
    }

    #[test]
    fn a_route_that_exhausts_its_budget_gets_less() {
        let attempts = |exhausted| isolate(5000, &Budget::new(5000, exhausted), |i| i % 10 == 9).attempts;
        assert_eq!((attempts(1), attempts(3), attempts(6)), (52, 13, 1));
    }

    proptest! {
        #[test]
        fn each_message_is_taken_or_refused_once(
            count in 1usize..300,
            bad in proptest::collection::btree_set(0usize..300, 1..20),
            tight in any::<bool>(),
        ) {
            let bad: Vec<usize> = bad.into_iter().map(|i| i % count).collect();
            let budget = if tight { Budget::new(count, 1) } else { plenty() };
            let isolated = isolate(count, &budget, |i| bad.contains(&i));
            let mut all = isolated.taken.clone();
            all.extend(isolated.refused.iter().flat_map(|refused| refused.messages.clone()));
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            prop_assert!(isolated.taken.iter().all(|i| !bad.contains(i)));
            if !tight {
                prop_assert!(isolated.refused.iter().all(|refused| !refused.is_given_up()));
                prop_assert!(isolated.refused.iter().all(|refused| bad.contains(&refused.messages.start)));
            }
        }
    }
}
