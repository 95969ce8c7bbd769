//! Whether each rule, set and map of the netfilter-agent is needed, and tested: each is taken away in turn, and something that
//! the tables of this module show must change. `make test-kills` runs it; it takes its time.
//!
//! Meanwhile the agent is frozen, or it would put back what is missing; thawed, it does.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use steppe_testbed::{Cluster, Daemon, Host, Identity, eventually};

use super::{
    SHUT,
    again::{Deserted, heirs},
    cast::Cast,
    dial::Target,
    door,
    lies::Lies,
    list_doors,
    scenes::{Held, OwnPort, close_ports, closed, counted, listener},
    table::Table,
};
use crate::{
    common::{SOON, reach::vip_of},
    strangers::listing,
};

/// The agent's tables.
const TABLES: [&str; 2] = ["inet steppe", "bridge steppe"];

/// Above the 2 minutes for which a port stays shut whose container died.
const OPENS: Duration = Duration::from_secs(150);

/// Changed cells that are told one by one.
const SHOWN: usize = 4;

/// One thing that can be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// `inet steppe`, `bridge steppe`.
    table: &'static str,
    /// In nft's words.
    text: String,
    /// What nft is told to take it away.
    kill: String,
}

impl Part {
    /// The same, if it is there. The agent may have put it back under another handle.
    fn now(&self, host: &Host) -> Option<Self> {
        parts(host).into_iter().find(|now| (now.table, &now.text) == (self.table, &self.text))
    }
}

/// The rules, and the sets and maps that hold anything.
fn parts(host: &Host) -> Vec<Part> {
    let mut all = Vec::new();
    for table in TABLES {
        let listed = host.sh(&format!("nft -a list table {table}")).ok();
        all.extend(parts_of(table, &listed));
    }
    all
}

/// Pure: `listed` is what `nft -a list table` prints.
fn parts_of(table: &'static str, listed: &str) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    let mut block: Vec<&str> = Vec::new();
    for line in listed.lines().map(str::trim) {
        let (text, handle) = line.split_once(" # handle ").unwrap_or((line, ""));
        let mut push = |text: String, kill: String| all.push(Part { table, text, kill });
        if let Some(opened) = text.strip_suffix(" {") {
            block = opened.split(' ').collect();
        } else if text == "}" {
            block.clear();
        } else if let ["chain", chain] = block[..]
            && !handle.is_empty()
        {
            push(format!("{table} {chain}: {text}"), format!("delete rule {table} {chain} handle {handle}"));
        } else if let [kind @ ("set" | "map"), name] = block[..]
            && text.starts_with("elements = {")
        {
            push(format!("{table}: {kind} {name}"), format!("flush {kind} {table} {name}"));
        }
    }
    all
}

/// Something that can be looked at again and again, while the agent is frozen.
struct Scene<'a> {
    name: &'a str,
    look: Box<dyn Fn() -> Table + 'a>,
}

impl<'a> Scene<'a> {
    fn new(name: &'a str, look: impl Fn() -> Table + 'a) -> Self {
        Self { name, look: Box::new(look) }
    }
}

/// The parts without which the scene looks the same.
fn survivors(host: &Host, scene: &Scene<'_>, candidates: Vec<Part>) -> Vec<Part> {
    let agent = &host.suite.netfilter_agent;
    agent.freeze();
    let before = (scene.look)();
    let again = (scene.look)();
    agent.thaw();
    assert_eq!(again.differences(&before), "", "{} is not the same twice", scene.name);
    println!("{}:\n{}", scene.name, before.text());
    let rules = listing(host);
    let mut left = Vec::new();
    for part in candidates {
        if part.now(host).is_none() {
            println!("   - in {}: {}", scene.name, part.text);
            left.push(part);
            continue;
        }
        agent.freeze();
        let mut changed = changes(host, scene, &before, &part);
        // A few may have changed by chance: they must do so again.
        if !changed.is_empty() && changed.len() <= SHOWN {
            let again = changes(host, scene, &before, &part);
            let (same, chance) = changed.into_iter().partition(|cell| again.contains(cell));
            changed = same;
            chance.iter().for_each(|cell: &String| println!("   ? in {}, once: {cell}", scene.name));
        }
        agent.thaw();
        eventually(SOON, &format!("the agent puts back {}", part.text), || {
            let now = listing(host);
            if now == rules { Ok(()) } else { Err(now) }
        });
        if changed.is_empty() {
            left.push(part);
            continue;
        }
        println!("{:4} in {} without {}, such as", changed.len(), scene.name, part.text);
        changed.iter().take(SHOWN).for_each(|cell| println!("         {cell}"));
    }
    left
}

/// The cells that change while a part is away. What the agent had begun when it was frozen may put the part back once.
fn changes(host: &Host, scene: &Scene<'_>, before: &Table, part: &Part) -> Vec<String> {
    let look = || {
        part.now(host).iter().for_each(|now| drop(host.nft(&[&now.kill])));
        (scene.look)().differences(before).lines().map(str::to_owned).collect()
    };
    let changed = look();
    if part.now(host).is_some() { look() } else { changed }
}

/// `KILLS='TEXT|TEXT'` tries those parts alone in whose words one of the texts is.
fn chosen(part: &Part) -> bool {
    std::env::var("KILLS").map_or(true, |texts| texts.split('|').any(|text| part.text.contains(text)))
}

#[test]
fn without_each_rule_set_and_map_something_changes() {
    let cluster = Cluster::hosts(2).without_consul().ipv6().start();
    cluster.allow_leaks();
    let [a, b] = cluster.all();
    for host in [a, b] {
        host.suite.netfilter_agent.arg("--table-owner=off");
    }
    let cast = Cast::raise(&cluster, &SHUT);
    let lies = Lies::start(a);
    let held = Held::by(a, cast.granted.clone());
    let all: Vec<Part> = parts(a).into_iter().filter(chosen).collect();
    let count = all.len();
    let left = survivors(a, &Scene::new("who reaches what", || cast.table()), all);
    let left = survivors(a, &Scene::new("what a container sends", || lies.table()), left);
    let left = survivors(a, &Scene::new("a flood", || lies.flood()), left);
    let left = survivors(a, &Scene::new("open connections", || held.cut()), left);
    let left = survivors(a, &Scene::new("ports that are used again", || heirs(a, &cast)), left);
    let own_port = OwnPort::of(a, &cast.fast);
    let left = survivors(a, &Scene::new("a port of its own", || own_port.table(&cast)), left);
    let everything = || {
        cast.table();
        lies.table();
    };
    // By everybody, whoever happens to ask for a neighbour meanwhile.
    let in_all = |name: &str| !name.starts_with("bridge set guarded ");
    let look = || counted(a, in_all, &[("everything", &everything)]);
    let left = survivors(a, &Scene::new("what is counted", look), left);
    let crossings = |name: &str| name == "inet counter networks" || name.starts_with("inet set crossed ");
    let looks: [(&str, &dyn Fn()); 3] = [
        ("into-a-network", &|| cast.dial("stranger", "tcp alice-web")),
        ("out-of-one", &|| cast.dial("alice", "tcp granted")),
        ("by-a-process", &|| cast.dial("nobody", "tcp alice-web")),
    ];
    let look = || counted(a, crossings, &looks);
    let left = survivors(a, &Scene::new("what crosses is counted", look), left);

    let impostors = close_ports(a);
    let of_ports = |part: &Part| ["closed", "untranslated"].iter().any(|word| part.text.contains(word));
    let (of_ports, mut left): (Vec<_>, Vec<_>) = left.into_iter().partition(of_ports);
    let mut still = survivors(a, &Scene::new("closed ports", || closed(a, b, &cast)), of_ports);
    drop(impostors);
    // Or it would open in the middle of the next scene.
    eventually(OPENS, "the ports are open again", || {
        let sets = ["closed", "closed_at"].map(|set| a.nft(&["list", "set", "inet", "steppe", set])).concat();
        if sets.contains("elements") { Err(sets) } else { Ok(()) }
    });

    for setting in SETTINGS {
        a.sh(setting.set).ok();
        left = survivors(
            a,
            &Scene::new(setting.name, || cast.table_of(&["virtual IPs", "own addresses"])),
            left,
        );
        left = survivors(a, &Scene::new(setting.name, || lies.table()), left);
        a.sh(setting.back).ok();
    }

    // Which stand behind the door `spoofing`.
    keep(a, &["spoofing=off"]);
    let behind = ["own addresses", "own IPv6 addresses", "virtual IPs", "names", "the host"];
    left = survivors(a, &Scene::new("anybody is heard", || cast.table_of(&behind)), left);
    keep(a, &["spoofing=off", "networks=off", "dns=audit"]);
    let asks: [(&str, &dyn Fn()); 1] = [("intruder-asks", &|| cast.dial("intruder", "dns-udp nothing"))];
    let of_dns = |name: &str| name.ends_with(" counter dns");
    left = survivors(a, &Scene::new("who asks dns is counted", || counted(a, of_dns, &asks)), left);
    keep(a, &["spoofing=enforce", "networks=enforce", "dns=enforce"]);

    // control can't have the kernel take over yet.
    let (service, datagrams) = (vip_of(a, "alice", "web", 80), vip_of(a, "alice", "web", 53));
    let deserted = Deserted {
        a,
        client: &cast.granted,
        service: [service, listener(a, "tcp", service)],
        datagrams: [datagrams, listener(a, "udp", datagrams)],
        dns: SocketAddr::from(([169, 254, 77, 53], 53)),
    };
    a.suite.control.freeze();
    a.suite.proxy.kill();
    a.suite.dns.kill();
    let steppes = ["virtual IPs", "Steppe itself", "names"];
    left = survivors(a, &Scene::new("the proxy and dns are away", || cast.table_of(&steppes)), left);
    left = survivors(a, &Scene::new("who answered is away", || deserted.table(&cast)), left);
    let resolver = resolver(a);
    let asked = ["tcp", "udp"].map(|protocol| Target {
        label: format!("{protocol} another resolver"),
        dial: format!("{protocol}/{}", deserted.dns),
        server: "resolver".to_owned(),
    });
    let asked = [("another resolver", Vec::from(asked))];
    left = survivors(a, &Scene::new("somebody else answers for dns", || cast.look(&asked)), left);
    drop(resolver);
    a.suite.control.thaw();
    eventually(SOON, "the kernel has taken over", || {
        let set = a.nft(&["list", "set", "inet", "steppe", "takeover"]);
        if set.contains("elements") { Ok(()) } else { Err(set) }
    });
    still.extend(survivors(a, &Scene::new("the kernel has taken over", || cast.table_of(&steppes)), left));

    let mut text = String::new();
    for part in &still {
        writeln!(text, "nothing changes without {}", part.text).ok();
    }
    println!("{} of {count} are needed\n{text}", count - still.len());
    assert!(still.is_empty(), "{text}");
}

/// Another way for a host to be.
struct Setting {
    name: &'static str,
    set: &'static str,
    back: &'static str,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        name: "Docker isolates its bridges",
        set: "iptables -D DOCKER-USER -j ACCEPT",
        back: "iptables -I DOCKER-USER -j ACCEPT",
    },
    Setting {
        name: "bridges go past the other rules",
        set: "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        back: "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
    },
];

/// Has control keep doors otherwise: `NAME=MODE`.
fn keep(host: &Host, doors: &[&str]) {
    for door in doors {
        host.suite.control.arg(format!("--door={door}"));
    }
    host.suite.restart(&host.suite.control);
    let upper = |text: &str| text.to_uppercase();
    eventually(SOON, &format!("{doors:?}"), || {
        let told = list_doors(host);
        let is_so = doors.iter().filter_map(|door| door.split_once('=')).all(|(name, mode)| {
            let door = door(&told, &format!("DOOR_NAME_{}", upper(name)));
            door["mode"] == format!("DOOR_MODE_{}", upper(mode))
        });
        if is_so { Ok(()) } else { Err(told) }
    });
}

/// Somebody else's resolver, at all addresses of the host.
fn resolver(host: &Host) -> Daemon {
    let command = ["/run/testbed/probe", "serve-all", "--port", "53", "--name", "resolver"];
    let root = Identity { uid: 0, capability: Some("net_bind_service") };
    let daemon = host.daemon("resolver", root, &command);
    daemon.start();
    daemon.wait_log("listening", SOON);
    daemon
}

#[test]
fn parts_are_told_from_what_nft_lists() {
    let listed = "table inet steppe { # handle 1\n\tset vips { # handle 2\n\t\ttype ipv4_addr\n\t\telements = { 247.0.0.1,\n\
                  \t\t\t     247.0.0.2 }\n\t}\n\n\tset empty { # handle 3\n\t\ttype ipv4_addr\n\t}\n\n\
                  \tchain guard { # handle 4\n\t\ttype filter hook prerouting priority -90; policy accept;\n\
                  \t\tip daddr 247.0.0.0/8 goto refuse # handle 9\n\t}\n}\n";
    let told: Vec<_> = parts_of("inet steppe", listed).into_iter().map(|part| part.kill).collect();
    assert_eq!(told, ["flush set inet steppe vips", "delete rule inet steppe guard handle 9"]);
}
