//! Who reaches what, by traffic: everybody who may dial, dials everything there is, and the table that comes of it is the
//! expected text in `truth/`. A cell that changes fails the test.
//!
//! A person who has looked at the change and wants it runs the test with `UPDATE_TRUTH=1`, which writes the text.
//!
//! What the words mean: `ok` who should have answered did, or the expected address was told (`ok:WHAT`: somebody or something
//! else); `refused` a reset or an ICMP error "port unreachable"; `barred` any other ICMP error, or no route; `denied` the
//! kernel did not even let it be sent; `no-addr` who dials has no address of that family; `dropped` no answer; `reset`, `eof` connected, and cut before the server told its name.

mod cast;
mod dial;
mod table;

use std::{path::Path, time::Instant};

use steppe_testbed::Cluster;

use cast::Cast;
use table::Table;

/// Compares with the text of a file in `truth/`, or with `UPDATE_TRUTH=1` writes it.
fn compare(table: &Table, file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth").join(file);
    if std::env::var_os("UPDATE_TRUTH").is_some_and(|value| value == "1") {
        std::fs::write(&path, table.text()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let expected = Table::parse(expected).unwrap_or_else(|e| panic!("{file}: {e}"));
    let differences = table.differences(&expected);
    assert!(
        differences.is_empty(),
        "the table is not that of {file}:\n{differences}\nUPDATE_TRUTH=1 takes it as it is:\n{}",
        table.text()
    );
}

#[test]
fn who_reaches_what_with_every_door_shut() {
    let cluster = Cluster::hosts(2).without_consul().ipv6().start();
    let cast = Cast::raise(&cluster, &[]);
    let began = Instant::now();
    let table = cast.table();
    println!("the table took {:?}", began.elapsed());
    compare(&table, "expected.txt", include_str!("truth/expected.txt"));
    cluster.assert_no_leak();
}
