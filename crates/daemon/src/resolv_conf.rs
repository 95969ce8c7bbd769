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

/// Docker's have some hundred bytes.
const LARGEST: u64 = 64 << 10;
/// What Docker writes of its resolv.conf after it has written that; no container can reach it.
const HASH: &str = "resolv.conf.hash";

/// A container's resolv.conf.
#[derive(Debug)]
pub struct ResolvConf {
    path: PathBuf,
    /// What is in it.
    pub text: String,
    /// Whether nobody has written it since Docker did.
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
        let written = file.metadata()?.modified()?;
        let text = String::from_utf8(bounded(&file, LARGEST)?)
            .map_err(|_| io::Error::other("it is no text: somebody in the container wrote it"))?;
        let hashed = hashed(dir)?;
        let is_untouched = hashed.is_none_or(|hashed| written <= hashed);
        Ok(Some(Self { path, text, is_untouched, hashed }))
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

fn hashed(dir: &Path) -> io::Result<Option<SystemTime>> {
    match open(&dir.join(HASH), false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => Ok(Some(file?.metadata()?.modified()?)),
    }
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
    use std::{fs, os::unix::fs::symlink, time::Duration};

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
    fn what_docker_wrote_is_told_from_what_was_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "x").unwrap();
        let is_untouched = || ResolvConf::open(dir.path()).unwrap().unwrap().is_untouched;
        assert!(is_untouched(), "no hash, no knowledge");
        fs::write(dir.path().join(HASH), "sha256:x").unwrap();
        assert!(is_untouched());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
        assert!(!is_untouched());
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
