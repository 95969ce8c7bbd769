//! What the reader sees: steps, commands with what they print, and what was checked.

use std::io::{IsTerminal, Write};

use steppe_testbed::{Host, Output, programs};

use crate::interrupt::Interrupt;

/// Of a longer output the beginning and the end are shown.
const MOST_LINES: usize = 24;
const BOLD: &str = "1";
const RED: &str = "1;31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Why the story doesn't go on.
#[derive(Debug)]
pub enum Stop {
    /// Something was not as promised: what.
    Failed(String),
    /// Ctrl-C.
    Interrupted,
    /// stdout is closed.
    Unheard,
}

/// See the module's head.
#[derive(Debug)]
pub struct Stage {
    interrupt: Interrupt,
    colour: bool,
    titles: Vec<String>,
}

impl Stage {
    /// Colours are for terminals, and for who has not set NO_COLOR (no-color.org).
    pub fn new(interrupt: Interrupt) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colour = std::io::stdout().is_terminal() && !unwanted && !dumb;
        Self { interrupt, colour, titles: Vec::new() }
    }

    /// How many steps there were.
    pub fn steps(&self) -> usize {
        self.titles.len()
    }

    /// The present step.
    pub fn title(&self) -> &str {
        self.titles.last().map_or("before the first step", String::as_str)
    }

    /// Begins a step: a plain sentence that says what is about to be shown.
    pub fn step(&mut self, sentence: &str) -> Result<(), Stop> {
        self.titles.push(sentence.to_owned());
        let title = format!("{}. {sentence}", self.steps());
        self.line(&format!("\n{}", self.painted(BOLD, &title)))
    }

    /// Something that the reader should know.
    pub fn note(&self, text: &str) -> Result<(), Stop> {
        self.line(&format!("   ({text})"))
    }

    /// Runs a command in a host, for the reader to see.
    pub fn run(&self, host: &Host, command: &str) -> Result<Output, Stop> {
        let prompt = format!("{}$ {command}", host.name);
        self.line(&format!("   {}", self.painted(CYAN, &prompt)))?;
        let output = self.quietly(host, command)?;
        for line in shortened(output.stdout.lines().chain(output.stderr.lines())) {
            self.line(format!("     {line}").trim_end())?;
        }
        Ok(output)
    }

    /// Runs a command in a host, unseen.
    pub fn quietly(&self, host: &Host, command: &str) -> Result<Output, Stop> {
        let path = format!("PATH={}:{}", programs(), std::env::var("PATH").unwrap_or_default());
        // /run is the host's own, so that files can be named without a path.
        let output = host.exec("env", &["--chdir=/run", &path, "bash", "-c", command]);
        if self.interrupt.came() { Err(Stop::Interrupted) } else { Ok(output) }
    }

    /// As [`Stage::quietly`], and it must succeed.
    pub fn must(&self, host: &Host, command: &str) -> Result<String, Stop> {
        let output = self.quietly(host, command)?;
        if output.code == 0 { Ok(output.stdout) } else { Err(failed(command, &output)) }
    }

    /// As [`Stage::run`], and it must succeed.
    pub fn run_ok(&self, host: &Host, command: &str) -> Result<String, Stop> {
        let output = self.run(host, command)?;
        if output.code == 0 { Ok(output.stdout) } else { Err(failed(command, &output)) }
    }

    /// Tells whether something is as promised, and stops the story if not.
    pub fn check(&self, promise: &str, kept: bool) -> Result<(), Stop> {
        if kept {
            return self.line(&format!("   {}    {promise}", self.painted(GREEN, "ok")));
        }
        self.line(&format!("   {}  {promise}", self.painted(RED, "FAIL")))?;
        Err(Stop::Failed(promise.to_owned()))
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Result<(), Stop> {
        if self.interrupt.came() {
            return Err(Stop::Interrupted);
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|_| Stop::Unheard)
    }

    /// A happy end.
    pub fn good(&self, text: &str) -> String {
        self.painted(GREEN, text)
    }

    /// The other one.
    pub fn bad(&self, text: &str) -> String {
        self.painted(RED, text)
    }

    /// In the manner of ECMA-48, "Select Graphic Rendition".
    fn painted(&self, how: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{how}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn failed(command: &str, output: &Output) -> Stop {
    let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    Stop::Failed(format!("`{command}` ended with {}: {}", output.code, said.trim()))
}

fn shortened<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines: Vec<String> = lines.map(without_long_id).collect();
    let Some(left_out) = lines.len().checked_sub(MOST_LINES).filter(|&more| more > 1) else { return lines };
    let half = MOST_LINES / 2;
    let mut short = lines[..half].to_vec();
    short.push(format!("… {left_out} more lines …"));
    short.extend_from_slice(&lines[half + left_out..]);
    short
}

/// Docker prints 64 hex digits where 12 say the same.
fn without_long_id(line: &str) -> String {
    let is_id = line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { format!("{}…", &line[..12]) } else { line.to_owned() }
}
