//! The addresses of allocations in bridge mode, as CNI's host-local plugin keeps them: a file named by the address, whose
//! first line is the container's id, which Nomad makes the allocation's. Nomad 1.1 and 1.3 leave the directory to the
//! plugin, `/var/lib/cni/networks/nomad`; 2.0 names `/var/run/cni`, and moves there what an older one has left
//! (from 1.8.8 and 1.9.4 on, its list of changes says).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// An id and an interface's name are far shorter.
const LONGEST: u64 = 256;
/// More than a bridge of Linux has ports (`BR_MAX_PORTS` is 1024), and other files.
const MOST: usize = 4096;

/// The addresses by allocation, of all these directories; the first counts most. One that is not there is passed over.
///
/// # Errors
/// None can be read.
pub(super) fn read_all(dirs: &[PathBuf]) -> io::Result<BTreeMap<String, Ipv4Addr>> {
    let mut found = None;
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for dir in dirs.iter().rev() {
        match read(dir) {
            Ok(more) => found.get_or_insert_with(BTreeMap::new).extend(more),
            Err(error) => failure = error,
        }
    }
    found.ok_or(failure)
}

/// The addresses of one directory. A file that is being written is passed over.
fn read(dir: &Path) -> io::Result<BTreeMap<String, Ipv4Addr>> {
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

    #[test]
    fn both_places_count_and_the_first_one_most() {
        let dir = tempfile::tempdir().unwrap();
        let [new, old, none] = ["new", "old", "none"].map(|name| dir.path().join(name));
        for (dir, ip, id) in [(&new, "10.0.0.2", "a"), (&old, "10.0.0.3", "a"), (&old, "10.0.0.4", "b")] {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join(ip), id).unwrap();
        }
        let expected =
            [("a", [10, 0, 0, 2]), ("b", [10, 0, 0, 4])].map(|(id, ip)| (id.to_owned(), ip.into()));
        assert_eq!(read_all(&[none.clone(), new.clone(), old.clone()]).unwrap(), expected.clone().into());
        assert_eq!(read_all(&[new, none.clone(), old]).unwrap(), expected.into());
        assert!(read_all(&[none]).is_err());
    }
}
