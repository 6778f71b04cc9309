//! Reads statements token by token, and the columns of each CREATE TABLE.
//!
//! Source: <https://clickhouse.com/docs/sql-reference/statements/create/table>.

use super::tokens::{Token, TokenKind, tokens};
use super::types::type_name;
use super::{CreatedTable, Fault};
use crate::clickhouse::schema::{ColumnRow, NO_EXPRESSION};
use crate::clickhouse::type_name::{TypeName, element};

/// Types within types.
const MAX_DEPTH: usize = 32;

/// The first words of the statements that are passed over.
const OTHERS: [&str; 28] = [
    "ALTER", "ATTACH", "BACKUP", "CHECK", "CREATE", "DELETE", "DESC", "DESCRIBE", "DETACH", "DROP", "EXISTS",
    "EXPLAIN", "GRANT", "INSERT", "KILL", "OPTIMIZE", "REPLACE", "REVOKE", "SELECT", "SET", "SHOW", "SYSTEM",
    "TRUNCATE", "UPDATE", "USE", "WATCH", "WITH", "UNDROP",
];

const KINDS: [&str; 4] = ["DEFAULT", "MATERIALIZED", "ALIAS", "EPHEMERAL"];

const END_OF_COLUMN: &str = "a comma, or the ) that ends the columns,";

/// The words that end an expression, where a value stands before them.
const CLAUSES: [&str; 6] = ["COMMENT", "CODEC", "STATISTICS", "TTL", "PRIMARY", "SETTINGS"];

pub struct Parser<'t> {
    pub text: &'t str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    pub fn new(text: &'t str) -> Result<Parser<'t>, Fault> {
        Ok(Parser { text, tokens: tokens(text)?, at: 0, depth: 0 })
    }

    pub fn peek(&self) -> &Token {
        // The last token is the end, and is never taken.
        &self.tokens[self.at]
    }

    pub fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    pub fn next(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// Takes a sign off, if it is the next token.
    pub fn take(&mut self, sign: char) -> bool {
        let is_it = self.peek().is(sign);
        if is_it {
            self.next();
        }
        is_it
    }

    /// Takes keywords off, if they are the next tokens.
    fn take_words(&mut self, words: &[&str]) -> bool {
        let ahead = self.tokens[self.at..].iter();
        let is_it = self.tokens.len() - self.at > words.len()
            && ahead.zip(words).all(|(token, word)| token.is_word(word));
        if is_it {
            self.at += words.len();
        }
        is_it
    }

    pub fn expect(&mut self, sign: char) -> Result<(), Fault> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected(&format!("{sign:?}"))) }
    }

    /// The fault that something else should stand here.
    pub fn unexpected(&self, wanted: &str) -> Fault {
        let token = self.peek();
        Fault::new(token.start, format!("{wanted} is expected here, not {}", token.name(self.text)))
    }

    pub fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(self.peek().start, "types are nested too deeply"));
        }
        Ok(())
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Takes a name off, with or without quotes.
    pub fn name(&mut self, what: &str) -> Result<String, Fault> {
        match self.peek().kind.clone() {
            TokenKind::Word(name) | TokenKind::Name(name) => {
                self.next();
                Ok(name)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// Takes off what is in the parentheses or brackets that begin here.
    pub fn skip_parentheses(&mut self) -> Result<(), Fault> {
        let opening = self.peek().start;
        let mut depth = 0usize;
        loop {
            match self.peek().kind {
                TokenKind::End => return Err(Fault::new(opening, "this parenthesis is not closed")),
                TokenKind::Sign('(' | '[' | '{') => depth += 1,
                TokenKind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.next();
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Takes off all up to the sign, which is in no parentheses, or up to the end.
    fn skip_until(&mut self, signs: &[char]) -> Result<(), Fault> {
        while !self.peek().is_end() && !signs.iter().any(|sign| self.peek().is(*sign)) {
            let is_opening = matches!(self.peek().kind, TokenKind::Sign('(' | '[' | '{'));
            if is_opening { self.skip_parentheses()? } else { self.next() }
        }
        Ok(())
    }

    /// The tables of all statements.
    pub fn statements(mut self) -> Result<Vec<CreatedTable>, Fault> {
        let mut tables: Vec<CreatedTable> = Vec::new();
        loop {
            while self.take(';') {}
            let start = self.peek().start;
            if self.peek().is_end() {
                return Ok(tables);
            }
            if self.take_words(&["CREATE"]) || self.take_words(&["ATTACH"]) || self.take_words(&["REPLACE"]) {
                let _ = self.take_words(&["OR", "REPLACE"]);
                let _ = self.take_words(&["TEMPORARY"]);
                if self.take_words(&["TABLE"]) {
                    tables.push(self.table(start)?);
                }
            } else if self.peek().is_word("ALTER") || self.peek().is_word("RENAME") {
                self.refuse_changes()?;
            } else if !OTHERS.iter().any(|word| self.peek().is_word(word)) {
                return Err(self.unexpected("a statement, such as CREATE TABLE,"));
            }
            self.skip_until(&[';'])?;
        }
    }

    /// A change of columns would have to be followed.
    fn refuse_changes(&mut self) -> Result<(), Fault> {
        let start = self.peek().start;
        let words = self.tokens[self.at..].iter().take_while(|token| !token.is(';'));
        let changes = self.peek().is_word("RENAME") || words.clone().any(|token| token.is_word("COLUMN"));
        let fault = "a change of a table is not followed: give its CREATE TABLE as it is now, which SHOW CREATE TABLE prints";
        if changes { Err(Fault::new(start, fault)) } else { Ok(()) }
    }

    /// Reads on behind CREATE TABLE.
    fn table(&mut self, start: usize) -> Result<CreatedTable, Fault> {
        let _ = self.take_words(&["IF", "NOT", "EXISTS"]);
        let first = self.name("the name of the table")?;
        let (database, name) = match self.take('.') {
            true => (Some(first), self.name("the name of the table")?),
            false => (None, first),
        };
        if self.take_words(&["UUID"]) {
            self.next();
        }
        if self.take_words(&["ON", "CLUSTER"]) {
            // A name or a text, perhaps a macro in braces.
            let is_text = matches!(self.peek().kind, TokenKind::Text(_));
            if is_text { self.next() } else { _ = self.name("the name of the cluster")? }
        }
        if !self.take('(') {
            return Err(self.unexpected("the list of the table's columns, from ( on,"));
        }
        let mut columns: Vec<ColumnRow> = Vec::new();
        loop {
            if self.take(')') {
                break;
            }
            let at = self.peek().start;
            for column in self.element()? {
                if columns.iter().any(|other| other.name == column.name) {
                    return Err(Fault::new(at, format!("there is a column {} already", column.name)));
                }
                columns.push(column);
            }
            if !self.peek().is(')') && !self.take(',') {
                return Err(self.unexpected(END_OF_COLUMN));
            }
        }
        if columns.is_empty() {
            return Err(Fault::new(start, "the table has no columns"));
        }
        Ok(CreatedTable { database, name, columns, at: start })
    }

    /// An element of the list: columns, or something that is none.
    fn element(&mut self) -> Result<Vec<ColumnRow>, Fault> {
        let is_other = ["INDEX", "CONSTRAINT", "PROJECTION"].iter().any(|word| self.peek().is_word(word))
            || ((self.peek().is_word("PRIMARY") || self.peek().is_word("FOREIGN"))
                && self.peek_second().is_word("KEY"));
        if is_other {
            self.skip_until(&[',', ')'])?;
            return Ok(Vec::new());
        }
        self.column()
    }

    fn column(&mut self) -> Result<Vec<ColumnRow>, Fault> {
        let name = self.name("the name of a column")?;
        if KINDS.iter().any(|kind| self.peek().is_word(kind)) {
            let fault = format!(
                "the column {name} has no type: write it, which ClickHouse takes from the expression"
            );
            return Err(Fault::new(self.peek().start, fault));
        }
        let type_at = self.peek().start;
        let own = type_name(self)?;
        let mut is_nullable = self.nullable();
        if self.take_words(&["COLLATE"]) {
            self.next();
        }
        let (mut kind, mut expression) = (String::new(), String::new());
        if let Some(word) = KINDS.iter().find(|kind| self.peek().is_word(kind)) {
            self.next();
            kind = (*word).into();
            let text = self.expression()?;
            is_nullable |= self.nullable()
                || (*word == "DEFAULT" && text.eq_ignore_ascii_case("NULL") && can_wrap(&own));
            expression = match (text.is_empty(), *word) {
                (true, "EPHEMERAL") => format!("{NO_EXPRESSION}'{own}')"),
                (true, _) => return Err(self.unexpected("an expression")),
                (false, _) => text,
            };
        }
        self.clauses()?;
        if is_nullable && !can_wrap(&own) {
            return Err(Fault::new(type_at, format!("{own} cannot be NULL in this way")));
        }
        let own = if is_nullable { format!("Nullable({own})") } else { own };
        Ok(flattened(name, own, &kind, &expression))
    }

    /// Takes off what follows the type and the default.
    fn clauses(&mut self) -> Result<(), Fault> {
        while !self.peek().is(',') && !self.peek().is(')') {
            if self.take_words(&["COMMENT"]) && matches!(self.peek().kind, TokenKind::Text(_)) {
                self.next();
            } else if self.take_words(&["TTL"]) {
                self.expression()?;
            } else if ["CODEC", "STATISTICS", "SETTINGS"].iter().any(|word| self.take_words(&[word]))
                && self.peek().is('(')
            {
                self.skip_parentheses()?;
            } else if !self.take_words(&["PRIMARY", "KEY"]) {
                return Err(self.unexpected(END_OF_COLUMN));
            }
        }
        Ok(())
    }

    /// Takes off `NULL` or `NOT NULL`.
    fn nullable(&mut self) -> bool {
        let is_not = self.take_words(&["NOT", "NULL"]);
        !is_not && self.take_words(&["NULL"])
    }

    /// Takes off the expression of a DEFAULT or a TTL. It ends at a comma, a parenthesis, a clause of the column, or `NULL`
    /// behind a value.
    fn expression(&mut self) -> Result<String, Fault> {
        let start = self.peek().start;
        let mut end = start;
        // Whether an operand stands before the next token: then a word is a keyword.
        let mut is_value = false;
        loop {
            let token = self.peek().clone();
            let is_clause = CLAUSES.iter().any(|clause| token.is_word(clause));
            let is_comment =
                token.is_word("COMMENT") && matches!(self.peek_second().kind, TokenKind::Text(_));
            if token.is_end() || token.is(',') || token.is(')') || (is_clause && (is_value || is_comment)) {
                break;
            }
            if is_value
                && (token.is_word("NULL") || (token.is_word("NOT") && self.peek_second().is_word("NULL")))
            {
                break;
            }
            is_value = match &token.kind {
                TokenKind::Sign('(' | '[' | '{') => {
                    self.skip_parentheses()?;
                    end = self.tokens[self.at - 1].end;
                    is_value = true;
                    continue;
                }
                TokenKind::Sign(_) => false,
                TokenKind::Word(word) => !is_operator(word),
                _ => true,
            };
            end = token.end;
            self.next();
        }
        Ok(self.text[start..end].into())
    }
}

/// Whether an operand follows this word.
fn is_operator(word: &str) -> bool {
    let operators = [
        "AND", "OR", "NOT", "IS", "IN", "LIKE", "ILIKE", "BETWEEN", "DIV", "MOD", "INTERVAL", "THEN", "ELSE",
        "WHEN", "CASE",
    ];
    operators.iter().any(|operator| operator.eq_ignore_ascii_case(word))
}

/// Whether a type can be put into `Nullable`.
fn can_wrap(own: &str) -> bool {
    let own = own.split('(').next().unwrap_or_default();
    !matches!(
        own,
        "Nullable" | "LowCardinality" | "Array" | "Map" | "Tuple" | "Nested" | "Variant" | "Dynamic" | "JSON"
    )
}

/// The columns that ClickHouse makes of one: a Nested is a list for each of its elements.
fn flattened(name: String, own: String, kind: &str, expression: &str) -> Vec<ColumnRow> {
    let row = |name: String, column_type: String| ColumnRow {
        name,
        column_type,
        default_kind: kind.into(),
        default_expression: expression.into(),
        comment: String::new(),
    };
    let nested = TypeName::parse(&own).filter(|own| own.name == "Nested");
    let Some(nested) = nested else { return vec![row(name, own)] };
    let elements = nested.arguments.iter().filter_map(|argument| element(argument));
    let columns = elements
        .filter_map(|(element, own)| Some(row(format!("{name}.{}", element?), format!("Array({own})"))));
    columns.collect()
}
