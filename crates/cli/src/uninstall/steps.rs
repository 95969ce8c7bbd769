//! What was done, step by step.

use std::{fmt::Write as _, fs, io};

use serde::Serialize;
use steppe_daemon::{Process, RunDir};
use steppe_explain::{Paint, Style, clean};

use super::removed;

/// One thing to remove.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub(super) what: String,
    /// Whether it is gone.
    pub(super) done: bool,
    /// How it went.
    pub(super) says: String,
}

impl Step {
    pub(super) fn of(what: &str, result: Result<String, String>) -> Self {
        let (done, says) = match result {
            Ok(says) => (true, says),
            Err(says) => (false, says),
        };
        Self { what: what.to_owned(), done, says }
    }

    pub(super) fn failed(what: &str, says: &str) -> Self {
        Self::of(what, Err(says.to_owned()))
    }
}

/// All steps.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(super) steps: Vec<Step>,
}

impl Report {
    /// 0 nothing is left, 1 something is.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::from(self.steps.iter().any(|step| !step.done))
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        for Step { what, done, says } in &self.steps {
            let (word, style) = if *done { ("ok  ", Style::Good) } else { ("FAIL", Style::Bad) };
            let _ = writeln!(text, "{} {what}: {}", paint.with(style, word), clean(says));
        }
        if self.exit_code() == 0 {
            text.push_str("nothing of Steppe is left on this host; containers run on\n");
        }
        text
    }
}

/// Removes the sockets that Steppe made and the directory, and nothing that somebody else has put there.
pub(super) fn remove_run_dir(run_dir: &RunDir, processes: &[Process]) -> Step {
    let path = run_dir.run_dir.display();
    let remove = || -> io::Result<bool> {
        for process in processes {
            removed(fs::remove_file(run_dir.socket(*process)))?;
        }
        removed(fs::remove_dir(&run_dir.run_dir))
    };
    Step::of(
        "run directory",
        match remove() {
            Ok(true) => Ok(format!("{path} is removed")),
            Ok(false) => Ok(format!("there was no {path}")),
            Err(error) => Err(format!("{path}: {error}: remove what is in it, then the directory")),
        },
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_run_directory_goes_unless_something_foreign_is_in_it() {
        let home = tempfile::tempdir().unwrap();
        let run_dir = RunDir { run_dir: home.path().join("steppe") };
        fs::create_dir(&run_dir.run_dir).unwrap();
        drop(UnixListener::bind(run_dir.socket(Process::Proxy)).unwrap());
        let foreign = run_dir.run_dir.join("notes");
        fs::write(&foreign, "").unwrap();
        let remove = || remove_run_dir(&run_dir, &[Process::Control, Process::Proxy]);
        let step = remove();
        assert!(!step.done && foreign.exists() && !run_dir.socket(Process::Proxy).exists(), "{step:?}");
        fs::remove_file(&foreign).unwrap();
        assert!(remove().done && !run_dir.run_dir.exists());
        // Done twice is as good.
        assert!(remove().done);
    }

    #[test]
    fn one_failure_is_a_failure() {
        let steps = vec![Step::of("a", Ok("gone".into())), Step::failed("b", "still there")];
        let report = Report { steps };
        assert_eq!(report.exit_code(), 1);
        assert_eq!(report.render(Paint::Plain), "ok   a: gone\nFAIL b: still there\n");
    }
}
