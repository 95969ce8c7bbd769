//! Proof that the tests leave the machine alone: what it looks like before and after.

use crate::leftovers;
use std::fmt::Write;
use std::fs::{read_dir, read_link, read_to_string};
use std::process::Command;

/// Programs of the testbed that must not run outside a host.
const DAEMONS: [&str; 6] = ["dockerd", "containerd", "containerd-shim", "consul", "runsc", "steppe-"];
/// What the kernel calls a program that was started as /proc/self/exe, as runsc does; its first argument says more.
const NAMELESS: &str = "exe";

/// Removes what killed runs left, as the first cluster would do: it is no change that the tests make.
pub fn sweep() {
    leftovers::sweep();
}

/// The machine's links, addresses, routes, firewall, and the testbed's programs, mounts and cgroups on it: a
/// text that is the same after the tests as before.
pub fn snapshot() -> String {
    let mut text = String::new();
    for words in [
        &["ip", "-o", "link"][..],
        &["ip", "-o", "addr"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "netns", "list"],
        &["nft", "list", "ruleset"],
    ] {
        writeln!(text, "==== {}\n{}", words.join(" "), without_times(&output(words))).ok();
    }
    writeln!(text, "==== daemons\n{}", daemons().join("\n")).ok();
    let mut orphans = leftovers::cgroups();
    orphans.retain(|path| leftovers::is_orphan(path));
    writeln!(text, "==== cgroups\n{orphans:?}").ok();
    text
}

fn output(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}; `make install-needs`", words[0]));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Addresses by DHCP and routes by router advertisements carry the seconds that they have left.
fn without_times(text: &str) -> String {
    text.lines().map(|line| line_without_times(line) + "\n").collect()
}

fn line_without_times(line: &str) -> String {
    let mut words = line.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if matches!(word, "valid_lft" | "preferred_lft" | "expires") {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

fn program(pid: &str) -> Option<String> {
    let name = read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name.trim_end() != NAMELESS {
        return Some(name.trim_end().to_owned());
    }
    let words = read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    words.split('\0').next().map(str::to_owned)
}

/// The testbed's programs in this process's own pid namespace, as `name`. A host has its own.
fn daemons() -> Vec<String> {
    let namespace = |pid: &str| read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = namespace("self");
    let pids = read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = pids
        .filter_map(|pid| pid.to_str().map(str::to_owned))
        .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && namespace(pid) == ours)
        .filter_map(|pid| program(&pid))
        .filter(|name| DAEMONS.iter().any(|daemon| name.starts_with(daemon)))
        .collect();
    names.sort();
    names
}
