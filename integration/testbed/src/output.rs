//! Running a program in a host to its end.

use crate::namespaces::Namespaces;
use std::io::Write;
use std::process::{Command, Stdio};

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 + N when signal N ended it, as in a shell.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// What it printed.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "it failed\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs `command` inside `namespaces`, with `input` as its stdin (a few KiB at most: it is written first).
///
/// # Panics
/// When it can't be started.
#[track_caller]
pub(crate) fn run(namespaces: &Namespaces, mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let result = namespaces.enter(|| {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that doesn't read its input is no error.
            stdin.write_all(input.as_bytes()).ok();
        }
        child.wait_with_output()
    });
    let output = result.unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    Output {
        code: exit_code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a shell script inside `namespaces`.
#[track_caller]
pub(crate) fn sh(namespaces: &Namespaces, script: &str) -> Output {
    let mut command = Command::new("bash");
    command.args(["-c", script]);
    run(namespaces, command, "")
}
