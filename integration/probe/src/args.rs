//! The command line: one optional address and `--name value` pairs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Options that take no value.
const SWITCHES: [&str; 2] = ["forever", "changes"];

/// What follows the subcommand.
pub(crate) struct Args {
    address: Option<String>,
    options: HashMap<String, String>,
}

impl Args {
    /// Splits words into the address and the options.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self { address: None, options: HashMap::new() };
        while let Some(word) = words.next() {
            if let Some(name) = word.strip_prefix("--") {
                let value = if SWITCHES.contains(&name) {
                    String::new()
                } else {
                    words.next().ok_or_else(|| format!("--{name} needs a value"))?
                };
                args.options.insert(name.to_owned(), value);
            } else if args.address.replace(word).is_some() {
                return Err("one address, please".to_owned());
            }
        }
        Ok(args)
    }

    /// The address and port to connect to.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        let text = self.address.as_deref().ok_or("which ADDR:PORT?")?;
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
