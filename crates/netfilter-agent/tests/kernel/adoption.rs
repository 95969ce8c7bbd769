//! The agent's next life takes over what the last one left.

use std::{io::ErrorKind, net::SocketAddr};

use steppe_api::v1::{self, DoorMode, DoorName, Expose, Protocol};

use crate::{
    agent::{self, Agent},
    control::{
        Control, block_on, grant, service_port, service_port_with, takeover, until, virtual_ip, workload,
    },
    keep::{doors, guarded, network, published},
    net::{Container, Host, LISTENER},
    server::{Connection, Server, ask},
};

fn killed_and_started_again(flags: &[&str]) {
    let host = Host::new();
    let agent = Agent::start(&host, flags);
    let (stays, goes) = (host.container(2), host.container(3));
    let listener = host.net.listen(LISTENER);
    let port = listener.local_addr().unwrap().port();
    let resources = block_on(async {
        let mut control = Control::connect(&agent).await;
        let ports = [80, 0].map(|number| service_port(Protocol::Tcp, number, port));
        let mut resources: Vec<_> = [virtual_ip()].into_iter().chain(ports).collect();
        for container in [&stays, &goes] {
            control.port_of(container).await;
            resources.push(workload(&host, container));
            resources.push(grant(container, Protocol::Tcp, 80));
            resources.push(grant(container, Protocol::Tcp, 0));
        }
        assert_eq!(control.snapshot(resources.clone()).await, []);
        resources
    });
    stays.net.dial("247.1.2.3:80").unwrap();
    let dir = agent.kill();
    // Nothing is missing while it is away.
    stays.net.dial("247.1.2.3:80").unwrap();
    host.remove_port(&goes);
    let newcomer = host.container(3);
    let agent = Agent::start_in(&host, flags, dir);
    assert_eq!(newcomer.net.dial_in_vain("247.1.2.3:80"), ErrorKind::TimedOut);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        let mut found: Vec<_> = control.inventory.clone();
        let mut left: Vec<_> = resources.into_iter().filter(|r| !r.id.starts_with(&goes.port)).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        left.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(found, left);
        let exact = control.grants().await.into_iter().find(|state| state.id.ends_with(":80/tcp")).unwrap();
        assert!(exact.packets_total >= 4, "the counters go on: {exact:?}");
        let before = control.status().await.transactions_total;
        assert_eq!(control.snapshot(left).await, []);
        assert_eq!(control.status().await.transactions_total, before, "there was nothing to change");
    });
    stays.net.dial("247.1.2.3:80").unwrap();
    agent.stop();
    stays.net.dial("247.1.2.3:80").unwrap();
    assert!(agent::run(&host, &["--purge"]).status.success());
    assert_eq!(host.net.nft("list ruleset"), "");
    assert_eq!(host.net.ip("route show type unreachable"), "");
    assert!(!host.net.ip("addr show dev lo").contains("169.254"));
}

#[test]
fn after_sigkill_with_owned_tables() {
    killed_and_started_again(&[]);
}

#[test]
fn after_sigkill_with_tables_of_nobody() {
    killed_and_started_again(&["--table-owner", "off"]);
}

/// All that doors have, with elements of every kind.
async fn shut_everything(control: &mut Control, host: &Host, container: &Container) -> Vec<v1::Resource> {
    control.port_of(container).await;
    let modes = [
        (DoorName::Spoofing, DoorMode::Enforce),
        (DoorName::Networks, DoorMode::Audit),
        (DoorName::Published, DoorMode::Enforce),
        (DoorName::Dns, DoorMode::Enforce),
    ];
    let mut resources = vec![guarded(host, container), network(), doors(&modes)];
    let exposures = [Expose::Proxies, Expose::Host, Expose::Cluster, Expose::Public];
    for (port, expose) in (24_000..).zip(exposures) {
        resources.push(published(Protocol::Tcp, port, container, expose));
        resources.push(published(Protocol::Udp, port, container, expose));
    }
    assert_eq!(control.snapshot(resources.clone()).await, []);
    // Two are gone, one of which is there again.
    for port in ["24000/tcp", "24001/tcp"] {
        assert_eq!(control.remove(&format!("published {port}")).await, []);
    }
    let again = published(Protocol::Tcp, 24_001, container, Expose::Host);
    assert_eq!(control.upsert(vec![again]).await, []);
    resources.retain(|resource| resource.id != "published 24000/tcp");
    resources
}

fn doors_are_adopted(flags: &[&str], then: &[&str]) {
    let host = Host::new();
    let agent = Agent::start(&host, flags);
    let container = host.container(2);
    let resources = block_on(async {
        let mut control = Control::connect(&agent).await;
        shut_everything(&mut control, &host, &container).await
    });
    // Whose the tables are is another matter.
    let listed = || {
        let listing = host.net.nft("-s list ruleset");
        let lines = listing
            .lines()
            .filter(|line| !line.contains("comment \"steppe ") && !line.contains("flags owner"));
        lines.map(|line| line.split(" # progname").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    let before = listed();
    let agent = Agent::start_in(&host, then, agent.kill());
    let after = listed();
    assert!(before.iter().filter(|line| !line.is_empty()).eq(after.iter().filter(|line| !line.is_empty())));
    for part in ["elements = { 65532 }", "elements = { \"br0\" comment"] {
        assert!(after.iter().any(|line| line.contains(part)), "nft can print it: {part}");
    }
    block_on(async {
        let mut control = Control::connect(&agent).await;
        let sorted = |mut resources: Vec<v1::Resource>| {
            resources.sort_by(|a, b| a.id.cmp(&b.id));
            resources
        };
        assert_eq!(sorted(control.inventory.clone()), sorted(resources.clone()));
        let transactions = control.status().await.transactions_total;
        assert_eq!(control.snapshot(resources.clone()).await, []);
        assert_eq!(control.status().await.transactions_total, transactions, "there was nothing to change");
        assert_eq!(control.list_doors().await.closed, ["24000/tcp"]);
        // What it adopted it can change, and remove.
        for resource in &resources {
            assert_eq!(control.remove(&resource.id).await, [], "{}", resource.id);
        }
        assert_eq!(control.status().await.elements, 0);
        assert_eq!(control.upsert(resources.clone()).await, []);
    });
    host.remove_port(&container);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        until("its ports are closed", || async {
            host.net.nft("list set inet steppe published").matches("2400").count() == 0
        })
        .await;
        assert_eq!(control.list_doors().await.closed.len(), 8);
    });
    assert!(agent::run(&host, &["--purge"]).status.code() == Some(1), "while it runs");
    drop(agent.kill());
    assert!(agent::run(&host, &["--purge"]).status.success());
    assert_eq!(host.net.nft("list ruleset"), "");
    assert!(!host.net.ip("addr show dev lo").contains("169.254"));
}

#[test]
fn doors_after_sigkill() {
    doors_are_adopted(&[], &[]);
}

#[test]
fn doors_in_tables_that_are_made_anew() {
    doors_are_adopted(&["--table-owner", "off"], &[]);
}

fn endpoint(address: &str, weight: u32) -> (SocketAddr, u32) {
    (address.parse().unwrap(), weight)
}

#[test]
fn in_the_middle_of_a_takeover() {
    let host = Host::new();
    host.second_bridge();
    host.forward();
    let agent = Agent::start(&host, &[]);
    let (client, far) = (host.container(2), host.container_on("br1", [172, 31, 0, 2].into()));
    let (proxy, server) = (Server::new(&host.net, LISTENER, b'P'), Server::new(&far.net, far.ip, b'E'));
    let ask = || ask(&client.net, "247.1.2.3:80").unwrap();
    let to = |port, weights: &[u32]| {
        let endpoints: Vec<_> = weights.iter().map(|weight| (server.address, *weight)).collect();
        service_port_with(Protocol::Tcp, port, Some(proxy.port()), &endpoints)
    };
    // In this order, with these weights, the second of which is scaled down, and one endpoint twice.
    let mut resources = vec![virtual_ip(), to(80, &[3, 100, 99, 98]), to(0, &[1, 2]), takeover()];
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&client).await;
        resources.push(workload(&host, &client));
        resources.push(grant(&client, Protocol::Tcp, 80));
        let (first, last) = resources.split_at(4);
        let nine = vec![resources[4].clone(), virtual_ip(), to(80, &[1; 9])];
        assert_eq!(control.snapshot(nine).await, []);
        assert_eq!(control.upsert([last, first].concat()).await, []);
    });
    let mut open = Connection::open(&client.net, "247.1.2.3:80").unwrap();
    let dir = agent.kill();
    assert_eq!((open.server, ask()), (b'E', b'E'), "the kernel leads on while it is away");
    let has_chain = |name: &str| host.net.nft("list table inet steppe").contains(&format!("chain {name} {{"));
    assert!(has_chain("lb-9"), "nobody needs it any more");
    let agent = Agent::start_in(&host, &[], dir);
    assert!(has_chain("lb-256") && has_chain("lb-any-3") && !has_chain("lb-9"));
    block_on(async {
        let mut control = Control::connect(&agent).await;
        let sorted = |mut resources: Vec<steppe_api::v1::Resource>| {
            resources.sort_by(|a, b| a.id.cmp(&b.id));
            resources
        };
        assert_eq!(sorted(control.inventory.clone()), sorted(resources.clone()));
        let before = control.status().await;
        assert!(before.takeover);
        let (first, last) = resources.split_at(4);
        assert_eq!(control.snapshot([last, first].concat()).await, []);
        assert_eq!(control.status().await.transactions_total, before.transactions_total);
        assert_eq!(ask(), b'E');
        // What it adopted it can change, and make anew what it has removed.
        assert_eq!(control.upsert(vec![to(80, &[1; 9])]).await, []);
        assert_eq!(ask(), b'E');
        assert_eq!(control.remove("takeover").await, []);
        assert_eq!(ask(), b'P');
    });
    open.exchange().unwrap();
}

fn changed_by_a_stranger_meanwhile(flags: &[&str]) {
    let host = Host::new();
    let agent = Agent::start(&host, flags);
    let container = host.container(2);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&container).await;
        let endpoints = [endpoint("192.0.2.9:80", 1), endpoint("192.0.2.8:80", 1)];
        let ports = [80, 0].map(|port| service_port_with(Protocol::Tcp, port, None, &endpoints));
        let mut resources = vec![workload(&host, &container), virtual_ip(), takeover()];
        resources.extend(ports);
        assert_eq!(control.snapshot(resources).await, []);
    });
    let before = host.net.nft("-s list ruleset");
    let mut dir = agent.kill();
    for harm in [
        "flush chain inet steppe guard",
        "insert rule bridge steppe prerouting accept",
        "add chain inet steppe mine { type filter hook prerouting priority -200; policy accept; }",
        "add set inet steppe mine { type ipv4_addr; }",
        "add chain inet steppe guard { policy drop; }",
        "flush chain inet steppe lb-2",
        "insert rule inet steppe lb-any-2 drop",
        "add chain inet steppe lb-7 { type filter hook prerouting priority -200; policy drop; }",
    ] {
        host.net.nft(harm);
        let agent = Agent::start_in(&host, flags, dir);
        assert_eq!(host.net.nft("-s list ruleset"), before, "{harm}");
        block_on(async { assert_eq!(Control::connect(&agent).await.inventory.len(), 5, "{harm}") });
        dir = agent.kill();
    }
}

#[test]
fn what_a_stranger_did_to_orphaned_tables_is_undone() {
    changed_by_a_stranger_meanwhile(&[]);
}

#[test]
fn what_a_stranger_did_to_tables_of_nobody_is_undone() {
    changed_by_a_stranger_meanwhile(&["--table-owner", "off"]);
}

#[test]
fn another_configuration_keeps_the_elements() {
    let host = Host::new();
    let agent = Agent::start(&host, &["--table-owner", "off"]);
    let container = host.container(2);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&container).await;
        let resources = vec![workload(&host, &container), grant(&container, Protocol::Tcp, 80)];
        assert_eq!(control.snapshot(resources).await, []);
    });
    let dir = agent.kill();
    // Also from tables without an owner to owned ones.
    let agent = Agent::start_in(&host, &["--service-cidr", "247.0.0.0/9"], dir);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        assert_eq!(control.inventory.len(), 2);
        assert!(control.status().await.owned);
    });
    assert!(host.net.nft("list ruleset").contains("ip daddr 247.0.0.0/9 goto refuse"));
    let dir = agent.kill();
    let agent = Agent::start_in(&host, &["--service-cidr", "247.128.0.0/9"], dir);
    block_on(async {
        let control = Control::connect(&agent).await;
        assert_eq!(control.inventory.len(), 1, "a virtual IP outside the range goes");
    });
}

/// A unit test compares the same file with the rules as the code writes them.
#[test]
fn nft_lists_the_rules_in_the_words_of_the_code() {
    let host = Host::new();
    let _agent = Agent::start(&host, &["--table-owner", "off"]);
    let listing = host.net.nft("-s list ruleset");
    let stamped = listing.lines().map(|line| match line.split_once("comment \"steppe ") {
        Some((before, stamp)) => {
            format!("{before}comment \"steppe STAMP{}", &stamp[stamp.find(' ').unwrap()..])
        }
        None => line.to_owned(),
    });
    let expected = include_str!("../ruleset.nft");
    assert_eq!(stamped.collect::<Vec<_>>().join("\n"), expected.trim_end());
}
