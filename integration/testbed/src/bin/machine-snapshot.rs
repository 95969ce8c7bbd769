//! Prints [`steppe_testbed::machine::snapshot`]: `make test` compares it before and after. With `--sweep` it removes
//! what killed runs left first.

use steppe_testbed::machine;

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--sweep") => machine::sweep(),
        Some(_) => {
            eprintln!("usage: machine-snapshot [--sweep]");
            std::process::exit(2);
        }
    }
    print!("{}", machine::snapshot());
}
