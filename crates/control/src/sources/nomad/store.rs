//! The addresses of allocations in bridge mode, as CNI's host-local plugin keeps them: a file named by the address, whose
//! first line is the container's id, which Nomad makes the allocation's (seen with 1.1, 1.3 and 2.0).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    net::Ipv4Addr,
    path::Path,
};

/// An id and an interface's name are far shorter.
const LONGEST: u64 = 256;
/// More than a bridge of Linux has ports (`BR_MAX_PORTS` is 1024), and other files.
const MOST: usize = 4096;

/// The addresses by allocation. A file that is being written is passed over.
pub(super) fn read(dir: &Path) -> io::Result<BTreeMap<String, Ipv4Addr>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)?.take(MOST) {
        let entry = entry?;
        let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let mut text = String::new();
        // It may have gone meanwhile.
        if File::open(entry.path()).and_then(|file| file.take(LONGEST).read_to_string(&mut text)).is_err() {
            continue;
        }
        if let Some(id) = text.lines().next().map(str::trim).filter(|id| !id.is_empty()) {
            found.insert(id.to_owned(), address);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_allocation() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("172.26.64.9", "5b7c\r\neth0");
        write("172.26.64.10", "");
        write("last_reserved_ip.0", "172.26.64.10");
        write("lock", "");
        let found = read(dir.path()).unwrap();
        assert_eq!(found, BTreeMap::from([("5b7c".to_owned(), Ipv4Addr::new(172, 26, 64, 9))]));
        assert!(read(&dir.path().join("none")).is_err());
    }
}
