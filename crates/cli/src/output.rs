//! To stdout: colour where it is wanted, and no complaint when the reader has gone.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
};

use steppe_explain::Paint;

use crate::args::Color;

/// Whether stdout is coloured: `NO_COLOR` counts when it is not empty (no-color.org).
pub(crate) fn paint(color: Color) -> Paint {
    let wanted = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    if wanted { Paint::Colour } else { Paint::Plain }
}

/// Writes text to stdout. Whoever reads may stop reading: `steppe services | head -1` is no error.
///
/// # Errors
/// What the system says, such as a full disk.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
