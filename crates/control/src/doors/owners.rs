//! Which users listen at an address of this host.
//!
//! Whoever listens where Consul or Nomad is expected is believed anyway: control takes the whole world from there.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv6Addr},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// The state of a socket that listens (`TCP_LISTEN` of net/tcp_states.h), in hexadecimal.
const LISTEN: &str = "0A";

/// The uids that listen on this port at one of these addresses, or at all.
pub(super) fn of_listeners(addresses: &[IpAddr], port: u16) -> BTreeSet<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| File::open(path).ok());
    tables.flat_map(|table| listening(BufReader::new(table), addresses, port)).collect()
}

/// The owner of a socket's file.
pub(super) fn of_file(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.uid())
}

/// `/proc/net/tcp` and `tcp6` (proc_net_tcp.txt of the kernel): sl local_address rem_address st … uid …
/// The sockets that listen are told first: the table ends for us with the first other one, as there can be a million of them.
fn listening(table: impl BufRead, addresses: &[IpAddr], port: u16) -> BTreeSet<u32> {
    let lines = table.lines().skip(1).map_while(Result::ok);
    let rows = lines.map_while(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, LISTEN, _, _, _, uid, ..] = fields[..] else { return None };
        let (ip, port) = local.split_once(':')?;
        Some((address(ip)?, u16::from_str_radix(port, 16).ok()?, uid.parse::<u32>().ok()?))
    });
    let here = rows.filter(|(ip, at, _)| *at == port && (ip.is_unspecified() || addresses.contains(ip)));
    here.map(|(_, _, uid)| uid).collect()
}

/// Words of 32 bits, as they lie in memory.
fn address(text: &str) -> Option<IpAddr> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    if text.len() == 8 {
        return Some(IpAddr::from(word(text)?));
    }
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (four, text) in bytes.chunks_exact_mut(4).zip(text.as_bytes().chunks_exact(8)) {
        four.copy_from_slice(&word(std::str::from_utf8(text).ok()?)?);
    }
    Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_listener_of_our_own_is_found() {
        let me = fs::metadata("/proc/self").unwrap().uid();
        for any in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(any).unwrap();
            let port = listener.local_addr().unwrap().port();
            let found = of_listeners(&[Ipv4Addr::LOCALHOST.into()], port);
            assert_eq!(found, BTreeSet::from([me]), "{any}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(of_listeners(&[Ipv4Addr::new(127, 0, 0, 2).into()], port), BTreeSet::new());
    }

    #[test]
    fn addresses_are_words_in_memory() {
        let hex = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        assert_eq!(address(&hex([127, 0, 0, 1])), Some(Ipv4Addr::LOCALHOST.into()));
        let v6: String = [[0x20, 1, 0xd, 0xb8], [0; 4], [0; 4], [0, 0, 0, 1]].map(hex).concat();
        assert_eq!(address(&v6), Some("2001:db8::1".parse().unwrap()));
        let mapped: String = [[0; 4], [0; 4], [0, 0, 0xff, 0xff], [10, 0, 0, 1]].map(hex).concat();
        assert_eq!(address(&mapped), Some("10.0.0.1".parse().unwrap()));
        for text in ["", "0000", "zzzzzzzz", "0000000g"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn reading_ends_where_listeners_end() {
        let table = "  sl  local_address rem_address   st\n\
             0: 00000000:2134 00000000:0000 0A 0:0 00:0 0 997 0 1 1 0 100 0 0 10 0\n\
             1: 00000000:2134 00000000:0000 01 0:0 00:0 0 998 0 1 1 0 100 0 0 10 0\n\
             2: 00000000:2134 00000000:0000 0A 0:0 00:0 0 999 0 1 1 0 100 0 0 10 0\n";
        let found = listening(table.as_bytes(), &[], 8500);
        assert_eq!(found, BTreeSet::from([997]));
        assert_eq!(listening(table.as_bytes(), &[], 8501), BTreeSet::new());
    }
}
