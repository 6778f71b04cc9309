//! Topic filters with named levels, and matching them against topics.
//!
//! `drivers/{driver_id}/position` is the MQTT filter `drivers/+/position` whose `+` is kept under a name, and
//! `logs/{path#}` is `logs/#` whose rest is kept. Rules: MQTT 5, section 4.7.
//!
//! `a/{name#}/b` has levels behind the one that takes several, which MQTT cannot say: [`TopicFilter::subscribed`] is the filter that
//! brings its topics, among others.

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
    /// `#`, likewise. In front of other levels it is one level or more.
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
    /// All levels but the last ones, which further parts match.
    Middle {
        index: Option<usize>,
        behind: usize,
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
            if level == Level::Rest(None) && i + 1 < parts.len() {
                return Err(
                    "has a # before its end: a name takes several levels there, as in a/{name#}/b".into()
                );
            }
            if matches!(level, Level::Rest(_)) && levels.iter().any(|level| matches!(level, Level::Rest(_))) {
                return Err("takes any number of levels twice".into());
            }
            levels.push(level);
        }
        let parts = join(&levels);
        Ok(TopicFilter { filter: text_of(&levels), levels, parts, names })
    }

    /// The levels before and behind the one that takes several, if some are behind it.
    fn sides(&self) -> Option<(&[Level], &[Level])> {
        let at = self.levels.iter().position(|level| matches!(level, Level::Rest(_)))?;
        let behind = &self.levels[at + 1..];
        (!behind.is_empty()).then_some((&self.levels[..at], behind))
    }

    /// Whether [`TopicFilter::subscribed`] matches further topics.
    pub fn is_narrower_than_mqtt(&self) -> bool {
        self.sides().is_some()
    }

    /// The filter to subscribe to.
    pub fn subscribed(&self) -> TopicFilter {
        let Some((before, _)) = self.sides() else { return self.clone() };
        let unnamed = before.iter().map(|level| match level {
            Level::One(_) => Level::One(None),
            other => other.clone(),
        });
        let levels: Vec<Level> = unnamed.chain([Level::Rest(None)]).collect();
        TopicFilter { filter: text_of(&levels), parts: join(&levels), levels, names: Vec::new() }
    }

    /// The filter with `+` and `#` for names. It is that of MQTT, unless levels are behind a `#`.
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
                Part::Middle { index, behind } => {
                    let mut slashes = (0..bytes.len()).rev().filter(|i| bytes[*i] == b'/');
                    let Some(end) = slashes.nth(behind - 1).filter(|end| *end >= at) else { return false };
                    if index.is_some() {
                        captures.0.push((at, end));
                    }
                    at = end;
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
        if let Some((before, behind)) = self.sides() {
            return other.is_between(before, behind);
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

impl TopicFilter {
    /// Whether all topics begin and end as these levels say, with one level between at least.
    fn is_between(&self, before: &[Level], behind: &[Level]) -> bool {
        let is_within = |(ours, theirs): (&Level, &Level)| match (ours, theirs) {
            (Level::One(_), Level::Literal(_) | Level::One(_)) => true,
            (Level::Literal(a), Level::Literal(b)) => a == b,
            _ => false,
        };
        let (first, last) = match self.sides() {
            Some(sides) => sides,
            // How many levels a topic has is not known.
            None if matches!(self.levels.last(), Some(Level::Rest(_))) => return false,
            None if self.levels.len() <= before.len() + behind.len() => return false,
            None => self.levels.split_at(self.levels.len() - behind.len()),
        };
        before.len() <= first.len()
            && behind.len() <= last.len()
            && before.iter().zip(first).all(is_within)
            && behind.iter().zip(&last[last.len() - behind.len()..]).all(is_within)
    }
}

fn text_of(levels: &[Level]) -> String {
    let texts = levels.iter().map(|level| match level {
        Level::Literal(text) => text.as_str(),
        Level::One(_) => "+",
        Level::Rest(_) => "#",
    });
    texts.collect::<Vec<_>>().join("/")
}

/// Literal levels side by side are compared at once.
fn join(levels: &[Level]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    for (i, level) in levels.iter().enumerate() {
        let is_first = i == 0;
        let behind = levels.len() - i - 1;
        if !is_first && (behind > 0 || !matches!(level, Level::Rest(_))) {
            text.push('/');
        }
        let part = match level {
            Level::Literal(literal) => {
                text.push_str(literal);
                continue;
            }
            Level::One(index) => Part::One(*index),
            Level::Rest(index) if behind > 0 => Part::Middle { index: *index, behind },
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

    /// Whether there is a topic that both match; levels behind a `#` are not looked at.
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
mod tests;
