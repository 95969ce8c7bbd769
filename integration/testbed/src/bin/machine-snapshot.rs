//! Prints [`steppe_testbed::machine::snapshot`]: `make test` compares it before and after.

fn main() {
    print!("{}", steppe_testbed::machine::snapshot());
}
