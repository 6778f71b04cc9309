//! `routes[].where`: whether a row is wanted at all, said before any of its columns is read.
//!
//! A condition may be known to hold or not before all that it asks for is known: by the topic alone, or by the document
//! around a list of rows. Until then it is undecided (`None`), and is asked again for each row.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::clickhouse::Zone;
use crate::config::{Check, Condition, Constant, Format, Operand, Relation, Route};
use crate::core::json_path::{Path, Segment};
use crate::decode::number::Number;
use crate::decode::value_reader::{Result, Shape, Token, ValueReader};
use crate::decode::{Message, time};

#[derive(Debug, Clone)]
pub struct Filter {
    condition: Condition,
    /// Texts that are a missing value.
    nulls: Vec<String>,
    /// Whether a format has nothing but texts: their digits are numbers.
    has_texts_alone: bool,
    /// Every payload is read: an excluded one may name what later ones only number.
    reads_all: bool,
}

/// Says of the value at the first of some paths that leads to one whether it passes a check; `None`: not known yet.
pub trait Fields {
    fn check(&mut self, paths: &[Path], check: &dyn Fn(&Token<'_>) -> bool) -> Result<Option<bool>>;
}

impl Filter {
    pub fn of(route: &Route) -> Option<Filter> {
        Some(Filter {
            condition: route.condition.clone()?,
            nulls: route.nulls.clone(),
            has_texts_alone: matches!(route.format, Format::Text | Format::Csv(_)),
            reads_all: route.format == Format::Sparkplug,
        })
    }

    /// The fields that it asks for.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths = Vec::new();
        self.condition.each_path(&mut |path| paths.push(path));
        paths
    }

    /// Gives the fields other names where `rename` has one.
    pub fn rename_fields<'n>(&mut self, rename: impl Fn(&str) -> Option<&'n str>) {
        self.condition.each_path_mut(&mut |path| {
            for segment in &mut path.segments {
                if let Segment::Field(name) = segment
                    && let Some(other) = rename(name)
                {
                    *name = other.into();
                }
            }
        });
    }

    /// Whether a payload is read for it.
    pub fn reads_payload(&self) -> bool {
        self.reads_all || !self.paths().is_empty()
    }

    /// Whether the topic says by itself that no row of a message is wanted.
    pub fn excludes_topic(&self, message: &Message<'_>) -> bool {
        // A field is not known yet, so nothing is read that could fail.
        !self.reads_all && self.holds(message, &mut Unread) == Ok(Some(false))
    }

    /// Whether the condition holds.
    pub fn holds(&self, message: &Message<'_>, fields: &mut impl Fields) -> Result<Option<bool>> {
        self.evaluate(&self.condition, message, fields)
    }

    fn evaluate(
        &self,
        condition: &Condition,
        message: &Message<'_>,
        fields: &mut impl Fields,
    ) -> Result<Option<bool>> {
        match condition {
            Condition::And(all) => self.join(all, false, message, fields),
            Condition::Or(any) => self.join(any, true, message, fields),
            Condition::Not(inner) => Ok(self.evaluate(inner, message, fields)?.map(|holds| !holds)),
            Condition::Test(Operand::Level(place), checks) => {
                let level = Token::Text(Cow::Borrowed(message.captures.get(*place, message.topic)));
                Ok(Some(checks.iter().all(|check| passes(check, Some(&level), true))))
            }
            Condition::Test(Operand::Field(paths), checks) => fields.check(paths, &|token| {
                let token = Some(token).filter(|token| !self.is_missing(token));
                checks.iter().all(|check| passes(check, token, self.has_texts_alone))
            }),
        }
    }

    /// The first condition that is `decisive` decides; else all of them must be known.
    fn join(
        &self,
        conditions: &[Condition],
        decisive: bool,
        message: &Message<'_>,
        fields: &mut impl Fields,
    ) -> Result<Option<bool>> {
        let mut known = Some(!decisive);
        for condition in conditions {
            match self.evaluate(condition, message, fields)? {
                Some(holds) if holds == decisive => return Ok(Some(decisive)),
                Some(_) => {}
                None => known = None,
            }
        }
        Ok(known)
    }

    fn is_missing(&self, token: &Token<'_>) -> bool {
        match token {
            Token::Null => true,
            Token::Text(text) => self.nulls.iter().any(|null| null == text),
            _ => false,
        }
    }
}

/// No field is known yet.
struct Unread;

impl Fields for Unread {
    fn check(&mut self, _: &[Path], _: &dyn Fn(&Token<'_>) -> bool) -> Result<Option<bool>> {
        Ok(None)
    }
}

/// The fields of the document that a reader stands in front of.
pub struct Document<R>(pub R);

impl<'a, R: ValueReader<'a>> Fields for Document<R> {
    fn check(&mut self, paths: &[Path], check: &dyn Fn(&Token<'_>) -> bool) -> Result<Option<bool>> {
        for path in paths {
            if let Some(mut value) = find(self.0.clone(), &path.segments)?
                && value.shape()? != Shape::Null
            {
                return Ok(Some(check(&scalar(&mut value)?)));
            }
        }
        Ok(Some(check(&Token::Null)))
    }
}

/// A value to compare. Lists and objects are not entered, and a text that is not UTF-8 is bytes.
pub fn scalar<'a, R: ValueReader<'a>>(reader: &mut R) -> Result<Token<'a>> {
    if reader.shape()? != Shape::Text {
        return reader.token();
    }
    Ok(match reader.written()? {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Token::Text(Cow::Borrowed(text)),
            Err(_) => Token::Bytes(Cow::Borrowed(bytes)),
        },
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Token::Text(Cow::Owned(text)),
            Err(error) => Token::Bytes(Cow::Owned(error.into_bytes())),
        },
    })
}

/// The value that segments lead to from where a reader stands. The last of several members with one
/// name counts.
fn find<'a, R: ValueReader<'a>>(mut reader: R, segments: &[Segment]) -> Result<Option<R>> {
    let Some((first, rest)) = segments.split_first() else { return Ok(Some(reader)) };
    let shape = reader.shape()?;
    let mut found = None;
    match (first, shape) {
        (Segment::Field(name), Shape::Object) => {
            each_member(&mut reader, |key, value| {
                if key == name {
                    found = Some(value.clone());
                }
                Ok(true)
            })?;
        }
        // The first key below which the rest is there.
        (Segment::AnyField, Shape::Object) => {
            each_member(&mut reader, |_, value| {
                found = find(value.clone(), rest)?;
                Ok(found.is_none())
            })?;
            return Ok(found);
        }
        (Segment::Item(index), Shape::List) => found = items(&mut reader)?.into_iter().nth(*index),
        (Segment::FromEnd(index), Shape::List) => {
            let items = items(&mut reader)?;
            let back = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
            found = items.len().checked_sub(back).and_then(|place| items.into_iter().nth(place));
        }
        _ => {}
    }
    match found {
        Some(reader) => find(reader, rest),
        None => Ok(None),
    }
}

/// Goes through an object as long as `f` says so.
fn each_member<'a, R: ValueReader<'a>>(
    reader: &mut R,
    mut f: impl FnMut(&str, &R) -> Result<bool>,
) -> Result<()> {
    reader.enter()?;
    let mut is_first = true;
    while reader.next_member(is_first)? {
        is_first = false;
        let key = reader.key()?;
        if !f(&key, reader)? {
            break;
        }
        reader.skip()?;
    }
    Ok(())
}

fn items<'a, R: ValueReader<'a>>(reader: &mut R) -> Result<Vec<R>> {
    reader.enter()?;
    let mut items = Vec::new();
    while reader.next_item(items.is_empty())? {
        items.push(reader.clone());
        reader.skip()?;
    }
    Ok(items)
}

/// Whether a value passes a check; `None` is one that is missing.
fn passes(check: &Check, value: Option<&Token<'_>>, reads_digits: bool) -> bool {
    let order = |constant: &Constant| compared(value?, constant, reads_digits);
    let is_equal = |constant: &Constant| order(constant) == Some(Ordering::Equal);
    match check {
        Check::Exists(expected) => value.is_some() == *expected,
        Check::Eq(constant) => is_equal(constant),
        Check::Ne(constant) => !is_equal(constant),
        Check::In(constants) => constants.iter().any(is_equal),
        Check::Order(relation, constant) => order(constant).is_some_and(|order| match relation {
            Relation::Less => order.is_lt(),
            Relation::LessOrEqual => order.is_le(),
            Relation::Greater => order.is_gt(),
            Relation::GreaterOrEqual => order.is_ge(),
        }),
    }
}

/// How a value stands to a constant; `None` where they are of different types.
fn compared(value: &Token<'_>, constant: &Constant, reads_digits: bool) -> Option<Ordering> {
    match (value, constant) {
        (Token::Bool(flag), Constant::Bool(other)) => Some(flag.cmp(other)),
        (Token::Text(text), Constant::Text(other)) => Some(text.as_bytes().cmp(other.as_bytes())),
        (Token::Text(text), _) if reads_digits => numbers(number(&Number::from_text(text)?), constant),
        (Token::Number(digits), _) => numbers(number(digits), constant),
        (Token::Integer(integer), _) => numbers(Constant::Integer(*integer), constant),
        (Token::Float(float), _) => numbers(Constant::of_float(*float), constant),
        (Token::Time(at), Constant::Text(other)) => {
            let (other, _) = time::from_text(other, &Zone::Utc)?;
            Some((at.seconds, at.nanos).cmp(&(other.seconds, other.nanos)))
        }
        _ => None,
    }
}

fn number(digits: &Number<'_>) -> Constant {
    digits.integer_64().map_or_else(|| Constant::of_float(digits.to_f64()), Constant::Integer)
}

/// Integers are compared exactly; a float that is none has fewer digits than the integers near it.
fn numbers(value: Constant, other: &Constant) -> Option<Ordering> {
    match (value, other) {
        (Constant::Integer(a), Constant::Integer(b)) => Some(a.cmp(b)),
        (Constant::Integer(a), Constant::Float(b)) => (a as f64).partial_cmp(b),
        (Constant::Float(a), Constant::Integer(b)) => a.partial_cmp(&(*b as f64)),
        (Constant::Float(a), Constant::Float(b)) => a.partial_cmp(b),
        _ => None,
    }
}
