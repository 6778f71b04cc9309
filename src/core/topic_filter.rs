//! Topic filters with named levels, and matching them against topics.
//!
//! `drivers/{driver_id}/position` is the MQTT filter `drivers/+/position` whose `+` is kept under a name, and
//! `logs/{path#}` is `logs/#` whose rest is kept. Rules: MQTT 5, section 4.7.

use crate::core::swar;

#[derive(Debug, Clone)]
pub struct TopicFilter {
    filter: String,
    levels: Vec<Level>,
    /// The parts that a topic is compared with.
    parts: Vec<Part>,
    names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Literal(String),
    /// `+`, kept at this place of the captures if it is named.
    One(Option<usize>),
    /// `#`, likewise.
    Rest(Option<usize>),
}

/// A run of levels.
#[derive(Debug, Clone)]
enum Part {
    /// Literal levels, and the slashes beside them.
    Text(Box<[u8]>),
    One(Option<usize>),
    /// Behind a slash, unless it is the first.
    Rest {
        index: Option<usize>,
        is_first: bool,
    },
}

/// The parts of a topic that the named levels of a filter matched, as ranges of the topic; reused from message to message.
#[derive(Debug, Default, Clone)]
pub struct Captures(Vec<(usize, usize)>);

impl Captures {
    pub fn get<'t>(&self, index: usize, topic: &'t str) -> &'t str {
        let (start, end) = self.0[index];
        &topic[start..end]
    }
}

impl TopicFilter {
    /// The filter that matches one topic, whatever characters it has.
    pub fn literal(topic: &str) -> TopicFilter {
        let levels: Vec<Level> = topic.split('/').map(|level| Level::Literal(level.into())).collect();
        TopicFilter { filter: topic.into(), parts: join(&levels), levels, names: Vec::new() }
    }

    /// The error completes "routes[0].topic: ".
    pub fn parse(text: &str) -> Result<TopicFilter, String> {
        // MQTT allows 65,535 bytes, a shared group among them.
        if text.is_empty() || text.len() > 64000 {
            return Err("must have 1 to 64000 bytes".into());
        }
        if text.starts_with("$share/") {
            return Err("must be the filter alone: sharedGroup makes the shared subscription".into());
        }
        let mut levels: Vec<Level> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        let parts: Vec<&str> = text.split('/').collect();
        for (i, part) in parts.iter().enumerate() {
            let level = match *part {
                "+" => Level::One(None),
                "#" => Level::Rest(None),
                _ => match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                    Some(name) => {
                        let (name, rest) = match name.strip_suffix('#') {
                            Some(name) => (name, true),
                            None => (name, false),
                        };
                        if name.is_empty() || name.contains(['{', '}', '#', '+']) {
                            return Err(format!("has a level {part:?} without a proper name"));
                        }
                        if names.iter().any(|n| n == name) {
                            return Err(format!("uses the name {name:?} twice"));
                        }
                        names.push(name.into());
                        let index = Some(names.len() - 1);
                        if rest { Level::Rest(index) } else { Level::One(index) }
                    }
                    None if part.contains(['{', '}']) => {
                        return Err(format!(
                            "has a level {part:?}: a name takes a whole level, as in a/{{name}}/b"
                        ));
                    }
                    None if part.contains(['+', '#']) => {
                        return Err(format!("has a level {part:?}: + and # take a whole level"));
                    }
                    None => Level::Literal((*part).into()),
                },
            };
            if matches!(level, Level::Rest(_)) && i + 1 < parts.len() {
                return Err("has a # before its end".into());
            }
            levels.push(level);
        }
        let filter = levels
            .iter()
            .map(|level| match level {
                Level::Literal(text) => text.as_str(),
                Level::One(_) => "+",
                Level::Rest(_) => "#",
            })
            .collect::<Vec<_>>()
            .join("/");
        let parts = join(&levels);
        Ok(TopicFilter { filter, levels, parts, names })
    }

    /// The filter as MQTT knows it.
    pub fn as_str(&self) -> &str {
        &self.filter
    }

    /// The names, in the order of the captures.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a topic matches; fills `captures` if so.
    pub fn matches(&self, topic: &str, captures: &mut Captures) -> bool {
        captures.0.clear();
        // Wildcards do not reach into $SYS and its kind: [MQTT-4.7.2-1].
        if topic.starts_with('$') && !matches!(self.levels[0], Level::Literal(_)) {
            return false;
        }
        let bytes = topic.as_bytes();
        let mut at = 0;
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    let Some(found) = bytes.get(at..at + text.len()) else { return false };
                    if !swar::bytes_eq(found, text) {
                        return false;
                    }
                    at += text.len();
                }
                Part::One(index) => {
                    let end = swar::find(b'/', bytes, at);
                    if index.is_some() {
                        captures.0.push((at, end));
                    }
                    at = end;
                }
                Part::Rest { index, is_first } => {
                    // # also matches the level above it: [MQTT 4.7.1.2].
                    let has_slash = bytes.get(at) == Some(&b'/');
                    if !is_first && at < bytes.len() && !has_slash {
                        return false;
                    }
                    if index.is_some() {
                        captures.0.push((at + (has_slash && !is_first) as usize, bytes.len()));
                    }
                    return true;
                }
            }
        }
        at == bytes.len()
    }

    /// Whether every topic that `other` matches is matched by this filter too.
    pub fn covers(&self, other: &TopicFilter) -> bool {
        let dollar = matches!(&other.levels[0], Level::Literal(text) if text.starts_with('$'));
        if dollar && !matches!(self.levels[0], Level::Literal(_)) {
            return false;
        }
        let mut theirs = other.levels.iter();
        for ours in &self.levels {
            match (ours, theirs.next()) {
                (Level::Rest(_), _) => return true,
                (Level::One(_), Some(Level::Literal(_) | Level::One(_))) => {}
                (Level::Literal(a), Some(Level::Literal(b))) if a == b => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }
}

/// Literal levels side by side are compared at once.
fn join(levels: &[Level]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    for (i, level) in levels.iter().enumerate() {
        let is_first = i == 0;
        if !is_first && !matches!(level, Level::Rest(_)) {
            text.push('/');
        }
        let part = match level {
            Level::Literal(literal) => {
                text.push_str(literal);
                continue;
            }
            Level::One(index) => Part::One(*index),
            Level::Rest(index) => Part::Rest { index: *index, is_first },
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text).into_bytes().into()));
        }
        parts.push(part);
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into_bytes().into()));
    }
    parts
}

impl TopicFilter {
    /// The filter whose topics are those of this one with slashes in place of dots; `None` if it has no dots. The captures stay.
    pub fn with_slashes_for_dots(&self) -> Option<TopicFilter> {
        if !self.filter.contains('.') {
            return None;
        }
        let mut levels = Vec::new();
        for level in &self.levels {
            match level {
                Level::Literal(text) => {
                    levels.extend(text.split('.').map(|part| Level::Literal(part.into())))
                }
                other => levels.push(other.clone()),
            }
        }
        let (filter, parts) = (self.filter.replace('.', "/"), join(&levels));
        Some(TopicFilter { filter, levels, parts, names: self.names.clone() })
    }

    /// The narrowest filter that matches every topic that one of these matches. The first level of both must be able to match
    /// the same topics: wildcards do not reach into $SYS and its kind.
    pub fn cover(&self, other: &TopicFilter) -> TopicFilter {
        let mut levels = Vec::new();
        for at in 0..self.levels.len().max(other.levels.len()) {
            match (self.levels.get(at), other.levels.get(at)) {
                (Some(Level::Literal(a)), Some(Level::Literal(b))) if a == b => levels.push(a.as_str()),
                (Some(Level::Literal(_) | Level::One(_)), Some(Level::Literal(_) | Level::One(_))) => {
                    levels.push("+");
                }
                _ => {
                    levels.push("#");
                    break;
                }
            }
        }
        let filter = levels.join("/");
        let levels: Vec<Level> = levels
            .iter()
            .map(|level| match *level {
                "+" => Level::One(None),
                "#" => Level::Rest(None),
                text => Level::Literal(text.into()),
            })
            .collect();
        TopicFilter { filter, parts: join(&levels), levels, names: Vec::new() }
    }

    /// Whether there is a topic that both match.
    pub fn overlaps(&self, other: &TopicFilter) -> bool {
        let is_dollar =
            |filter: &TopicFilter| matches!(&filter.levels[0], Level::Literal(text) if text.starts_with('$'));
        let is_literal = |filter: &TopicFilter| matches!(&filter.levels[0], Level::Literal(_));
        if (is_dollar(self) && !is_literal(other)) || (is_dollar(other) && !is_literal(self)) {
            return false; // [MQTT-4.7.2-1]
        }
        let (mut ours, mut theirs) = (self.levels.iter(), other.levels.iter());
        loop {
            match (ours.next(), theirs.next()) {
                (Some(Level::Rest(_)), _) | (_, Some(Level::Rest(_))) | (None, None) => return true,
                (Some(Level::Literal(a)), Some(Level::Literal(b))) if a != b => return false,
                (Some(_), Some(_)) => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(filter: &str, topic: &str) -> Option<Vec<String>> {
        let filter = TopicFilter::parse(filter).unwrap();
        let mut captures = Captures::default();
        filter
            .matches(topic, &mut captures)
            .then(|| (0..filter.names.len()).map(|i| captures.get(i, topic).to_string()).collect())
    }

    #[test]
    fn named_levels_are_kept() {
        assert_eq!(captured("drivers/{id}/position", "drivers/42/position"), Some(vec!["42".into()]));
        assert_eq!(captured("a/{x}/+/{rest#}", "a/1/2/3/4"), Some(vec!["1".into(), "3/4".into()]));
        assert_eq!(captured("a/{rest#}", "a"), Some(vec![String::new()]));
        assert_eq!(captured("a/{rest#}", "a/"), Some(vec![String::new()]));
        assert_eq!(captured("{all#}", "/a/b"), Some(vec!["/a/b".into()]));
        assert_eq!(captured("{a}/{b}", "/"), Some(vec![String::new(), String::new()]));
    }

    // The examples of MQTT 5, sections 4.7.1.2 and 4.7.1.3.
    #[test]
    fn wildcards_match_as_the_specification_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "anything/at/all", true),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("/#", "/finance/stock", true),
            ("/#", "finance", false),
            ("a/#", "ab", false),
            ("a/#", "a/", true),
            ("+/#", "a", true),
            ("+/#", "a/b/c", true),
            ("a/b", "a/bc", false),
            ("a/b", "a", false),
            ("a//b", "a//b", true),
            ("a/+/c", "a//c", true),
            ("a/+/c", "a/b/d", false),
            ("a/+/c", "a/b/cd", false),
            ("a/+/c", "a/b", false),
        ] {
            assert_eq!(captured(filter, topic).is_some(), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn slashes_for_dots_keep_the_captures() {
        let filter = TopicFilter::parse("plant.1/{dev}/temp.c/{rest#}").unwrap();
        let rewritten = filter.with_slashes_for_dots().unwrap();
        assert_eq!(rewritten.as_str(), "plant/1/+/temp/c/#");
        let mut captures = Captures::default();
        assert!(rewritten.matches("plant/1/d7/temp/c/x/y", &mut captures));
        assert_eq!(captures.get(0, "plant/1/d7/temp/c/x/y"), "d7");
        assert_eq!(captures.get(1, "plant/1/d7/temp/c/x/y"), "x/y");
        assert!(!rewritten.matches("plant.1/d7/temp.c/x", &mut captures));
        assert!(TopicFilter::parse("plant/{dev}").unwrap().with_slashes_for_dots().is_none());
    }

    #[test]
    fn wrong_filters_are_refused() {
        for text in ["", "a/#/b", "a+/b", "a/{x}/{x}", "a/{}", "a/{x", "a/x{y}", "$share/g/a"] {
            assert!(TopicFilter::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cover_is_the_narrowest_filter_of_both() {
        let parse = |t: &str| TopicFilter::parse(t).unwrap();
        for (a, b, expected) in [
            ("o/{dev}/c", "o/b/{dev}", "o/+/+"),
            ("+/b", "a/+", "+/+"),
            ("a/+/c", "a/b/#", "a/+/#"),
            ("a/+", "a/#", "a/#"),
            ("+/x", "a/#", "+/#"),
            ("+/a/#", "x/+/y", "+/+/#"),
            ("$SYS/+/a", "$SYS/b/+", "$SYS/+/+"),
        ] {
            let cover = parse(a).cover(&parse(b));
            assert_eq!(cover.as_str(), expected, "{a} {b}");
            assert!(cover.covers(&parse(a)) && cover.covers(&parse(b)), "{a} {b}");
            assert_eq!(parse(b).cover(&parse(a)).as_str(), expected, "{b} {a}");
        }
        assert!(!parse("#").overlaps(&parse("$SYS/a")));
        assert!(!parse("$SYS/a").overlaps(&parse("+/a")));
        assert!(parse("$SYS/+").overlaps(&parse("$SYS/a")));
    }

    #[test]
    fn a_filter_knows_what_it_covers() {
        for (a, b, expected) in [
            ("#", "a/b", true),
            ("a/#", "a/+/c", true),
            ("a/#", "a", true),
            ("a/+", "a/b", true),
            ("a/+", "a/#", false),
            ("+/b", "a/+", false),
            ("a/b", "a/b", true),
            ("#", "$SYS/a", false),
            ("a/+/c", "a/#", false),
        ] {
            let parse = |t| TopicFilter::parse(t).unwrap();
            assert_eq!(parse(a).covers(&parse(b)), expected, "{a} {b}");
        }
    }
}
