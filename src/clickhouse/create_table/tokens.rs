//! Words, quoted texts, numbers and signs of SQL, as ClickHouse separates them.
//!
//! Source: <https://clickhouse.com/docs/sql-reference/syntax>. Comments are `--`, `#` up to the end of the line, and `/* */`.

use super::Fault;
use crate::clickhouse::type_name::quoted;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or a keyword without quotes.
    Word(String),
    /// A name in backticks or double quotes.
    Name(String),
    /// A text in single quotes, or in a heredoc.
    Text(String),
    Number,
    Sign(char),
    End,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub kind: TokenKind,
    /// Its place in the text, in bytes.
    pub start: usize,
    pub end: usize,
}

impl Token {
    pub fn is(&self, sign: char) -> bool {
        self.kind == TokenKind::Sign(sign)
    }

    pub fn is_end(&self) -> bool {
        self.kind == TokenKind::End
    }

    /// Whether it is this keyword, which is given in capitals.
    pub fn is_word(&self, keyword: &str) -> bool {
        matches!(&self.kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// As an error names it.
    pub fn name<'t>(&self, text: &'t str) -> &'t str {
        if self.is_end() { "the end" } else { &text[self.start..self.end] }
    }
}

/// All tokens of a text; the last one is [`TokenKind::End`].
pub fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if let Some(length) = blank(rest, at)? {
            at += length;
            continue;
        }
        let (kind, length) = match first {
            '\'' | '`' | '"' => delimited(rest, first, at)?,
            '$' if heredoc(rest).is_some() => {
                let (content, length) = heredoc(rest).unwrap_or_default();
                (TokenKind::Text(content.into()), length)
            }
            _ if first.is_alphabetic() || first == '_' => {
                let word = prefix(rest, |c| c.is_alphanumeric() || c == '_' || c == '$');
                (TokenKind::Word(word.into()), word.len())
            }
            _ if first.is_ascii_digit() => {
                (TokenKind::Number, prefix(rest, |c| c.is_ascii_alphanumeric() || c == '.').len())
            }
            _ => (TokenKind::Sign(first), first.len_utf8()),
        };
        tokens.push(Token { kind, start: at, end: at + length });
        at += length;
    }
    tokens.push(Token { kind: TokenKind::End, start: at, end: at });
    Ok(tokens)
}

fn prefix(text: &str, is_part: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !is_part(c)).unwrap_or(text.len())]
}

/// The bytes of white space or of a comment at the beginning, if there is one.
fn blank(rest: &str, at: usize) -> Result<Option<usize>, Fault> {
    let space = prefix(rest, |c| c.is_whitespace() || c == '\u{feff}').len();
    if space > 0 {
        return Ok(Some(space));
    }
    if rest.starts_with("--") || rest.starts_with('#') {
        return Ok(Some(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        let end = rest.find("*/").ok_or_else(|| Fault::new(at, "this comment does not end"))?;
        return Ok(Some(end + 2));
    }
    Ok(None)
}

/// A quote within the quotes is written twice, or behind a backslash.
fn delimited(rest: &str, quote: char, at: usize) -> Result<(TokenKind, usize), Fault> {
    let mut content = String::new();
    let mut length = 0;
    loop {
        let (part, after) =
            quoted(&rest[length..]).ok_or_else(|| Fault::new(at, format!("this {quote} is not closed")))?;
        content.push_str(&part);
        length = rest.len() - after.len();
        if !after.starts_with(quote) {
            break;
        }
        content.push(quote);
    }
    let kind = if quote == '\'' { TokenKind::Text(content) } else { TokenKind::Name(content) };
    Ok((kind, length))
}

/// `$tag$…$tag$`: the content and the bytes of all.
fn heredoc(rest: &str) -> Option<(&str, usize)> {
    let tag = prefix(&rest[1..], |c| c.is_alphanumeric() || c == '_');
    let opening = rest.get(..tag.len() + 2).filter(|opening| opening.ends_with('$'))?;
    let content = &rest[opening.len()..];
    let end = content.find(opening)?;
    Some((&content[..end], 2 * opening.len() + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn texts_names_and_comments_are_separated() {
        let word = |word: &str| TokenKind::Word(word.into());
        let text = |text: &str| TokenKind::Text(text.into());
        assert_eq!(
            kinds("a -- it's\n# it's\n/* it's */'it''s' 'it\\'s' `b``c` \"d e\" $x$it's$x$ 1.5e3,"),
            [
                word("a"),
                text("it's"),
                text("it's"),
                TokenKind::Name("b`c".into()),
                TokenKind::Name("d e".into()),
                text("it's"),
                TokenKind::Number,
                TokenKind::Sign(','),
                TokenKind::End,
            ]
        );
    }

    #[test]
    fn an_error_says_where_a_text_without_an_end_begins() {
        for (text, at) in [("a 'b", 2), ("a `b``", 2), ("  /* x", 2), ("'it''s", 0)] {
            assert_eq!(tokens(text).unwrap_err().at, at, "{text}");
        }
    }
}
