//! Strangers, and the agent's absence.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use steppe_api::v1::Protocol;

use crate::{
    agent::{self, Agent},
    control::{Control, block_on, grant, service_port_with, until, virtual_ip, workload},
    net::{Container, DEADLINE, Host, LISTENER},
};

async fn granted(host: &Host, agent: &Agent, container: &Container, port: u16) -> Control {
    let mut control = Control::connect(agent).await;
    control.port_of(container).await;
    let resources = vec![
        workload(host, container),
        virtual_ip(),
        service_port_with(Protocol::Tcp, 80, Some(port), &[("192.0.2.9:80".parse().unwrap(), 1)]),
        grant(container, Protocol::Tcp, 80),
    ];
    assert_eq!(control.snapshot(resources).await, []);
    control
}

#[test]
fn a_strangers_flush_passes_owned_tables_by() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let container = host.container(2);
    let listener = host.net.listen(LISTENER);
    block_on(async {
        let mut control = granted(&host, &agent, &container, listener.local_addr().unwrap().port()).await;
        let status = control.status().await;
        if !status.owned {
            // An older kernel: the other test shows what holds there.
            return;
        }
        let before = host.net.nft("-s list ruleset");
        host.net.nft("flush ruleset");
        assert_eq!(host.net.nft("-s list ruleset"), before);
        container.net.dial("247.1.2.3:80").unwrap();
        assert_eq!(control.status().await.restored_total, 0);
    });
}

#[test]
fn what_a_stranger_changes_is_put_back() {
    let host = Host::new();
    let agent = Agent::start(&host, &["--table-owner", "off"]);
    let container = host.container(2);
    let listener = host.net.listen(LISTENER);
    block_on(async {
        let mut control = granted(&host, &agent, &container, listener.local_addr().unwrap().port()).await;
        let before = host.net.nft("-s list ruleset");
        let harms = [
            "flush ruleset",
            "delete table bridge steppe",
            "flush chain inet steppe guard",
            "flush set inet steppe grants",
            "flush chain inet steppe lb-1",
            "delete element inet steppe endpoints { 247.1.2.3 . tcp . 80 . 0 }",
            "add element inet steppe takeover { tcp }",
            "add element inet steppe grants { 172.30.0.9 . 247.1.2.3 . tcp . 80 }",
        ];
        let mut fastest = DEADLINE;
        for (i, harm) in harms.iter().enumerate() {
            let began = Instant::now();
            host.net.nft(harm);
            let line = agent.wait_for("is put back");
            println!("{harm}: put back in {:?}, nft's own start included", began.elapsed());
            fastest = fastest.min(began.elapsed());
            assert!(line.contains("by=\"nft\""), "{line}");
            assert_eq!(host.net.nft("-s list ruleset"), before, "{harm}");
            assert_eq!(control.status().await.restored_total, i as u64 + 1);
        }
        // A busy machine may hold up one or the other.
        assert!(fastest < Duration::from_millis(100), "{fastest:?}");
        container.net.dial("247.1.2.3:80").unwrap();
        // Other people's tables are their own business.
        host.net.nft("add table inet other");
        host.net.nft("delete table inet other");
        assert_eq!(control.upsert(vec![grant(&container, Protocol::Tcp, 81)]).await, []);
        assert_eq!(control.status().await.restored_total, harms.len() as u64);
    });
}

#[test]
fn the_address_and_the_route_are_put_back() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    host.net.ip("addr del 169.254.77.54/32 dev lo");
    host.net.ip("addr del 169.254.77.53/32 dev lo");
    host.net.ip("route del unreachable 247.0.0.0/8");
    agent.wait_for("put back");
    block_on(until("both are there", || async {
        host.net.ip("addr show dev lo").contains("169.254.77.54/32")
            && host.net.ip("addr show dev lo").contains("169.254.77.53/32")
            && host.net.ip("route show type unreachable").contains("247.0.0.0/8")
    }));
}

#[test]
fn nothing_for_a_virtual_ip_leaves_the_host_even_without_a_rule() {
    let host = Host::new();
    let outside = host.neighbour();
    host.forward();
    outside.nft("add table ip seen");
    outside.nft("add chain ip seen every { type filter hook prerouting priority 0; }");
    outside.nft("add rule ip seen every ip daddr 247.0.0.0/8 counter");
    let container = host.container(2);
    // The container really has a way out.
    outside.ip("route add 172.30.0.0/24 via 192.0.2.1");
    let server = outside.listen("192.0.2.2".parse().unwrap());
    container.net.dial(&server.local_addr().unwrap().to_string()).unwrap();

    let agent = Agent::start(&host, &[]);
    assert_eq!(container.net.dial_in_vain("247.1.2.3:80"), ErrorKind::TimedOut, "not known yet");
    assert_eq!(host.net.dial_in_vain("247.1.2.3:80"), ErrorKind::HostUnreachable);
    drop(agent.kill());
    host.net.nft("flush ruleset");
    assert_eq!(host.net.nft("list ruleset"), "", "a dead agent's tables can be flushed");
    assert_eq!(container.net.dial_in_vain("247.1.2.3:80"), ErrorKind::HostUnreachable);
    assert_eq!(host.net.dial_in_vain("247.1.2.3:80"), ErrorKind::HostUnreachable);
    let seen = outside.nft("list table ip seen");
    assert!(seen.contains("counter packets 0"), "{seen}");
}

#[test]
fn two_agents_do_not_share_a_host() {
    let host = Host::new();
    let _agent = Agent::start(&host, &[]);
    let second = agent::run(&host, &[]);
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains("error: table `steppe` belongs to a running process"), "{text}");
    let purge = agent::run(&host, &["--purge"]);
    assert_eq!(purge.status.code(), Some(1));
    assert!(host.net.nft("list ruleset").contains("table inet steppe"));
}
