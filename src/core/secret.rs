//! Values that no text may show: passwords, and the parts of a URL that hold them.

use std::fmt;

/// A text that is never printed, also not by `{:?}` of what it is a part of.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: String) -> Secret {
        Secret(secret)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

const MASK: &str = "***";

/// A text that was given as a URL, for a message that says what is wrong with it. Scheme, host, port and a plain path are
/// shown; what stands before an `@`, behind a `?` or a `#`, in place of a port and in a path with a `=` is masked. The text
/// need not be a URL, so more is masked rather than less.
pub fn masked_url(given: &str) -> String {
    // The last '@', because passwords hold any character.
    let (scheme_end, is_named) = match given.find("://") {
        Some(at) => (at + 3, true),
        None => (0, false),
    };
    let (scheme, rest) = given.split_at(scheme_end);
    let (mask, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let scheme = if is_named && scheme.contains('@') { "***://" } else { scheme };
    let (place, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let tail = tail.chars().next().map(|mark| format!("{mark}{MASK}")).unwrap_or_default();
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    format!("{scheme}{mask}{}{}{tail}", masked_port(authority), masked_path(path))
}

/// `mqtt://name:password`, without a host, has the password where a port would be.
fn masked_port(authority: &str) -> String {
    let after_v6 = authority.rfind(']').unwrap_or(0);
    match authority[after_v6..].find(':').map(|at| authority.split_at(after_v6 + at + 1)) {
        Some((host, port)) if !port.is_empty() && !port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{host}{MASK}")
        }
        _ => authority.into(),
    }
}

/// A path in which something that looks like `name=value` is masked.
pub fn masked_path(path: &str) -> &str {
    if path.contains('=') { "/***" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_parts_of_a_url_are_masked() {
        for (given, masked) in [
            ("mqtt://host:1883", "mqtt://host:1883"),
            ("ws://[::1]:80/mqtt/a b", "ws://[::1]:80/mqtt/a b"),
            ("mqtt://u:S@h:1", "mqtt://***@h:1"),
            ("mqtt://u:S/S?S@S#S@h/a", "mqtt://***@h/a"),
            ("u:S@h", "***@h"),
            ("mqtt:/u:S@h", "***@h"),
            ("S://S@h", "S://***@h"),
            ("u:S@://h", "***://h"),
            ("http://h/?user=S&password=S", "http://h/?***"),
            ("wss://h/x?token=S#S", "wss://h/x?***"),
            ("http://h#S", "http://h#***"),
            ("mqtt://u:S", "mqtt://u:***"),
            ("mqtt://h/password=S", "mqtt://h/***"),
            ("http://[::1?S", "http://[:***?***"),
            ("http://h:8 S/", "http://h:***/"),
            ("", ""),
        ] {
            assert_eq!(masked_url(given), masked, "{given}");
            assert!(given.starts_with('S') || !masked.contains('S'));
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Secret::new("S".into()))), "Some(***)");
    }
}
