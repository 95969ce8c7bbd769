//! Compiles the probe statically, since the test containers hold no libc, and hands its bytes to the
//! library: so it can be neither missing nor out of date.

use std::path::Path;
use std::process::Command;

fn main() {
    // As it is now, not as it was when this was compiled: a copy of the repository may share the target directory.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let source = Path::new(&manifest).join("../probe/src");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed=build.rs");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    let library = format!("{out}/libsteppe_probe.rlib");
    let program = format!("{out}/steppe-probe");
    let rustc = |arguments: &[&str], from: &str, to: &str| {
        let status = Command::new(std::env::var("RUSTC").expect("cargo sets RUSTC"))
            .args(["--edition", "2024", "--target", &target, "-C", "opt-level=s", "-C", "strip=symbols"])
            .args(arguments)
            .arg(source.join(from))
            .args(["-o", to])
            .status()
            .expect("rustc can be started");
        assert!(status.success(), "the probe does not compile; a static libc (libc6-dev) is needed");
    };
    rustc(&["--crate-type", "rlib", "--crate-name", "steppe_probe"], "lib.rs", &library);
    let external = format!("steppe_probe={library}");
    rustc(&["-C", "target-feature=+crt-static", "--extern", &external], "main.rs", &program);
}
