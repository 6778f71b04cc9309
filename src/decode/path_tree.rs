//! The walk over one document, or one element of it: each value goes into its column as it is met.
//!
//! A [`PathNode`] is a place in the document that some column wants, or that lies on the way to one. It keeps its members in the
//! order of the last message: `fast_path` reads those that stand there again, and the walk reads the
//! others.

use crate::clickhouse::{Column, Kind};
use crate::core::json_path::Segment;
use crate::core::reason::{Code, Reason};
use crate::core::swar::bytes_eq;
use crate::decode::ColumnBinding;
use crate::decode::checkpoint::Checkpoint;
use crate::decode::fill::Filled;
use crate::decode::format::json::fast_path::{self, ExpectedMember, FastPathRun, KeyOrder, MemberAction};
use crate::decode::format::json::lexer::Reader;
use crate::decode::scalar_paths::ScalarPaths;
use crate::decode::value::{self, DecodeContext};
use crate::decode::value_reader::{Result, ValueReader};

#[derive(Debug, Default, Clone)]
pub struct PathNode {
    role: Role,
    /// The columns that take the value here: indices into the bindings.
    bindings: Vec<usize>,
    /// In the order in which they stood in the last object.
    fields: Vec<Field>,
    /// The signatures of their names.
    signatures: Vec<u64>,
    /// How they are read where they stand as they did.
    key_order: KeyOrder,
    items: Vec<(usize, PathNode)>,
    /// The columns that the objects of a list here fill together: those of a Nested.
    nested: Vec<Part>,
    /// The row for which it was met last.
    last_row: u64,
    /// Whether it is below the document, or below the item that is a row.
    is_inner: bool,
}

/// The roles of a node.
#[derive(Debug, Default, Clone, Copy)]
enum Role {
    /// Its value is passed over.
    #[default]
    None,
    /// Its value goes into the column of one binding.
    Column(usize),
    /// Into several, or into the columns of what is below it.
    Branch,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    node: PathNode,
}

/// `a` of the column `n.a`.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    binding: usize,
}

impl PathNode {
    fn inner() -> PathNode {
        PathNode { is_inner: true, ..PathNode::default() }
    }

    pub fn insert(&mut self, path: &[Segment], binding: usize) {
        self.at(path).bindings.push(binding);
        self.take_roles();
    }

    /// Makes a place known without a column that wants it.
    pub fn mark_known(&mut self, path: &[Segment]) {
        self.at(path);
        self.take_roles();
    }

    /// The column of a Nested: its values stand in a list of objects at `list`, as the member `part`.
    pub fn nest(&mut self, list: &[Segment], part: &str, binding: usize) {
        let node = self.at(list);
        node.nested.push(Part { name: part.into(), binding });
        self.take_roles();
    }

    /// Derives the roles of the nodes from the known paths; called again after each path that is added.
    fn take_roles(&mut self) {
        self.role = match (self.bindings.as_slice(), self.has_children()) {
            ([], false) => Role::None,
            ([binding], false) => Role::Column(*binding),
            _ => Role::Branch,
        };
        self.signatures = self.fields.iter().map(|field| signature(field.name.as_bytes())).collect();
        self.fields.iter_mut().for_each(|field| field.node.take_roles());
        self.items.iter_mut().for_each(|(_, node)| node.take_roles());
    }

    /// To be called when all places are known.
    pub fn prepare(&mut self, bindings: &[ColumnBinding]) {
        self.fields.iter_mut().for_each(|field| field.node.prepare(bindings));
        self.items.iter_mut().for_each(|(_, node)| node.prepare(bindings));
        let take = |role| match role {
            Role::None => MemberAction::Pass,
            Role::Column(at) => match bindings.get(at) {
                Some(ColumnBinding { fast_kind, unit, .. }) => {
                    MemberAction::Fill { binding: at, fast_kind: *fast_kind, unit: *unit }
                }
                // The list of rows, which stands behind the bindings of the columns.
                None => MemberAction::Leave,
            },
            Role::Branch => MemberAction::Leave,
        };
        let step = |Field { name, node }: &Field| ExpectedMember::new(name, take(node.role));
        self.key_order = KeyOrder::new(self.fields.iter().map(step).collect());
    }

    fn at(&mut self, path: &[Segment]) -> &mut PathNode {
        let Some((first, rest)) = path.split_first() else { return self };
        let child = match first {
            Segment::Field(name) => {
                let at = self.fields.iter().position(|field| field.name == *name).unwrap_or_else(|| {
                    self.fields.push(Field { name: name.clone(), node: PathNode::inner() });
                    self.fields.len() - 1
                });
                &mut self.fields[at].node
            }
            // Such paths are followed on a tape.
            Segment::FromEnd(_) | Segment::AnyField | Segment::EachItem => return self,
            Segment::Item(index) => {
                let at = self.items.iter().position(|(i, _)| i == index).unwrap_or_else(|| {
                    self.items.push((*index, PathNode::inner()));
                    self.items.len() - 1
                });
                &mut self.items[at].1
            }
        };
        child.at(rest)
    }

    /// Whether a column takes a list, or its items.
    pub fn takes_lists(&self) -> bool {
        !self.bindings.is_empty() || !self.items.is_empty()
    }

    /// Whether a column takes the value itself.
    pub fn takes_all(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// Whether it is an object of which only members are wanted.
    pub fn takes_members_alone(&self) -> bool {
        self.bindings.is_empty() && self.items.is_empty() && self.nested.is_empty()
    }

    pub fn key_order(&self) -> &KeyOrder {
        &self.key_order
    }

    fn has_children(&self) -> bool {
        !self.fields.is_empty() || !self.items.is_empty() || !self.nested.is_empty()
    }

    /// All columns that are filled from here or below.
    fn each_slot(&self, f: &mut impl FnMut(usize)) {
        self.bindings.iter().for_each(|binding| f(*binding));
        self.each_slot_below(f);
    }

    fn each_slot_below(&self, f: &mut impl FnMut(usize)) {
        self.nested.iter().for_each(|part| f(part.binding));
        self.fields.iter().for_each(|field| field.node.each_slot(f));
        self.items.iter().for_each(|(_, node)| node.each_slot(f));
    }
}

/// The row under construction.
pub struct Row<'r> {
    pub bindings: &'r [ColumnBinding],
    pub columns: &'r mut [Column],
    pub filled: &'r mut Filled,
    /// How far the columns were before this row.
    pub start: &'r Checkpoint,
    /// Instead of filling columns, note where their values are.
    pub places: Option<&'r mut [Option<usize>]>,
    /// Counts the rows, from 1.
    pub serial: u64,
    pub context: &'r mut DecodeContext,
    /// Columns for which a time was cut for the first time.
    pub cut: &'r mut Vec<usize>,
    pub scalars: &'r mut ScalarPaths,
}

impl Row<'_> {
    /// Fills a column with the value here, in place of an earlier one: the last of duplicate keys wins.
    #[inline]
    pub fn fill(&mut self, binding: usize, reader: &mut Reader<'_>) -> Result<()> {
        if let Some(places) = &mut self.places {
            reader.peek()?;
            places[binding] = Some(reader.position());
            return reader.skip();
        }
        if self.filled.has(binding) {
            self.take_back(binding);
        }
        reader.peek()?;
        let ColumnBinding { column_type, unit, fast_kind, .. } = &self.bindings[binding];
        if let Some(bytes) = reader.terminated()
            && let Some(end) =
                value::read_fast(bytes, reader.position(), *fast_kind, *unit, &mut self.columns[binding])
        {
            reader.seek(end);
            self.filled.add(binding);
            return Ok(());
        }
        self.context.unit = *unit;
        match value::read_other(reader, column_type, &mut self.columns[binding], self.context) {
            Ok(true) => self.filled.add(binding),
            Ok(false) => {}
            Err(reason) => return Err(self.about(binding, reason)),
        }
        if self.context.was_truncated {
            self.context.was_truncated = false;
            self.cut.push(binding);
        }
        Ok(())
    }

    #[cold]
    fn about(&self, binding: usize, reason: Box<Reason>) -> Box<Reason> {
        match reason.code {
            Code::JsonInvalid | Code::UnknownField => reason,
            _ => Box::new(reason.about(&self.bindings[binding].name)),
        }
    }

    #[cold]
    fn take_back(&mut self, binding: usize) {
        self.start.take_back(&mut self.columns[binding], &self.bindings[binding]);
        self.filled.remove(binding);
    }

    /// Forgets what was found at a place, and below it, that is there a second time.
    #[cold]
    fn forget(&mut self, node: &PathNode) {
        node.each_slot(&mut |binding| match &mut self.places {
            Some(places) => places[binding] = None,
            None if self.filled.has(binding) => self.take_back(binding),
            None => {}
        });
    }
}

/// Reads a value at a node: into its columns, into its children, or both.
#[inline]
pub fn read(node: &mut PathNode, reader: &mut Reader<'_>, row: &mut Row<'_>) -> Result<()> {
    match node.role {
        Role::Column(binding) => row.fill(binding, reader),
        Role::None => reader.skip(),
        Role::Branch => read_branch(node, reader, row),
    }
}

#[inline(never)]
fn read_branch(node: &mut PathNode, reader: &mut Reader<'_>, row: &mut Row<'_>) -> Result<()> {
    if std::mem::replace(&mut node.last_row, row.serial) == row.serial {
        row.forget(node);
    }
    let first = reader.peek()?;
    if node.bindings.is_empty() {
        return children(node, first, reader, row);
    }
    let start = reader.clone();
    for at in 0..node.bindings.len() {
        *reader = start.clone();
        row.fill(node.bindings[at], reader)?;
    }
    if node.has_children() { children(node, first, &mut start.clone(), row) } else { Ok(()) }
}

fn children(node: &mut PathNode, first: u8, reader: &mut Reader<'_>, row: &mut Row<'_>) -> Result<()> {
    match first {
        b'{' => object(node, reader, row),
        b'[' if !node.nested.is_empty() && row.places.is_none() => nested(node, reader, row),
        b'[' => list(node, reader, row),
        // Anything else means that what is wanted below is missing.
        b'n' => reader.skip(),
        _ => {
            if node.is_inner {
                node.each_slot_below(&mut |binding| row.scalars.meet(binding));
            }
            reader.skip()
        }
    }
}

fn object(node: &mut PathNode, reader: &mut Reader<'_>, row: &mut Row<'_>) -> Result<()> {
    reader.enter()?;
    let run = fast_path::read(node.key_order.as_slice(), true, reader, row);
    members(node, run, reader, row)
}

/// Continues in an object after the last expected member.
pub fn members(
    node: &mut PathNode,
    run: FastPathRun,
    reader: &mut Reader<'_>,
    row: &mut Row<'_>,
) -> Result<()> {
    let PathNode { fields, signatures, key_order, .. } = node;
    let mut run = run;
    // The members before it were read already.
    let mut expected = 0;
    let mut is_first = true;
    loop {
        expected += run.members;
        is_first &= run.members == 0;
        if run.is_key {
            read(&mut fields[expected].node, reader, row)?;
            expected += 1;
        } else if run.members > 0 && reader.leave() {
            return Ok(());
        } else {
            match find_member(fields, signatures, key_order, expected, is_first, reader, row)? {
                Member::Known(found) => {
                    expected += (found == expected) as usize;
                    read(&mut fields[found].node, reader, row)?;
                }
                Member::Unknown => {}
                Member::None => return Ok(()),
            }
        }
        is_first = false;
        run = fast_path::read(&key_order.as_slice()[expected..], is_first, reader, row);
    }
}

enum Member {
    /// The place of its field.
    Known(usize),
    /// Passed over.
    Unknown,
    /// The object has ended.
    None,
}

/// A member that is not the one that stood here in the last object; from now on it is.
#[inline]
fn find_member(
    fields: &mut [Field],
    signatures: &mut [u64],
    key_order: &mut KeyOrder,
    expected: usize,
    is_first: bool,
    reader: &mut Reader<'_>,
    row: &mut Row<'_>,
) -> Result<Member> {
    if !reader.next_member(is_first)? {
        return Ok(Member::None);
    }
    let find = |key: &[u8]| {
        let wanted = signature(key);
        let is_it = |at: usize| signatures[at] == wanted && bytes_eq(fields[at].name.as_bytes(), key);
        (0..signatures.len()).find(|at| is_it(*at))
    };
    let Some(found) = reader.known_key(find)? else {
        let key = reader.key()?;
        if row.context.reject_unknown {
            return Err(value::unknown_field(&key));
        }
        reader.skip()?;
        return Ok(Member::Unknown);
    };
    // One that was met already is there twice.
    if found < expected {
        return Ok(Member::Known(found));
    }
    fields.swap(found, expected);
    signatures.swap(found, expected);
    key_order.swap(found, expected);
    Ok(Member::Known(expected))
}

/// The first bytes of a name and its length: names that differ mostly differ there.
#[inline(always)]
fn signature(name: &[u8]) -> u64 {
    let start = match name.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => name.iter().rev().fold(0, |start, byte| start << 8 | *byte as u64),
    };
    start ^ (name.len() as u64) << 56
}

fn list(node: &mut PathNode, reader: &mut Reader<'_>, row: &mut Row<'_>) -> Result<()> {
    reader.enter()?;
    let mut index = 0;
    while reader.next_item(index == 0)? {
        match node.items.iter_mut().find(|(i, _)| *i == index) {
            Some((_, node)) => read(node, reader, row)?,
            None => reader.skip()?,
        }
        index += 1;
    }
    Ok(())
}

/// A list of objects into the columns of a Nested: each column takes the member of its name from each object.
fn nested(node: &mut PathNode, reader: &mut Reader<'_>, row: &mut Row<'_>) -> Result<()> {
    for part in &node.nested {
        if row.filled.has(part.binding) {
            row.take_back(part.binding);
        }
    }
    reader.enter()?;
    let mut is_first = true;
    while reader.next_item(is_first)? {
        is_first = false;
        if reader.peek()? != b'{' {
            let message = "a list of objects was expected";
            return Err(row.about(node.nested[0].binding, Box::new(Reason::new(Code::TypeMismatch, message))));
        }
        let Row { bindings, columns, context, .. } = &mut *row;
        let names = |at: usize| node.nested.get(at).map(|part| part.name.as_str());
        value::members(reader, node.nested.len(), names, context, |there, at, context| {
            let binding = node.nested[at].binding;
            let ColumnBinding { name, column_type, unit, .. } = &bindings[binding];
            let (Kind::Array(item_type), Column::Array { items, .. }) =
                (&column_type.kind, &mut columns[binding])
            else {
                return Ok(());
            };
            context.unit = *unit;
            value::read_part(there, item_type, items, context).map_err(|reason| {
                if reason.code == Code::JsonInvalid { reason } else { Box::new(reason.about(name)) }
            })
        })?;
    }
    for part in &node.nested {
        row.columns[part.binding].push_offset();
        row.filled.add(part.binding);
    }
    Ok(())
}
