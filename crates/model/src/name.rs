//! Names that users choose, checked once and cheap to clone.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// What is wrong with a name, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a {what}: {expected}")]
pub struct InvalidName {
    what: &'static str,
    text: String,
    expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match $check(text) {
                    Some(name) => Ok(Self(name)),
                    None => Err(InvalidName { what: $what, text: shorten(text), expected: $expected }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// The name of a service, in lower case: labels of letters, digits, `-` and `_`, joined by dots.
    ServiceName,
    "service name",
    service_name,
    "write 1 to 63 letters, digits, `-` or `_`, or several such labels joined by dots, 127 characters in all"
);

name!(
    /// The name of a user (a tenant), as written: Nomad's namespaces tell upper from lower case, and so do we.
    UserName,
    "user name",
    user_name,
    "write 1 to 63 letters, digits, `-` or `_`"
);

name!(
    /// A tag that picks some of a service's instances, as written.
    Tag,
    "tag",
    tag,
    "write 1 to 40 letters, digits, `-`, `_` or `.`"
);

name!(
    /// What stands before the zone in a question to dns, in lower case: one or more labels of letters, digits, `-` and `_`.
    DnsName,
    "name before the zone",
    dns_name,
    "write labels of 1 to 63 letters, digits, `-` or `_`, joined by dots, 236 characters in all"
);

/// The longest label (RFC 1035 §2.3.4).
const LABEL: usize = 63;
/// The longest service name. With a user, a tag and punctuation it still fits an nftables comment of 255 bytes.
const SERVICE_NAME: usize = 127;
const TAG: usize = 40;
/// A name has 253 characters at most (RFC 1035 §2.3.4, less the lengths of its first label and of the root), of which
/// `.steppe.internal` takes 16, and a byte is kept.
const DNS_NAME: usize = 236;

fn dns_name(text: &str) -> Option<Arc<str>> {
    let valid = text.len() <= DNS_NAME && text.split('.').all(is_label);
    valid.then(|| text.to_ascii_lowercase().into())
}

fn service_name(text: &str) -> Option<Arc<str>> {
    let valid = text.len() <= SERVICE_NAME && text.split('.').all(is_label);
    valid.then(|| text.to_ascii_lowercase().into())
}

fn user_name(text: &str) -> Option<Arc<str>> {
    is_label(text).then(|| text.into())
}

fn tag(text: &str) -> Option<Arc<str>> {
    let valid = (1..=TAG).contains(&text.len()) && text.bytes().all(|b| is_label_byte(b) || b == b'.');
    valid.then(|| text.into())
}

fn is_label(text: &str) -> bool {
    (1..=LABEL).contains(&text.len()) && text.bytes().all(is_label_byte)
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Hostile text can be long; a message needs only its beginning.
pub(crate) fn shorten(text: &str) -> String {
    const KEPT: usize = 80;
    let mut kept: String = text.chars().take(KEPT).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_compared_in_lower_case() {
        let upper: ServiceName = "Web.API-2_x".parse().unwrap();
        assert_eq!(upper, "web.api-2_x".parse().unwrap());
        assert_eq!(upper.to_string(), "web.api-2_x");
    }

    #[test]
    fn users_keep_their_case() {
        assert_ne!("Dev".parse::<UserName>().unwrap(), "dev".parse().unwrap());
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in ["", ".", "a..b", "a.", "ä", "a b", "a/b", &"x".repeat(64), &"a.".repeat(64)] {
            assert!(text.parse::<ServiceName>().is_err(), "{text:?}");
        }
        assert!("a.b".parse::<UserName>().is_err());
        assert!("x".repeat(41).parse::<Tag>().is_err());
    }

    #[test]
    fn a_message_does_not_repeat_a_long_text() {
        let error = "ä".repeat(10_000).parse::<ServiceName>().unwrap_err();
        assert!(error.to_string().len() < 400);
    }
}
