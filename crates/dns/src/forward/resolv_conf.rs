//! The host's resolvers, as its resolv.conf names them.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Forwarder;

/// How often it is looked whether the file is another one. That costs a microsecond; events on a file that is replaced through
/// a link, on a mount of a container, would have to be watched in several places.
const LOOK: Duration = Duration::from_secs(1);
/// The port of the domain name system.
const PORT: u16 = 53;
/// Whom the library asks where the file names nobody.
const THIS_HOST: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT));
/// Links that are followed, as many as the kernel does (path_resolution(7)).
const LINKS: usize = 40;

/// Which file it is, so that a change shows.
type Version = (u64, u64, i64, i64, u64);

/// Reads the file, and again whenever it has changed. A file that can't be read leaves things as they are.
pub(crate) async fn watch_resolv_conf(path: &Path, forwarder: &Forwarder) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut complaint) = (None, String::new());
    loop {
        ticks.tick().await;
        match look(path, seen) {
            Ok(None) => complaint.clear(),
            Ok(Some((version, text))) => {
                seen = Some(version);
                complaint.clear();
                let (addresses, odd) = nameservers(&text);
                let has_us = forwarder.replace_upstreams(&addresses);
                let told: Vec<_> =
                    forwarder.upstreams.list().iter().map(|upstream| upstream.address.to_string()).collect();
                info!(file = %path.display(), upstreams = told.join(" "), "the host's resolvers");
                for odd in odd {
                    warn!(file = %path.display(), nameserver = odd, "not a resolver that can be asked: an IP address is expected, with a link of this host where it needs one");
                }
                if has_us {
                    warn!(file = %path.display(), "it names dns itself, which would ask itself: left out; name the host's resolver instead");
                }
                if told.is_empty() {
                    warn!(file = %path.display(), "it names no other resolver: what is not Steppe's can't be answered");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if text != complaint {
                    warn!(file = %path.display(), error = text, "can't be read: the resolvers stay as they are; check --resolv-conf");
                    complaint = text;
                }
            }
        }
    }
}

/// The file's contents if it is no longer the version that was seen.
fn look(path: &Path, seen: Option<Version>) -> io::Result<Option<(Version, String)>> {
    let path = follow(path)?;
    let found = fs::metadata(&path)?;
    let version = (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.len());
    if seen == Some(version) {
        return Ok(None);
    }
    // A comment may be in whatever encoding.
    Ok(Some((version, String::from_utf8_lossy(&fs::read(path)?).into_owned())))
}

/// Where links lead to. One that begins with `/` means the host's root, which is where the file's `etc` is.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let root = path.parent().filter(|etc| etc.ends_with("etc")).and_then(Path::parent);
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if !fs::symlink_metadata(&path)?.is_symlink() {
            return Ok(path);
        }
        let target = fs::read_link(&path)?;
        path = match (root, target.strip_prefix("/")) {
            (Some(root), Ok(below)) => root.join(below),
            _ => path.parent().unwrap_or(Path::new("/")).join(target),
        };
    }
    Err(io::Error::other("too many links lead to one another"))
}

/// The servers of a resolv.conf (resolv.conf(5)), and what stands where one should and is none.
fn nameservers(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut addresses, mut odd) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("nameserver").filter(|rest| rest.starts_with([' ', '\t'])) else {
            continue;
        };
        let server = rest.trim_start().split([' ', '\t', '#', ';']).next().unwrap_or_default();
        match resolver(server) {
            Some(address) => addresses.push(address),
            None if server.is_empty() => {}
            None => odd.push(server.into()),
        }
    }
    if addresses.is_empty() {
        addresses.push(THIS_HOST);
    }
    (addresses, odd)
}

/// A server by its address, which may have a scope behind it: `fe80::1%eth0`.
fn resolver(server: &str) -> Option<SocketAddr> {
    if let Some((ip, scope)) = server.split_once('%') {
        let scope = scope.parse().ok().or_else(|| interface(scope))?;
        return Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope).into());
    }
    let ip: IpAddr = server.parse().ok()?;
    // The library takes 0.0.0.0 for this host.
    Some(if ip.is_unspecified() { THIS_HOST } else { (ip, PORT).into() })
}

/// The index of this host's interface of that name.
fn interface(name: &str) -> Option<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    name_to_index(socket, name).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn servers_are_read_as_the_library_reads_them() {
        let text = "# nameserver 1.1.1.1\nsearch example\n nameserver 1.2.3.4\nnameserver\t10.0.0.2 # first\n\
                    nameserver fd00::2\nnameserver fe80::1%lo\nnameserver fe80::1%7\nnameserver fe80::1%no-such\n\
                    nameserver 10.0.0.3#last\nnameserver 0.0.0.0\nnameserver\noptions ndots:5\nnameservers 1.2.3.4\n";
        let (addresses, odd) = nameservers(text);
        let expected = [
            "10.0.0.2:53",
            "[fd00::2]:53",
            "[fe80::1%1]:53",
            "[fe80::1%7]:53",
            "10.0.0.3:53",
            "127.0.0.1:53",
        ];
        assert_eq!(addresses, expected.map(|address| address.parse().unwrap()));
        assert_eq!(odd, ["fe80::1%no-such"]);
    }

    #[test]
    fn a_file_that_names_no_server_means_this_host() {
        for text in ["", "search example\n", "nameserver\n"] {
            let (addresses, _) = nameservers(text);
            assert_eq!(addresses, ["127.0.0.1:53".parse().unwrap()], "{text:?}");
        }
    }

    #[test]
    fn a_comment_in_whatever_encoding_does_no_harm() {
        let etc = tempfile::tempdir().unwrap();
        let file = etc.path().join("resolv.conf");
        fs::write(&file, b"# F\xfcr alle\nnameserver 10.0.0.2\n").unwrap();
        let (_, text) = look(&file, None).unwrap().unwrap();
        assert_eq!(nameservers(&text).0, ["10.0.0.2:53".parse().unwrap()]);
    }

    #[test]
    fn a_change_is_seen_whatever_the_way_it_came() {
        let host = tempfile::tempdir().unwrap();
        let (etc, run) = (host.path().join("etc"), host.path().join("run/resolve"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir_all(&run).unwrap();
        let (file, real) = (etc.join("resolv.conf"), run.join("resolv.conf"));
        assert!(look(&file, None).is_err());
        // An absolute link, as NetworkManager makes it, seen from within a container.
        fs::write(&real, "one").unwrap();
        symlink("/run/resolve/resolv.conf", &file).unwrap();
        let (version, text) = look(&file, None).unwrap().unwrap();
        assert_eq!(text, "one");
        assert!(look(&file, Some(version)).unwrap().is_none());
        fs::write(run.join("new"), "two").unwrap();
        fs::rename(run.join("new"), &real).unwrap();
        let (version, text) = look(&file, Some(version)).unwrap().unwrap();
        assert_eq!(text, "two");
        // A relative one, as systemd-resolved's.
        fs::remove_file(&file).unwrap();
        symlink("../run/resolve/stub.conf", &file).unwrap();
        fs::write(run.join("stub.conf"), "three").unwrap();
        assert_eq!(look(&file, Some(version)).unwrap().unwrap().1, "three");
        // A loop.
        fs::remove_file(&real).unwrap();
        fs::remove_file(&file).unwrap();
        symlink("/etc/resolv.conf", &file).unwrap();
        assert!(look(&file, None).is_err());
    }
}
