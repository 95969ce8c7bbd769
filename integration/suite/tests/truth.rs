//! Who reaches what, by traffic: everybody who may dial, dials everything there is, and the table that comes of it is the
//! expected text in `truth/`. A cell that changes fails the test.
//!
//! A person who has looked at the change and wants it runs the test with `UPDATE_TRUTH=1`, which writes the text.
//!
//! What the words mean: `ok` who should have answered did, or the expected address was told (`ok:WHAT`: somebody or something
//! else); `refused` a reset or an ICMP error "port unreachable"; `barred` any other ICMP error, or no route; `denied` EACCES or
//! EPERM, which is ICMPv6's "prohibited" and the kernel's not even letting it be sent; `no-addr` who dials has no address of
//! that family, `no-device` no device of that name; `dropped` no answer; `reset`, `eof` connected, and cut before the server told its name.

#[cfg_attr(not(feature = "kills"), expect(dead_code, reason = "test-kills alone looks at some of it"))]
mod again;
#[cfg_attr(not(feature = "kills"), expect(dead_code, reason = "test-kills alone looks at some of it"))]
mod cast;
mod dial;
#[cfg(feature = "kills")]
mod kills;
#[cfg_attr(not(feature = "kills"), expect(dead_code, reason = "test-kills alone looks at some of it"))]
mod lies;
#[cfg_attr(not(feature = "kills"), expect(dead_code, reason = "test-kills alone looks at some of it"))]
mod scenes;
mod table;
mod targets;

use std::{path::Path, time::Instant};

use serde_json::Value;
use steppe_testbed::{Cluster, Host};

use crate::common::networks::start;
use cast::Cast;
use lies::Lies;
use table::Table;

/// The doors that are not shut from the start.
const SHUT: [&str; 2] = ["--door=published=enforce", "--door=leaving=enforce"];

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
    let cast = Cast::raise(&cluster, &SHUT);
    let began = Instant::now();
    let table = cast.table();
    println!("the table took {:?}", began.elapsed());
    compare(&table, "expected.txt", include_str!("truth/expected.txt"));
    cluster.assert_no_leak();
}

#[test]
fn what_a_door_in_audit_would_refuse_passes_and_is_counted() {
    let cluster = Cluster::hosts(2).without_consul().ipv6().start();
    // As they are from the start.
    let cast = Cast::raise(&cluster, &[]);
    let before = refused(cluster.all::<2>()[0]);
    assert_eq!(before, [0, 0], "published, leaving");
    let table = cast.table_of(&["published ports", "on b"]);
    compare(&table, "audit.txt", include_str!("truth/audit.txt"));
    let counted = refused(cluster.all::<2>()[0]);
    assert!(counted.iter().all(|&count| count > 0), "published, leaving: {counted:?}");
    cluster.assert_no_leak();
}

#[test]
fn a_port_whose_container_died_is_shut_to_who_binds_it_next() {
    let cluster = Cluster::hosts(2).without_consul().ipv6().start();
    let [a, b] = cluster.all();
    let cast = Cast::raise(&cluster, &SHUT);
    let _impostors = scenes::close_ports(a);
    compare(&scenes::closed(a, b, &cast), "closed.txt", include_str!("truth/closed.txt"));
    cluster.assert_no_leak();
}

/// What a host's netfilter-agent says of its doors.
fn list_doors(host: &Host) -> Value {
    let told = host
        .grpcurl(&host.suite.netfilter_agent, &["-d", "{}"], &["steppe.v1.NetfilterAgent/ListDoors"])
        .ok();
    serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}"))
}

/// One of these, by its name.
fn door<'a>(told: &'a Value, name: &str) -> &'a Value {
    let mut doors = told["doors"].as_array().into_iter().flatten();
    doors.find(|door| door["name"] == name).unwrap_or_else(|| panic!("no {name}: {told}"))
}

/// What the doors `published` and `leaving` of a host counted.
fn refused(host: &Host) -> [u64; 2] {
    let told = list_doors(host);
    ["DOOR_NAME_PUBLISHED", "DOOR_NAME_LEAVING"].map(|name| {
        let door = door(&told, name);
        assert_eq!(door["mode"], "DOOR_MODE_AUDIT");
        // A 64 bit number is a text in JSON, and 0 is left out.
        door["refusedTotal"].as_str().map_or(0, |count| count.parse().expect("a number"))
    })
}

#[test]
fn who_takes_the_port_of_one_who_may_gets_no_further() {
    let cluster = Cluster::hosts(2).without_consul().ipv6().start();
    let cast = Cast::raise(&cluster, &SHUT);
    compare(&again::heirs(cluster.all::<2>()[0], &cast), "heirs.txt", include_str!("truth/heirs.txt"));
    cluster.assert_no_leak();
}

#[test]
fn what_a_container_may_send() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    start(a, &[]);
    let lies = Lies::start(a);
    compare(&lies.table(), "lies.txt", include_str!("truth/lies.txt"));
    cluster.assert_no_leak();
}
