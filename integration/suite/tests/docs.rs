//! The documentation says what is so.

use std::{fs, path::Path, process::Command};

fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The flags that `--help` of a program names.
fn flags(program: &str, subcommand: &[&str]) -> Vec<String> {
    let path = Path::new(env!("CARGO_BIN_EXE_raise")).with_file_name(program);
    let output = Command::new(&path).args(subcommand).arg("--help").output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}: `make build` makes it", path.display()));
    let help = String::from_utf8(output.stdout).expect("text");
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',', '='])).filter(|word| word.starts_with("--"));
    words.map(str::to_owned).collect()
}

#[test]
fn the_readme_has_every_flag_and_no_other() {
    let readme = repository("README.md");
    let table: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `--")).collect();
    let programs: [(&str, &[&str]); 13] = [
        ("steppe-control", &[]),
        ("steppe-proxy", &[]),
        ("steppe-netfilter-agent", &[]),
        ("steppe-dns", &[]),
        ("steppe", &[]),
        ("steppe", &["status"]),
        ("steppe", &["services"]),
        ("steppe", &["workloads"]),
        ("steppe", &["explain"]),
        ("steppe", &["dns", "query"]),
        ("steppe", &["ready"]),
        ("steppe", &["doctor"]),
        ("steppe", &["uninstall"]),
    ];
    let flags: Vec<String> = programs.iter().flat_map(|(program, words)| flags(program, words)).collect();
    assert!(flags.len() > 20, "{flags:?}");
    for flag in &flags {
        let named = |line: &&str| line.split(['`', ' ']).any(|word| word == flag);
        assert!(table.iter().any(named), "README.md has no {flag}");
    }
    for line in table {
        let mut named = line.split(['`', ' ']).filter(|word| word.starts_with("--"));
        let flag = named.next().expect("a flag in each row");
        assert!(flags.iter().any(|known| known == flag), "no program has {flag}");
    }
}

#[test]
fn the_architecture_shows_the_tables_as_they_are() {
    let listing = repository("crates/netfilter-agent/tests/ruleset.nft");
    assert!(
        repository("ARCHITECTURE.md").contains(listing.trim()),
        "copy tests/ruleset.nft into ARCHITECTURE.md"
    );
}
