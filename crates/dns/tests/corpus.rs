//! Packets that are hostile by design, and those that fuzzing finds to be worth keeping, through the functions that are fuzzed.
//! A packet that once did harm is put into `fuzz/corpus`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

fn run(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 20, "{} files in {}", files.len(), folder.display());
    for file in files {
        println!("{}", file.display());
        check(&fs::read(file).unwrap());
    }
}

#[test]
fn no_question_does_harm() {
    run("question", steppe_dns::fuzz::question);
}

#[test]
fn no_answer_does_harm() {
    run("answer", steppe_dns::fuzz::answer);
}
