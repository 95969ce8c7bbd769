//! A container's resolv.conf on the host, which the container can write too: read and written never through a link, never without a
//! bound, and always in place, as the file is mounted into the container. control writes it, and the uninstaller puts back what
//! Docker had written.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

/// Docker's have some hundred bytes.
const LARGEST: u64 = 64 << 10;
/// Beside its resolv.conf Docker keeps `sha256:` and the SHA-256 of what it wrote there, in hexadecimal digits, and leaves the file
/// alone when that is not so any more; no container can reach it.
const HASH: &str = "resolv.conf.hash";

/// A container's resolv.conf.
#[derive(Debug)]
pub struct ResolvConf {
    path: PathBuf,
    /// What is in it.
    pub text: String,
    /// Whether it is what Docker wrote, as far as Docker says.
    pub is_untouched: bool,
    /// When Docker last wrote down that it wrote the file.
    pub hashed: Option<SystemTime>,
}

impl ResolvConf {
    /// The one in a container's directory; `None` while there is none.
    ///
    /// # Errors
    /// When it can't be read, or is no text of a reasonable size.
    pub fn open(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join("resolv.conf");
        // Not to be written yet: that would look like a change.
        let file = match open(&path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| not_ours(&path, error))?,
        };
        let text = String::from_utf8(bounded(&file, LARGEST)?)
            .map_err(|_| io::Error::other("it is no text: somebody in the container wrote it"))?;
        let hash = match open(&dir.join(HASH), false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(file?),
        };
        let Some(hash) = hash else { return Ok(Some(Self { path, text, is_untouched: true, hashed: None })) };
        let is_untouched = bounded(&hash, LARGEST)? == hash_of(&text).as_bytes();
        Ok(Some(Self { path, text, is_untouched, hashed: Some(hash.metadata()?.modified()?) }))
    }

    /// Replaces what is in it. A reader meanwhile sees the beginning of the one and the end of the other, but never none.
    ///
    /// # Errors
    /// When it can't be written; without capabilities, by whom it belongs to.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let file = open(&self.path, true).map_err(|error| not_ours(&self.path, error))?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }
}

/// As Docker writes it.
fn hash_of(text: &str) -> String {
    let digest = Sha256::digest(text);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// control is root without any capability, so what belongs to somebody else, or has lost its mode, is out of reach.
fn not_ours(path: &Path, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let found = path.symlink_metadata();
    let whose = found.map_or_else(
        |error| error.to_string(),
        |found| format!("it belongs to uid {}, mode {:o}", found.uid(), found.mode() & 0o7777),
    );
    io::Error::new(error.kind(), format!("{error}: {whose}"))
}

/// A file's content, unless it is larger than so many bytes.
///
/// # Errors
/// When it can't be read, is a link or no regular file, or is larger.
pub fn read_bounded(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    bounded(&open(path, false)?, largest)
}

fn open(path: &Path, write: bool) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

fn bounded(file: &File, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!("it has more than {largest} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn it_is_written_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        assert!(ResolvConf::open(dir.path()).unwrap().is_none());
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let found = ResolvConf::open(dir.path()).unwrap().unwrap();
        assert_eq!(found.text, "nameserver 10.0.0.1\n");
        for text in ["nameserver 169.254.77.53\nsearch steppe.internal\n", "short\n"] {
            found.write(text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn what_docker_wrote_is_told_from_what_others_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let write = |text| fs::write(&path, text).unwrap();
        let is_untouched = || ResolvConf::open(dir.path()).unwrap().unwrap().is_untouched;
        write("nameserver 10.255.255.53\n");
        assert!(is_untouched(), "no hash, no knowledge");
        // By Docker 20.10.
        let hash = "sha256:b28bb20664856e4e8dcd7776224848fbbf4ed5c7a005f13447fcd3dd347dbb8a";
        fs::write(dir.path().join(HASH), hash).unwrap();
        assert!(is_untouched());
        write("nameserver 1.1.1.1\n");
        assert!(!is_untouched());
        // Whenever, and by whomever, it was put back.
        write("nameserver 10.255.255.53\n");
        assert!(is_untouched());
    }

    #[test]
    fn what_is_no_plain_text_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, &path).unwrap();
        ResolvConf::open(dir.path()).unwrap_err();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        ResolvConf::open(dir.path()).unwrap_err();
        fs::remove_dir(&path).unwrap();
        fs::write(&path, [0xff]).unwrap();
        assert!(ResolvConf::open(dir.path()).unwrap_err().to_string().contains("no text"));
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(ResolvConf::open(dir.path()).unwrap_err().to_string().contains("more than 65536 bytes"));
    }
}
