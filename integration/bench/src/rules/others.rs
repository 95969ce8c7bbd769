//! The same change by other means: `nft -f` with an element of a set as large, and iptables with rules as kube-proxy's mode of
//! that name has them, one after the other.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{agent::vip, median};
use crate::{
    load::PORT,
    stage::{CLIENT, Room, Stage},
    table::{Table, number},
};

/// Elements of the set.
const ELEMENTS: u32 = 100_000;
/// iptables' rules: a hundred thousand take minutes.
pub const RULES: u32 = 10_000;

/// # Errors
/// When nft or iptables is missing.
pub fn run(changes: usize) -> Result<()> {
    let files = tempfile::tempdir()?;
    let stage = Stage::raise()?;
    let mut table = Table::new(&["the same by", "load, ms", "one more, ms", "one less, ms"]);
    let element = |nth: u32| format!("{CLIENT} . {} . tcp . {PORT}", vip(nth));
    let mut all = String::from(
        "table ip peer {\n set grants {\n type ipv4_addr . ipv4_addr . inet_proto . inet_service; counter\n elements = { ",
    );
    for nth in 0..ELEMENTS {
        let _ = write!(all, "{}, ", element(nth));
    }
    all.push_str("}\n }\n}\n");
    let change = |how: &str| format!("{how} element ip peer grants {{ {} }}\n", element(ELEMENTS));
    let texts = [all, change("add"), change("delete")];
    let took = by("nft -f", &texts, changes, &stage.host, files.path())?;
    table.row([vec![format!("nft -f, {ELEMENTS} elements")], took].concat());

    let stage = Stage::raise()?;
    let texts = [linear(RULES), linear_change("-A"), linear_change("-D")];
    let took = by("iptables-restore --noflush", &texts, changes, &stage.host, files.path())?;
    table.row([vec![format!("iptables-restore, {RULES} rules")], took].concat());
    println!("{table}");
    Ok(())
}

/// Loads the first text, then puts in the second and third in turn.
fn by(
    program: &str,
    [all, more, less]: &[String; 3],
    changes: usize,
    host: &Room,
    files: &std::path::Path,
) -> Result<Vec<String>> {
    let feed = |text: &String| -> Result<Duration> {
        let file = files.join("text");
        fs::write(&file, text)?;
        let began = Instant::now();
        host.sh(&format!("{program} {}", file.display()))?;
        Ok(began.elapsed())
    };
    let load = feed(all)?;
    let (mut mores, mut lesses) = (Vec::new(), Vec::new());
    for _ in 0..changes {
        mores.push(feed(more)?);
        lesses.push(feed(less)?);
    }
    Ok([load, median(&mores), median(&lesses)].map(|took| number(took.as_secs_f64() * 1e3)).into())
}

/// A chain that each new packet goes through rule by rule, as `KUBE-SERVICES` is; the last one leads to the service that is dialled.
pub fn linear(rules: u32) -> String {
    let mut text = String::from("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-X - [0:0]\n");
    text.push_str("-A PREROUTING -j KUBE-SERVICES\n");
    for nth in (0..rules).rev() {
        let _ =
            writeln!(text, "-A KUBE-SERVICES -d {}/32 -p tcp -m tcp --dport {PORT} -j KUBE-SVC-X", vip(nth));
    }
    let _ = writeln!(text, "-A KUBE-SVC-X -p tcp -j DNAT --to-destination {}:{PORT}", Stage::backend(1, 1));
    text.push_str("COMMIT\n");
    text
}

fn linear_change(how: &str) -> String {
    format!(
        "*nat\n{how} KUBE-SERVICES -d {}/32 -p tcp -m tcp --dport {PORT} -j KUBE-SVC-X\nCOMMIT\n",
        vip(RULES)
    )
}
