//! What people see first.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn demo() -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.env_remove("KEEP").stdin(Stdio::null()).stdout(Stdio::piped());
    demo
}

#[test]
fn the_demo_goes_as_promised_in_under_a_minute_as_plain_text_for_a_pipe() {
    let start = Instant::now();
    let output = demo().output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("All ") && last.contains(" steps went as promised"), "{last}");
    assert!(!text.contains('\x1b'), "no colours");
    assert!(start.elapsed() < Duration::from_secs(60), "under a minute, not {:?}", start.elapsed());
}

#[test]
fn the_demo_removes_its_hosts_when_it_is_interrupted() {
    let mut demo = demo().spawn().expect("it can be started");
    let pid = demo.id().to_string();
    let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    lines.find(|line| line.contains("steppe status")).expect("the hosts are up");
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(demo.wait().expect("waitpid").code(), Some(130), "{rest:#?}");
    assert_eq!(rest.last().map(String::as_str), Some("Interrupted."));

    let left = format!("steppe-test-{pid}-");
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("{left}*")]).output();
    assert!(found.expect("find").stdout.is_empty(), "its cgroups are gone");
    let logs = std::path::Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("../testbed");
    let mut logs = std::fs::read_dir(&logs).expect("the testbed's directory").flatten();
    assert!(!logs.any(|entry| entry.file_name().to_string_lossy().starts_with(&left)), "its logs are gone");
}
