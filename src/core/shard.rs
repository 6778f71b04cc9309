//! The shard that rows go to, and how the stream of a spool names it.

/// One of `count` shards, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    pub at: u32,
    pub count: u32,
}

/// Between the name of a route and the shard. No topic has a NUL.
const MARK: &str = "\0shard ";

impl Shard {
    /// The shard of a row with this hash: as a `Distributed` table whose shards have equal weights.
    pub fn of_hash(hash: u64, count: u32) -> Shard {
        Shard { at: (hash % u64::from(count.max(1))) as u32, count }
    }

    /// The name of a route with the shard.
    pub fn name(self, route: &str) -> String {
        format!("{route}{MARK}{} of {}", self.at, self.count)
    }

    /// The name of a route, and the shard if [`Shard::name`] wrote one.
    pub fn split_name(name: &str) -> (&str, Option<Shard>) {
        let parsed = || {
            let (route, shard) = name.rsplit_once(MARK)?;
            let (at, count) = shard.split_once(" of ")?;
            let shard = Shard { at: at.parse().ok()?, count: count.parse().ok()? };
            (shard.at < shard.count).then_some((route, Some(shard)))
        };
        parsed().unwrap_or((name, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_route_and_the_shard() {
        let shard = Shard { at: 2, count: 3 };
        let name = shard.name("drivers/+/position\x001");
        assert_eq!(Shard::split_name(&name), ("drivers/+/position\x001", Some(shard)));
        assert_eq!(Shard::split_name("drivers/+/position"), ("drivers/+/position", None));
        let odd = Shard { at: 3, count: 3 }.name("a");
        assert_eq!(Shard::split_name(&odd), (&*odd, None), "there is no such shard");
    }

    #[test]
    fn hashes_are_divided_by_the_number_of_shards() {
        let shards: Vec<u32> = [0, 1, 2, 3, u64::MAX].map(|hash| Shard::of_hash(hash, 3).at).into();
        assert_eq!(shards, [0, 1, 2, 0, 0]);
    }
}
