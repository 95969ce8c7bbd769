//! The resolv.conf of containers: what Docker had written is put back, so that their names don't end with dns.

use std::{fs, io, path::Path};

use steppe_daemon::ResolvConf;
use steppe_model::resolv_conf;

use super::steps::Step;

const WHAT: &str = "resolv.conf of containers";

/// Looks into each container's directory.
pub(super) fn put_back(containers: &Path) -> Step {
    let entries = match fs::read_dir(containers) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Step::of(WHAT, Ok(format!("there is no {}, so none is known", containers.display())));
        }
        Err(error) => return Step::failed(WHAT, &format!("{}: {error}", containers.display())),
    };
    let (mut done, mut failed) = (0, Vec::new());
    for dir in entries.flatten().map(|entry| entry.path()) {
        match put_back_one(&dir) {
            Ok(is_done) => done += usize::from(is_done),
            Err(error) => failed.push(format!("{}/resolv.conf: {error}", dir.display())),
        }
    }
    if failed.is_empty() {
        return Step::of(WHAT, Ok(format!("{done} are as Docker had written them")));
    }
    Step::failed(WHAT, &format!("{}: restart the container, and Docker writes it anew", failed.join("; ")))
}

/// Whether it was ours.
fn put_back_one(dir: &Path) -> io::Result<bool> {
    let found = match ResolvConf::open(dir) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(false),
        // No text, or no file: we never wrote such a thing.
        Err(error) if error.kind() == io::ErrorKind::Other => return Ok(false),
        Err(error) => return Err(error),
    };
    // Whoever has changed it since has taken it over.
    match resolv_conf::read(&found.text).filter(|ours| ours.server.is_some()) {
        Some(ours) => found.write(&ours.original).map(|()| true),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_had_written_is_back_and_the_rest_is_left() {
        let home = tempfile::tempdir().unwrap();
        let dockers = "nameserver 10.0.0.1\n";
        let ours = resolv_conf::write(dockers, [169, 254, 77, 53].into());
        let changed = format!("{ours}nameserver 10.0.0.2\n");
        let path = |name: &str| home.path().join(name).join("resolv.conf");
        for (name, text) in [("ours", &ours), ("changed", &changed), ("foreign", &dockers.to_owned())] {
            fs::create_dir(home.path().join(name)).unwrap();
            fs::write(path(name), text).unwrap();
        }
        fs::create_dir(home.path().join("new")).unwrap();
        let step = put_back(home.path());
        assert!(step.done && step.says.starts_with("1 are"), "{step:?}");
        for (name, text) in [("ours", dockers), ("changed", &changed), ("foreign", dockers)] {
            assert_eq!(fs::read_to_string(path(name)).unwrap(), text, "{name}");
        }
        assert!(put_back(&home.path().join("missing")).done);
        fs::write(path("new"), [0xff]).unwrap();
        assert!(put_back(home.path()).done, "it is somebody else's");
    }
}
