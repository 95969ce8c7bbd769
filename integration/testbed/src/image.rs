//! The one image: the probe, and busybox for people who look around in a container.

use std::sync::OnceLock;

/// Its name in each Docker daemon.
pub(crate) const NAME: &str = "steppe-probe";

/// The same with a tag of its own: Nomad asks a registry for whatever has none.
pub(crate) const TAGGED: &str = "steppe-probe:1";

/// The probe, linked statically.
pub(crate) const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steppe-probe"));
const BUSYBOX: &str = "/bin/busybox";
/// busybox's names in the image.
const APPLETS: [&str; 12] =
    ["sh", "cat", "ls", "ip", "ping", "nc", "nslookup", "wget", "touch", "rm", "sleep", "ps"];

/// The image's files, for `docker import`.
///
/// # Panics
/// When there is no busybox-static.
pub(crate) fn tar() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let busybox = std::fs::read(BUSYBOX)
            .unwrap_or_else(|e| panic!("{BUSYBOX}: {e}; `make install-needs` installs busybox-static"));
        build(&busybox).expect("a tar is made in memory")
    })
}

fn build(busybox: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin/", "etc/", "tmp/", "proc/", "sys/", "dev/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, directory, std::io::empty())?;
    }
    for (path, bytes) in [("bin/probe", PROBE), ("bin/busybox", busybox)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes)?;
    }
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}
