//! The testbed itself, shown by traffic, without Steppe.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use steppe_testbed::{Cluster, GROUP, Identity, OUTSIDE, Outcome, RUN_DIR, Run, Service, eventually};

const SOON: Duration = Duration::from_secs(5);
const VIP: Ipv4Addr = Ipv4Addr::new(247, 1, 2, 3);

fn ok(name: &str) -> Outcome {
    Outcome::Ok(name.to_owned())
}

#[test]
fn containers_reach_published_ports_on_both_hosts_until_the_cable_is_cut() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    let web = b.docker.run(Run::serve("web", 80).publish(80));
    let at = SocketAddr::from((b.address, web.published(80)));
    assert_eq!(a.connect(at, SOON).outcome, ok("web"), "from the host");
    let near = a.docker.run(Run::serve("near", 80));
    let client = a.docker.run(Run::connect("client", at, Duration::from_millis(10)));
    assert_eq!(client.connect((near.address(), 80)).outcome, ok("near"), "on one bridge");
    let lines = client.lines();
    assert_eq!(lines.attempt(SOON).outcome, ok("web"), "from a container to the other host");

    cluster.lan.cut("b");
    lines.attempts_until(SOON, "nothing answers", |a| a.outcome == Outcome::Timeout);
    cluster.lan.restore("b");
    lines.attempts_until(SOON, "it answers again", |a| a.outcome == ok("web"));

    b.crash();
    lines.attempts_until(SOON, "the host is gone", |a| !a.outcome.is_ok());
}

#[test]
fn consul_has_a_leader_and_follows_services_checks_and_crashes() {
    let cluster = Cluster::hosts(2).without_docker().start();
    let [a, b] = cluster.all();
    assert_eq!(a.consul.nodes(), ["a", "b", "server"]);

    let web = Service::new("web").at(b.address, 80).tag("blue").ttl_check();
    b.consul.register(&web);
    a.consul.wait_passing("web", 1, SOON);
    b.consul.fail("web");
    a.consul.wait_passing("web", 0, SOON);
    b.consul.pass("web");
    a.consul.wait_passing("web", 1, SOON);
    b.consul.deregister("web");
    a.consul.wait_passing("web", 0, SOON);

    b.consul.register(&web);
    a.consul.wait_passing("web", 1, SOON);
    b.crash();
    a.consul.wait_passing("web", 0, Duration::from_secs(30));

    cluster.consul_server.daemon.kill();
    eventually(SOON, "the agent knows no leader", || a.consul.leader().err().ok_or("it does"));
    cluster.consul_server.start();
    eventually(Duration::from_secs(30), "the agent knows the leader again", || a.consul.leader());
}

#[test]
fn consul_checks_http_of_a_container() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    let web = a.docker.run(Run::serve_http("web", 80));
    a.consul.register(
        &Service::new("web").at(web.address(), 80).http_check(SocketAddr::from((web.address(), 80))),
    );
    a.consul.wait_passing("web", 1, SOON);
    web.fail();
    a.consul.wait_passing("web", 0, SOON);
    web.recover();
    a.consul.wait_passing("web", 1, SOON);
}

#[test]
fn docker_restarts_and_gives_the_next_container_the_same_address_and_mac() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let first = a.docker.run(Run::idle("first").label("steppe.user", "alice"));
    let (address, mac) = (first.address(), first.mac());
    assert_eq!(first.inspect()["Config"]["Labels"]["steppe.user"], "alice");
    let pid = first.exec(&["cat", "/proc/1/cmdline"]).ok();
    assert_eq!(pid, "probe\0wait\0");
    first.remove();
    let mut second = a.docker.run(Run::idle("second"));
    assert_eq!((second.address(), second.mac()), (address, mac));

    a.docker.stop();
    a.docker.start();
    assert_eq!(a.docker.containers(), ["second"]);
    second.start_again();
    a.docker.daemon.kill();
    a.docker.start();
    second.start_again();
    assert_eq!(second.connect((second.address(), 1)).outcome, Outcome::Refused);
    second.stop();
    assert_eq!(second.inspect()["State"]["Running"], false);
}

#[test]
fn a_packet_for_a_virtual_address_is_seen_and_goes_no_further() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let client = a.docker.run(Run::idle("client"));
    cluster.assert_no_leak();
    assert_eq!(client.connect((OUTSIDE, 1)).outcome, Outcome::Refused, "the default route leads outside");
    cluster.assert_no_leak();
    let attempt =
        a.docker.run(Run::new("stray", &["probe", "connect", "247.1.2.3:80", "--timeout-ms", "500"]));
    assert_eq!(attempt.lines().attempt(SOON).outcome, Outcome::Timeout, "nothing guards {VIP} here");
    assert!(cluster.lan.vip_packets() > 0);
    assert!(cluster.lan.vip_leaks().contains("247.1.2.3"), "{}", cluster.lan.vip_leaks());
    cluster.allow_leaks();
}

#[test]
fn nothing_is_left_when_a_cluster_is_dropped() {
    let cluster = Cluster::hosts(2).without_consul().start();
    let [a, b] = cluster.all();
    let client = a.docker.run(Run::idle("client"));
    b.docker.run(Run::idle("other"));
    let pids = [a, b].map(|host| host.pid().expect("it hasn't crashed"));
    let pids = [&pids[..], &[a.docker.daemon.pid().expect("it runs")]].concat();
    let logs = a.docker.daemon.log_path().to_owned();
    let cgroup = a.sh(&format!("find /sys/fs/cgroup -name {} | head -1", client.id)).ok();
    assert!(!cgroup.is_empty(), "the container has a cgroup");
    drop(cluster);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }
    assert!(!logs.exists(), "{} is left", logs.display());
    assert!(!Path::new(cgroup.trim()).exists(), "{cgroup} is left");
}

#[test]
#[should_panic(expected = "packets for virtual addresses left a host")]
fn a_test_that_lets_a_packet_for_a_virtual_address_out_fails() {
    let cluster = Cluster::hosts(1).without_consul().without_docker().start();
    cluster.one().connect((VIP, 80), Duration::from_millis(50));
}

#[test]
fn nothing_is_left_when_the_test_program_is_killed() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_raise"))
        .arg("2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let id = program.id();
    let lines = BufReader::new(program.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let kill = lines.filter_map(|line| line.split_once("kill -9 ").map(|(_, pids)| pids.to_owned())).next();
    let pids = kill.expect("it tells its hosts' pids");
    program.kill().expect("SIGKILL");
    program.wait().expect("waitpid");
    for pid in pids.split(' ').map(|pid| format!("/proc/{pid}")) {
        eventually(Duration::from_secs(20), "the hosts are gone", || {
            if Path::new(&pid).exists() { Err(&pid) } else { Ok(()) }
        });
    }
    // What outlives processes is swept when the next cluster is raised.
    eventually(Duration::from_secs(20), "its cgroups are gone", || {
        drop(Cluster::hosts(1).without_consul().without_docker().start());
        let found =
            Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("steppe-test-{id}-*")]).output();
        let found = String::from_utf8_lossy(&found.expect("find").stdout).into_owned();
        if found.is_empty() { Ok(()) } else { Err(found) }
    });
}

#[test]
fn the_suite_runs_under_the_identities_of_production() {
    let cluster = Cluster::hosts(1).without_consul().without_docker().start();
    let a = cluster.one();
    // Bits 12 and 10 of a capability set (linux/capability.h): NET_ADMIN and NET_BIND_SERVICE.
    for (identity, capabilities) in [
        (Identity::CONTROL, 0_u64),
        (Identity::PROXY, 0),
        (Identity::NETFILTER_AGENT, 1 << 12),
        (Identity::DNS, 1 << 10),
    ] {
        let status = a.exec_as(identity, "cat", &["/proc/self/status"]).ok();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("Uid:"), vec![identity.uid.to_string(); 4]);
        assert_eq!(line("Gid:"), vec![GROUP.to_string(); 4]);
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(line(set), [format!("{capabilities:016x}")], "{identity:?} {set}");
        }
        let socket = format!("{RUN_DIR}/of-{}", identity.uid);
        a.exec_as(identity, "touch", &[&socket]).ok();
    }
    let stranger = a.exec("setpriv", &["--reuid=60799", "--regid=60799", "--clear-groups", "ls", RUN_DIR]);
    assert_ne!(stranger.code, 0, "the run directory is closed to others");
}

#[test]
fn a_daemon_can_be_frozen_thawed_and_ended_in_order() {
    let cluster = Cluster::hosts(1).without_docker().start();
    let a = cluster.one();
    let consul = &a.consul.daemon;
    consul.wait_log("Consul agent running", SOON);
    assert!(consul.resident_kib() > 1_000);
    consul.freeze();
    let refused = a.enter(|| TcpStream::connect_timeout(&([127, 0, 0, 1], 8500).into(), SOON));
    assert!(refused.is_ok(), "the kernel still accepts for it");
    consul.thaw();
    a.consul.leader().expect("it answers again");
    assert!(consul.terminate(Duration::from_secs(20)).code().is_some());
    assert!(!consul.is_running());
    a.consul.start();
}

#[test]
fn a_held_connection_tells_when_it_is_cut_and_docker_tells_its_events() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let events = a.docker.events();
    let web = a.docker.run(Run::serve("web", 80));
    events.until(SOON, "the event of its start", |line| {
        (line.contains("\"Action\":\"start\"") && line.contains(&web.id)).then_some(())
    });
    let client = a.docker.run(Run::hold("client", (web.address(), 80).into()));
    let lines = client.lines();
    assert!(lines.next(SOON).ends_with(" open web"));
    web.kill();
    assert!(lines.next(SOON).contains(" closed "));
    assert!(lines.rest(SOON).is_empty());

    let own = a.daemon("own", Identity::PROXY, &["bash", "-c", "id -u; read -r _ </dev/zero"]);
    own.start();
    own.wait_log("60701", SOON);
}

#[test]
fn a_slow_line_is_slow() {
    let cluster = Cluster::hosts(2).without_consul().without_docker().start();
    let [a, b] = cluster.all();
    let listener = b.enter(|| TcpListener::bind((b.address, 0))).expect("bind");
    let to = listener.local_addr().expect("it is bound");
    let transfer = || {
        let start = Instant::now();
        let mut sender = a.enter(|| TcpStream::connect(to)).expect("connect");
        let (mut receiver, _) = listener.accept().expect("accept");
        // Less than a socket's buffer, so that one thread can do both ends.
        sender.write_all(&[7; 32 * 1024]).expect("write");
        receiver.read_exact(&mut [0; 32 * 1024]).expect("read");
        start.elapsed()
    };
    let fast = transfer();
    cluster.lan.slow("b", 256);
    // 32 KiB at 256 kbit/s take a second, less what the burst lets pass at once.
    let slow = transfer();
    assert!(slow > Duration::from_millis(400) && fast < slow / 4, "fast {fast:?}, slow {slow:?}");
    cluster.lan.unslow("b");
    assert!(transfer() < slow / 4);
}
