//! Frames as a container with CAP_NET_RAW may make them up, byte for byte. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub type Mac = [u8; 6];

/// Everybody on the bridge.
pub const BROADCAST: Mac = [0xff; 6];

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Where a frame says that it comes from, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The sender's hardware address.
    pub from: Mac,
    /// The receiver's.
    pub to: Mac,
}

/// Reads `02:42:ac:11:00:02`.
///
/// # Errors
/// When it is something else.
pub fn parse_mac(text: &str) -> Result<Mac, String> {
    let bytes: Result<Vec<u8>, _> = text.trim().split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    bytes
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("`{text}` is no hardware address"))
}

/// Writes a frame as [`parse_hex`] reads it.
pub fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a frame from hex digits.
///
/// # Errors
/// When they are none, or odd in number.
pub fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{text}` are no bytes in hex digits");
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

/// A UDP datagram over IPv4.
pub fn udp(ends: Ends, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes(), short(8 + data.len()), [0; 2]].concat();
    segment.extend_from_slice(data);
    let sum = checksum(&[&pseudo(from.0, to.0, UDP, segment.len()), &segment]);
    // An empty field means "not computed", so a sum of zero is sent as its complement (RFC 768).
    segment[6..8].copy_from_slice(&if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() });
    ipv4(ends, from.0, to.0, UDP, &segment)
}

/// A TCP segment that begins a connection (RFC 9293 section 3.1).
pub fn syn(ends: Ends, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut segment = [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0; 8]].concat();
    // Five words of header, SYN, a window, no checksum yet, nothing urgent.
    segment.extend_from_slice(&[5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&pseudo(from.0, to.0, TCP, segment.len()), &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(ends, from.0, to.0, TCP, &segment)
}

/// An ARP answer (RFC 826) in which `sender` claims to be who it says; `arp_request` when somebody is asked for instead.
pub fn arp_answer(ends: Ends, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    arp(ends, 2, sender, target)
}

/// An ARP question for the target's address.
pub fn arp_request(ends: Ends, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    arp(ends, 1, sender, ([0; 6], target))
}

fn arp(ends: Ends, operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, ip) in [sender, target] {
        body.extend_from_slice(&mac);
        body.extend_from_slice(&ip.octets());
    }
    ethernet(ends, ARP, &body)
}

/// An IPv6 neighbour advertisement (RFC 4861 section 4.4) that claims `whose` address for the frame's sender.
pub fn neighbour(ends: Ends, whose: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    // Type 136, code 0, no checksum yet; solicited and override; the address; option 2, one unit long: our own.
    let head = [136, 0, 0, 0, 0x60, 0, 0, 0];
    icmpv6(ends, whose, to, &[&head[..], &whose.octets(), &[2, 1], &ends.from].concat())
}

/// An IPv6 router solicitation (RFC 4861 section 4.1).
pub fn router_wanted(ends: Ends, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    icmpv6(ends, from, to, &[133, 0, 0, 0, 0, 0, 0, 0])
}

/// An IPv6 router advertisement (RFC 4861 section 4.2): to be the default router for half an hour.
pub fn router(ends: Ends, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let lifetime = short(1_800);
    icmpv6(ends, from, to, &[&[134, 0, 0, 0, 64, 0][..], &lifetime, &[0; 8]].concat())
}

/// `body` has a checksum of zero.
fn icmpv6(ends: Ends, from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> Vec<u8> {
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 0], &short(body.len()), &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[&pseudo, body]).to_be_bytes();
    // Version 6, the payload's length, ICMPv6, and the hop limit that neighbours must see.
    let head = [&[0x60, 0, 0, 0][..], &short(body.len()), &[ICMPV6, 255]].concat();
    let packet = [&head[..], &from.octets(), &to.octets(), &body[..2], &sum, &body[4..]].concat();
    ethernet(ends, IPV6, &packet)
}

/// Wraps a frame in an 802.1Q tag.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &VLAN.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

fn ipv4(ends: Ends, from: Ipv4Addr, to: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    // Version 4 and five words; don't fragment; 64 hops.
    let mut head = [&[0x45, 0][..], &short(20 + body.len()), &[0, 0, 0x40, 0, 64, protocol, 0, 0]].concat();
    head.extend_from_slice(&from.octets());
    head.extend_from_slice(&to.octets());
    let sum = checksum(&[&head]);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(ends, IPV4, &[head, body.to_vec()].concat())
}

/// A frame with any payload.
pub fn ethernet(ends: Ends, kind: u16, body: &[u8]) -> Vec<u8> {
    [&ends.to[..], &ends.from, &kind.to_be_bytes(), body].concat()
}

fn pseudo(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, length: usize) -> Vec<u8> {
    [&from.octets()[..], &to.octets(), &[0, protocol], &short(length)].concat()
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// The Internet checksum (RFC 1071) of parts that are even in length, but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 =
        words.map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u64::from(low))).sum();
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends { from: [2, 0, 0, 0, 0, 1], to: [2, 0, 0, 0, 0, 2] };
    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn sums_come_out_as_zero_where_they_are_checked() {
        for frame in
            [udp(ENDS, (A, 1), (B, 2), b"odd"), udp(ENDS, (A, 1), (B, 2), b""), syn(ENDS, (A, 1), (B, 2))]
        {
            let (head, body) = frame[14..].split_at(20);
            assert_eq!(checksum(&[head]), 0);
            assert_eq!(usize::from(head[2]) << 8 | usize::from(head[3]), frame.len() - 14);
            assert_eq!(checksum(&[&pseudo(A, B, head[9], body.len()), body]), 0);
        }
    }

    #[test]
    fn frames_have_the_lengths_of_their_standards() {
        assert_eq!(arp_answer(ENDS, (ENDS.from, A), (ENDS.to, B)).len(), 14 + 28);
        let advertised = neighbour(ENDS, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        assert_eq!(advertised.len(), 14 + 40 + 32);
        assert_eq!(tagged(&advertised, 7)[12..18], [0x81, 0, 0, 7, 0x86, 0xdd]);
    }

    #[test]
    fn addresses_and_frames_are_read_back() {
        assert_eq!(parse_mac("02:42:ac:11:00:0a"), Ok([2, 0x42, 0xac, 0x11, 0, 10]));
        assert!(parse_mac("02:42").is_err());
        assert_eq!(parse_hex(&hex(&[0, 255, 16])), Ok(vec![0, 255, 16]));
        assert!(parse_hex("abc").is_err() && parse_hex("zz").is_err());
    }
}
