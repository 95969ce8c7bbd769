//! What else the rules do than to let new connections pass or not: they cut, they count, they take over, and they keep a port
//! closed whose container has died. Each as a table.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use steppe_testbed::{Container, Daemon, Host, Identity, Outcome, Run, eventually, greet};

use super::{
    cast::{Cast, LOW_CLOSED},
    dial::Target,
    table::{Line, Table, cell},
};
use crate::common::{SOON, networks::of_user, reach::vip_of};

/// For the end of a connection, which the next packet brings.
const CUT: Duration = Duration::from_millis(1_500);
/// Of the container that dies, at its host's address; [`LOW_CLOSED`] is at all addresses.
const CLOSED: u16 = 20_010;

pub fn column(name: &str, heading: &str, cells: Vec<(String, String)>) -> Table {
    let lines = cells.into_iter().map(|(target, cell)| Line { target, cells: vec![cell] }).collect();
    Table { diallers: vec![name.to_owned()], parts: vec![(heading.to_owned(), lines)] }
}

/// A workload's connections: to what it is granted by a port, and to what it is granted as a whole.
pub struct Held<'a> {
    a: &'a Host,
    granted: Container,
    /// A service's name and address, and the set and the end of the element that grants it.
    services: [(&'static str, SocketAddr, &'static str, &'static str); 2],
}

impl<'a> Held<'a> {
    /// Asks for the addresses, while everybody answers.
    pub fn by(a: &'a Host, granted: Container) -> Self {
        let web = ("web", vip_of(a, "alice", "web", 80), "grants", " . tcp . 80");
        let any = ("any", vip_of(a, "alice", "any", 80), "grants_any", "");
        Self { a, granted, services: [web, any] }
    }

    /// Whether an open connection goes on, with its grant and without: the element is taken away and put back. The agent must
    /// be frozen, or it does the latter.
    pub fn cut(&self) -> Table {
        let mut cells = Vec::new();
        for (service, to, set, end) in self.services {
            let element = format!("{set} {{ {} . {}{end} }}", self.granted.address(), to.ip());
            let open = self.granted.enter(|| greet(to, SOON));
            let Ok((mut held, _)) = open else {
                cells.push((format!("{service}, granted"), "not-open".to_owned()));
                continue;
            };
            cells.push((format!("{service}, granted"), goes_on(&mut held)));
            self.a.nft(&[&format!("delete element inet steppe {element}")]);
            cells.push((format!("{service}, revoked"), goes_on(&mut held)));
            self.a.nft(&[&format!("add element inet steppe {element}")]);
        }
        column("granted", "open connections", cells)
    }
}

fn goes_on(stream: &mut TcpStream) -> String {
    let mut echo = [0; 5];
    let result = stream
        .set_read_timeout(Some(CUT))
        .and_then(|()| stream.write_all(b"tick\n"))
        .and_then(|()| stream.read_exact(&mut echo));
    result.map_or_else(|e| cell(&Outcome::of(&e), ""), |()| "goes-on".to_owned())
}

/// Which of these counters rise while something is looked at, a column for each look.
pub fn counted(a: &Host, which: impl Fn(&str) -> bool, looks: &[(&str, &dyn Fn())]) -> Table {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, look) in looks {
        let before = counters(a);
        look();
        for (name, count) in counters(a).into_iter().filter(|(name, _)| which(name)) {
            let rose = count > before.get(&name).copied().unwrap_or(0);
            let word = if rose { "rises" } else { "stays" };
            lines.entry(name).or_default().push(word.to_owned());
        }
    }
    let lines = lines.into_iter().map(|(target, cells)| Line { target, cells });
    Table {
        diallers: looks.iter().map(|(name, _)| (*name).to_owned()).collect(),
        parts: vec![("what is counted".to_owned(), lines.collect())],
    }
}

/// The packets of each counter, of each set that counts, and of its elements that are told by an interface.
pub fn counters(a: &Host) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for family in ["inet", "bridge"] {
        let text = a.nft(&["-j", "list", "table", family, "steppe"]);
        let listed: Value = serde_json::from_str(&text).expect("nft -j prints JSON");
        for item in listed["nftables"].as_array().into_iter().flatten() {
            let counter = &item["counter"];
            if let (Some(name), Some(packets)) = (counter["name"].as_str(), counter["packets"].as_u64()) {
                all.insert(format!("{family} counter {name}"), packets);
            }
            let (set, elements) = (&item["set"], item["set"]["elem"].as_array());
            for element in elements.into_iter().flatten().map(|element| &element["elem"]) {
                let Some(packets) = element["counter"]["packets"].as_u64() else { continue };
                let name = format!("{family} set {}", set["name"].as_str().unwrap_or_default());
                if let (Some(interface), "ifname") =
                    (element["val"].as_str(), set["type"].as_str().unwrap_or_default())
                {
                    all.insert(format!("{name} {interface}"), packets);
                }
                *all.entry(name).or_default() += packets;
            }
        }
    }
    all
}

/// The proxy's listener for a port of a virtual IP, `tcp` or `udp`, as the rules have it.
pub fn listener(a: &Host, protocol: &str, service: SocketAddr) -> SocketAddr {
    let key = format!("{} . {protocol} . {} : ", service.ip(), service.port());
    let map = a.nft(&["list", "map", "inet", "steppe", "listeners"]);
    let found = map.split_once(&key).map(|(_, rest)| rest.split([',', '}']).next().unwrap_or_default());
    let at = found.map(|text| text.trim().replace(" . ", ":")).and_then(|text| text.parse().ok());
    at.unwrap_or_else(|| panic!("no {key} in {map}"))
}

/// On the kernel path, a port of a service that leads elsewhere than the others.
pub struct OwnPort<'a> {
    a: &'a Host,
    target: Target,
    /// Elements of `services` and `endpoints`.
    elements: [String; 2],
}

impl<'a> OwnPort<'a> {
    /// Port 81 of `any-fast`, which leads to `fast`.
    pub fn of(a: &'a Host, fast: &Container) -> Self {
        let to = vip_of(a, "alice", "any-fast", 81);
        let key = format!("{} . tcp . {}", to.ip(), to.port());
        Self {
            a,
            target: Target {
                label: "tcp a port of its own".to_owned(),
                dial: format!("tcp/{to}"),
                server: "fast".to_owned(),
            },
            elements: [
                format!("services {{ {key} : 0:1 }}"),
                format!("endpoints {{ {key} . 0x0 : {} . 80 }}", fast.address()),
            ],
        }
    }

    /// The agent must be frozen, or it takes away what control has not told it.
    pub fn table(&self, cast: &Cast<'_>) -> Table {
        let change = |how: &str| {
            self.elements
                .each_ref()
                .map(|element| self.a.nft(&[&format!("{how} element inet steppe {element}")]))
        };
        change("add");
        let table = cast.look(&[("a port of its own", vec![self.target.clone()])]);
        change("delete");
        table
    }
}

/// A container with published ports dies, and local processes bind them.
pub fn close_ports(a: &Host) -> [Daemon; 2] {
    let run = Run::serve_all("dies", 80).publish_both(80, Some(a.address), CLOSED);
    let dies = a.docker.run(of_user(run.publish_both(81, None, LOW_CLOSED), "alice"));
    for (set, port) in [("published_at", CLOSED), ("published", LOW_CLOSED)] {
        eventually(SOON, "its port is known", || {
            let told = a.nft(&["list", "set", "inet", "steppe", set]);
            if told.contains(&port.to_string()) { Ok(()) } else { Err(told) }
        });
    }
    dies.remove();
    [CLOSED, LOW_CLOSED].map(|port| {
        let nobody = Identity { uid: 60_799, capability: None };
        let (at, port) = (a.address.to_string(), port.to_string());
        let words =
            ["/run/testbed/probe", "serve-all", "--port", &port, "--name", "impostor", "--address", &at];
        let daemon = a.daemon(&format!("impostor-{port}"), nobody, &words);
        daemon.start();
        daemon.wait_log("listening", SOON);
        daemon
    })
}

/// Who reaches the processes that have taken the ports, and another host's with the same port.
pub fn closed(a: &Host, b: &Host, cast: &Cast<'_>) -> Table {
    let of = |host: &Host, port: u16, label: &str, server: &str| {
        ["tcp", "udp"].map(|protocol| Target {
            label: format!("{protocol} {label}"),
            dial: format!("{protocol}/{}:{port}", host.address),
            server: server.to_owned(),
        })
    };
    let targets = [
        of(a, CLOSED, "the port of one that died", "impostor"),
        of(a, LOW_CLOSED, "its port everywhere", "impostor"),
        of(b, LOW_CLOSED, "b's own at that port", "host-b"),
    ];
    cast.look(&[("closed ports", targets.concat())])
}
