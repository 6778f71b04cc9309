//! Things to be used again, of which one is as good as another. What was not needed for a while is dropped.

/// Things of which one is as good as another.
#[derive(Debug)]
pub struct Shelf<T> {
    spares: Vec<T>,
    most: usize,
    /// So many at the bottom were not taken in this turn.
    idle: usize,
    /// How often something came back in this turn.
    returned: usize,
}

/// After so many batches what was never taken meanwhile is given up.
pub(crate) const TURN: usize = 32;

impl<T> Shelf<T> {
    /// Keeps so many.
    pub fn new(most: usize) -> Shelf<T> {
        Shelf { spares: Vec::new(), most, idle: 0, returned: 0 }
    }

    pub fn take(&mut self) -> Option<T> {
        let spare = self.spares.pop();
        self.idle = self.idle.min(self.spares.len());
        spare
    }

    /// What a batch gives back; says whether a turn ends with it.
    pub fn give(&mut self, spares: impl IntoIterator<Item = T>) -> bool {
        let room = self.most.saturating_sub(self.spares.len());
        self.spares.extend(spares.into_iter().take(room));
        self.returned += 1;
        if self.returned < TURN {
            return false;
        }
        self.spares.drain(..self.idle);
        (self.idle, self.returned) = (self.spares.len(), 0);
        true
    }

    /// Gives up what does not fit, at the end of a turn.
    pub fn retain(&mut self, fits: impl FnMut(&T) -> bool) {
        self.spares.retain(fits);
        self.idle = self.spares.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_busy_time_needed_is_given_up() {
        let mut shelf = Shelf::new(4);
        (0..5).for_each(|spare| assert!(!shelf.give([spare])));
        assert_eq!(shelf.spares.len(), 4);
        // Two at once, again and again.
        for _ in 0..TURN {
            let taken = [shelf.take().unwrap(), shelf.take().unwrap()];
            assert_eq!(taken, [3, 2]);
            taken.into_iter().rev().for_each(|spare| _ = shelf.give([spare]));
        }
        assert_eq!(shelf.spares.len(), 2);
    }
}
