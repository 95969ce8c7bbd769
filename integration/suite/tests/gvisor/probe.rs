//! What the probe can do, under runc and under gVisor alike, where no Steppe stops it: so that what is stopped elsewhere was tried.

use std::net::Ipv4Addr;

use steppe_testbed::{
    Cluster, Container, Run, eventually,
    frame::{self, BROADCAST, Ends},
};

use crate::common::SOON;

/// A container that may send what it likes.
fn liar(name: &str) -> Run {
    Run::idle(name).capability("NET_RAW").capability("NET_ADMIN")
}

fn dial(from: &Container, words: &[String]) -> Vec<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = from.exec(&[&["probe", "dial"], &words[..]].concat()).ok();
    let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_probe_dials_and_lies() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let server = a.docker.run(Run::serve_all("server", 80));
    let heard = server.lines();
    let at = server.address();
    for (second, liar) in [(200, liar("runc")), (201, liar("gvisor").runsc())] {
        let liar = a.docker.run(liar);
        let name = liar.name.as_str();
        let targets =
            [format!("tcp/{at}:80"), format!("tcp/{at}:81"), format!("udp/{at}:80"), format!("udp/{at}:81")];
        let expected = ["ok server", "refused", "ok server", "refused"];
        let expected: Vec<_> = targets.iter().zip(expected).map(|(to, is)| format!("{to} {is}")).collect();
        assert_eq!(dial(&liar, &targets), expected, "{name}");

        // A source port of its own choice, and a second address.
        let lie = Ipv4Addr::new(172, 17, 0, second);
        liar.exec(&["ip", "addr", "add", &format!("{lie}/16"), "dev", "eth0"]).ok();
        for from in [format!("0.0.0.0:{}", 7000 + u16::from(second)), format!("{lie}:7000")] {
            for protocol in ["tcp", "udp"] {
                let to = format!("{protocol}/{at}:80");
                let dialled = dial(&liar, &[to.clone(), "--from".to_owned(), from.clone()]);
                assert_eq!(dialled, [format!("{to} ok server")], "{name} from {from}");
                let seen = from.replace("0.0.0.0", &liar.address().to_string());
                heard.until(SOON, &format!("{protocol} from {seen}"), |line| {
                    line.contains(&seen).then_some(())
                });
            }
        }

        // A frame with the address of nobody.
        let ends = Ends {
            from: [2, 0, 0, 0, 0, second],
            to: frame::parse_mac(&server.mac()).expect("Docker tells a hardware address"),
        };
        let datagram = frame::udp(ends, ([172, 17, 9, second].into(), 9), (at, 80), b"lie");
        liar.exec(&["probe", "send", &frame::hex(&datagram), "--dev", "eth0"]).ok();
        let seen = format!("172.17.9.{second}:9 lie");
        heard.until(SOON, &seen, |line| line.ends_with(&seen).then_some(()));

        // An answer that nobody asked for is taken by those who know the address already.
        let told = frame::arp_answer(ends, (ends.from, liar.address()), (BROADCAST, at));
        let lied = format!("02:00:00:00:00:{second:02x}");
        eventually(SOON, "the server believes it", || {
            // The kernel keeps what it has learnt in the last second.
            liar.exec(&["probe", "send", &frame::hex(&told), "--dev", "eth0"]).ok();
            let known = server.exec(&["ip", "neigh"]).ok();
            if known.contains(&lied) { Ok(()) } else { Err(known) }
        });
        liar.remove();
    }
}
