//! Records for people, in a zone file's notation.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    HEAD, WireName,
    name::LONGEST,
    request::{Record, skip_name},
    types, u16_at, u32_at,
};

/// Record types by name. The others are `TYPE` and their number (RFC 3597 §5).
const TYPES: [(&str, u16); 13] = [
    ("A", types::A),
    ("NS", types::NS),
    ("CNAME", types::CNAME),
    ("SOA", types::SOA),
    ("PTR", types::PTR),
    ("HINFO", types::HINFO),
    ("MX", types::MX),
    ("TXT", types::TXT),
    ("AAAA", types::AAAA),
    ("SRV", types::SRV),
    ("DS", types::DS),
    ("DNSKEY", types::DNSKEY),
    ("ANY", types::ANY),
];

/// A record type's name.
pub(crate) fn type_name(kind: u16) -> String {
    let known = TYPES.iter().find(|(_, number)| *number == kind);
    known.map_or_else(|| format!("TYPE{kind}"), |(name, _)| (*name).into())
}

/// The record type of a name, in any case.
pub(crate) fn type_from_name(name: &str) -> Option<u16> {
    let name = name.to_ascii_uppercase();
    let known = TYPES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known.or_else(|| name.strip_prefix("TYPE")?.parse().ok())
}

/// A response code's name.
pub(crate) fn rcode_name(rcode: u16) -> String {
    match rcode {
        0 => "NOERROR".into(),
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        16 => "BADVERS".into(),
        other => format!("RCODE{other}"),
    }
}

/// The records of a message's answer section; those that can't be read are left out.
pub(crate) fn records(message: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    let question = skip_name(message, HEAD).map(|end| end + 4);
    let (Some(mut at), Some(count)) = (question, u16_at(message, 6)) else { return texts };
    for _ in 0..count {
        let Some(record) = Record::at(message, at) else { break };
        if let Some(owner) = name_at(message, at) {
            let data = data(message, &record).unwrap_or_else(|| unknown(&message[record.data..record.end]));
            texts.push(format!("{owner} {} IN {} {data}", record.ttl, type_name(record.kind)));
        }
        at = record.end;
    }
    texts
}

fn data(message: &[u8], record: &Record) -> Option<String> {
    let (at, bytes) = (record.data, message.get(record.data..record.end)?);
    let number = |offset| u16_at(message, at + offset);
    Some(match record.kind {
        types::A => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
        types::AAAA => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
        types::NS | types::CNAME | types::PTR => name_at(message, at)?.to_string(),
        types::MX => format!("{} {}", number(0)?, name_at(message, at + 2)?),
        types::SRV => format!("{} {} {} {}", number(0)?, number(2)?, number(4)?, name_at(message, at + 6)?),
        types::TXT | types::HINFO => strings(bytes)?,
        types::SOA => {
            let second = skip_name(message, at)?;
            let numbers = skip_name(message, second)?;
            let mut text = format!("{} {}", name_at(message, at)?, name_at(message, second)?);
            for i in 0..5 {
                write!(text, " {}", u32_at(message, numbers + 4 * i)?).ok()?;
            }
            text
        }
        _ => return None,
    })
}

/// Data of a type that is not known here (RFC 3597 §5).
fn unknown(bytes: &[u8]) -> String {
    let mut text = format!("\\# {}", bytes.len());
    if !bytes.is_empty() {
        text.push(' ');
    }
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Strings, each with its length before it.
fn strings(mut bytes: &[u8]) -> Option<String> {
    let mut texts = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (string, rest) = rest.split_at_checked(length.into())?;
        texts.push(format!("\"{}\"", string.escape_ascii()));
        bytes = rest;
    }
    Some(texts.join(" "))
}

/// Pointers that a name is followed through: it has no more labels than that (RFC 1035 §2.3.4).
const POINTERS: usize = 127;

/// The name at `at`, wherever it points. Each pointer must lead to before the piece that it ends, so that this ends too.
fn name_at(message: &[u8], mut at: usize) -> Option<WireName> {
    let mut bytes = Vec::new();
    let mut before = at + 1;
    for _ in 0..=POINTERS {
        let piece = at;
        if piece >= before {
            return None;
        }
        loop {
            match *message.get(at)? {
                0 => {
                    bytes.push(0);
                    return WireName::read(&bytes);
                }
                length @ 1..=63 => {
                    bytes.extend_from_slice(message.get(at..=at + usize::from(length))?);
                    at += 1 + usize::from(length);
                }
                0xc0.. => break,
                _ => return None,
            }
            if bytes.len() > LONGEST {
                return None;
            }
        }
        before = piece;
        at = usize::from(u16_at(message, at)? & 0x3fff);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_by_name_or_number() {
        assert_eq!(type_from_name("srv"), Some(types::SRV));
        assert_eq!(type_from_name("type65"), Some(65));
        assert_eq!(type_name(65), "TYPE65");
        assert_eq!(type_from_name("TYPE65536"), None);
        assert_eq!(type_from_name("nonsense"), None);
    }

    #[test]
    fn records_are_told_in_a_zone_files_words() {
        let mut message = b"\0\0\x81\x80\0\x01\0\x04\0\0\0\0\x03web\x07example\0\0\xff\0\x01".to_vec();
        message.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x05\0\x04\x01a\xc0\x10");
        message.extend_from_slice(b"\xc0\x0c\0\x10\0\x01\0\0\0\x05\0\x06\x02hi\x02\"x");
        message.extend_from_slice(b"\xc0\x0c\0\x41\0\x01\0\0\0\x05\0\x02\xab\xcd");
        message.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x05\0\x08\0\x01\0\x02\0\x50\xc0\x0c");
        assert_eq!(
            records(&message),
            [
                "web.example. 5 IN CNAME a.example.",
                r#"web.example. 5 IN TXT "hi" "\"x""#,
                r"web.example. 5 IN TYPE65 \# 2 abcd",
                "web.example. 5 IN SRV 1 2 80 web.example.",
            ]
        );
    }

    #[test]
    fn a_name_that_points_to_itself_ends() {
        let message = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\0\0\x01\0\x01\xc0\x11\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04";
        assert!(records(message).is_empty());
        assert_eq!(name_at(b"\x01a\xc0\x00", 0), None);
    }
}
