//! `routes[].where`: which messages, or which of their rows, a route takes at all.
//!
//! The decoder evaluates it (`decode::condition`); this file reads it and reports its mistakes.

use serde_json::Value;

use crate::config::column_source::paths;
use crate::config::object_reader::ObjectReader;
use crate::config::option::Kind;
use crate::config::schema::{COMPARED, CONDITIONS, ORDERED};
use crate::config::taken::{Taken, given, phrase};
use crate::core::error::{Error, Result};
use crate::core::json_path::Path;
use crate::core::topic_filter::TopicFilter;

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    /// All checks hold for one value.
    Test(Operand, Vec<Check>),
}

/// The value that is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A field: the first that is there at one of these paths.
    Field(Vec<Path>),
    /// A named level of the topic, by its place among the captures.
    Level(usize),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    Exists(bool),
    Eq(Constant),
    Ne(Constant),
    In(Vec<Constant>),
    /// The value stands in this relation to a number or text.
    Order(Relation, Constant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    Bool(bool),
    Integer(i128),
    /// No integer of 64 bits.
    Float(f64),
    Text(String),
}

impl Constant {
    /// A number; the same number is always the same constant.
    pub fn of_float(float: f64) -> Constant {
        // The powers of two are floats themselves.
        let is_integer = float.fract() == 0.0 && (-(2f64.powi(63))..2f64.powi(64)).contains(&float);
        if is_integer { Constant::Integer(float as i128) } else { Constant::Float(float) }
    }
}

impl Condition {
    /// Whether it asks for a named level of the `topic`.
    pub fn reads_level(&self, name: &str, topic: &TopicFilter) -> bool {
        match self {
            Condition::And(all) | Condition::Or(all) => all.iter().any(|one| one.reads_level(name, topic)),
            Condition::Not(inner) => inner.reads_level(name, topic),
            Condition::Test(Operand::Level(place), _) => topic.names().nth(*place) == Some(name),
            Condition::Test(Operand::Field(_), _) => false,
        }
    }

    pub fn each_path_mut(&mut self, f: &mut impl FnMut(&mut Path)) {
        match self {
            Condition::And(all) | Condition::Or(all) => all.iter_mut().for_each(|one| one.each_path_mut(f)),
            Condition::Not(inner) => inner.each_path_mut(f),
            Condition::Test(Operand::Field(paths), _) => paths.iter_mut().for_each(f),
            Condition::Test(Operand::Level(_), _) => {}
        }
    }

    /// Calls `f` with each field that is asked for.
    pub fn each_path<'c>(&'c self, f: &mut impl FnMut(&'c Path)) {
        match self {
            Condition::And(all) | Condition::Or(all) => all.iter().for_each(|one| one.each_path(f)),
            Condition::Not(inner) => inner.each_path(f),
            Condition::Test(Operand::Field(paths), _) => paths.iter().for_each(f),
            Condition::Test(Operand::Level(_), _) => {}
        }
    }
}

/// Reads the condition at `path`, such as `routes[0].where`, of a route for `topic`.
pub fn condition(path: &str, value: &Value, topic: &TopicFilter) -> Result<Condition> {
    if !value.is_object() {
        return Err(Error::config(path, "must be an object"));
    }
    let Some(Taken::Object(form, o)) = Taken::of(path, value, &CONDITIONS)? else {
        return Err(Error::config(path, "must have one of path, topic, and, or, not"));
    };
    let condition = match form {
        "and" => Condition::And(conditions(&o, form, topic)?),
        "or" => Condition::Or(conditions(&o, form, topic)?),
        "not" => {
            let inner = o.value(form).map(|inner| condition(&o.path_of(form), inner, topic));
            Condition::Not(Box::new(inner.unwrap_or_else(|| Err(o.wrong(form, "is required")))?))
        }
        "topic" => {
            let name = o.required_text(form)?;
            let Some(place) = topic.names().position(|level| level == name) else {
                return Err(o.wrong(form, format!("the route's topic has no {{{name}}}")));
            };
            Condition::Test(Operand::Level(place), checks(&o)?)
        }
        _ => {
            let (first, others) = match o.value(form) {
                Some(value) => paths(value, &o.path_of(form))?,
                None => return Err(o.wrong(form, "is required")),
            };
            let paths = [vec![first], others].concat();
            Condition::Test(Operand::Field(paths), checks(&o)?)
        }
    };
    o.finish()?;
    Ok(condition)
}

fn conditions(o: &ObjectReader<'_>, name: &str, topic: &TopicFilter) -> Result<Vec<Condition>> {
    let path = o.path_of(name);
    let Some(Value::Array(items)) = o.value(name) else {
        return Err(o.wrong(name, "must be a list of conditions"));
    };
    if items.is_empty() {
        return Err(o.wrong(name, "must not be an empty list"));
    }
    let one = |(place, item)| condition(&format!("{path}[{place}]"), item, topic);
    items.iter().enumerate().map(one).collect()
}

fn checks(o: &ObjectReader<'_>) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    if let Some(Taken::Flag(flag)) = o.take("exists")? {
        checks.push(Check::Exists(flag));
    }
    let mut add = |name: &str, check: &dyn Fn(Constant) -> Check| -> Result<()> {
        if let Some(value) = o.value(name) {
            let kinds =
                if matches!(name, "eq" | "ne") { COMPARED.alternatives() } else { ORDERED.alternatives() };
            checks.push(check(constant(&o.path_of(name), value, kinds)?));
        }
        Ok(())
    };
    add("eq", &Check::Eq)?;
    add("ne", &Check::Ne)?;
    add("lt", &|constant| Check::Order(Relation::Less, constant))?;
    add("le", &|constant| Check::Order(Relation::LessOrEqual, constant))?;
    add("gt", &|constant| Check::Order(Relation::Greater, constant))?;
    add("ge", &|constant| Check::Order(Relation::GreaterOrEqual, constant))?;
    if let Some(value) = o.value("in") {
        let path = o.path_of("in");
        let Some(items) = value.as_array() else { return Err(o.wrong("in", "must be a list of values")) };
        if items.is_empty() {
            return Err(o.wrong("in", "must not be an empty list"));
        }
        let one = |(place, item)| constant(&format!("{path}[{place}]"), item, COMPARED.alternatives());
        checks.push(Check::In(items.iter().enumerate().map(one).collect::<Result<_>>()?));
    }
    if checks.is_empty() {
        let advice = "needs a comparison: eq, ne, lt, le, gt, ge, in or exists";
        return Err(Error::config(o.path(), advice));
    }
    Ok(checks)
}

fn constant(path: &str, value: &Value, kinds: &'static [Kind]) -> Result<Constant> {
    if value.is_null() {
        let message = "null is the same as a field that is missing: say { exists: false }";
        return Err(Error::config(path, message));
    }
    match Taken::of(path, value, kinds)? {
        Some(Taken::Flag(flag)) => Ok(Constant::Bool(flag)),
        Some(Taken::Number(number)) => {
            let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            let float = || Constant::of_float(number.as_f64().unwrap_or(f64::NAN));
            Ok(integer.map_or_else(float, Constant::Integer))
        }
        Some(Taken::Text(text)) => Ok(Constant::Text(text)),
        _ => {
            let wanted = kinds.iter().map(phrase).collect::<Vec<_>>().join(" or ");
            Err(Error::config(path, format!("must be {wanted}, not {}", given(value, kinds))))
        }
    }
}
