//! The command line: words and `--name value` pairs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Options that take no value.
const SWITCHES: [&str; 3] = ["forever", "changes", "tcp"];

/// What follows the subcommand.
pub(crate) struct Args {
    words: Vec<String>,
    options: HashMap<String, String>,
}

impl Args {
    /// Splits what follows into the options and the other words.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self { words: Vec::new(), options: HashMap::new() };
        while let Some(word) = words.next() {
            if let Some(name) = word.strip_prefix("--") {
                let value = if SWITCHES.contains(&name) {
                    String::new()
                } else {
                    words.next().ok_or_else(|| format!("--{name} needs a value"))?
                };
                args.options.insert(name.to_owned(), value);
            } else {
                args.words.push(word);
            }
        }
        Ok(args)
    }

    /// The words that belong to no option.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// The only one.
    pub(crate) fn word(&self) -> Result<&str, String> {
        match &self.words[..] {
            [word] => Ok(word),
            words => Err(format!("one word is expected, not {}", words.len())),
        }
    }

    /// The address and port to connect to.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        let text = self.word()?;
        text.parse().map_err(|_| format!("`{text}` is no ADDR:PORT"))
    }

    /// An option's text.
    pub(crate) fn text(&self, name: &str) -> Result<&str, String> {
        self.options.get(name).map(String::as_str).ok_or_else(|| format!("--{name} is missing"))
    }

    /// An option's number, or the default.
    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        self.options.get(name).map_or(Ok(default), |text| {
            text.parse().map_err(|_| format!("--{name} {text}: a number is expected"))
        })
    }

    /// An option in milliseconds, or the default.
    pub(crate) fn millis(&self, name: &str, default: u64) -> Result<Duration, String> {
        Ok(Duration::from_millis(self.number(name, default)?))
    }

    /// Whether a switch is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }
}
