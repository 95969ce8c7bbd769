//! What is away: a process of Steppe, or Consul.

use super::*;

fn down(link: &'static str, reason: &'static str, fix: &'static str) -> Expected<'static> {
    Expected { code: 3, reason, link, fix }
}

fn untold(link: &'static str, reason: &'static str, fix: &'static str) -> Expected<'static> {
    Expected { code: 4, ..down(link, reason, fix) }
}

#[test]
fn a_process_that_is_down_is_mended_by_starting_it() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let api = a.docker.run(Run::idle("api").label("steppe.connect_to", "web:80"));
    let stranger = a.docker.run(Run::idle("stranger"));
    let web = vip(a, "web", 80);
    reaches(&api, web);
    works(a, "api", "web:80");

    a.suite.proxy.kill();
    // The kernel carries what is new meanwhile.
    eventually(SOON, "explain says that the kernel has taken over", || {
        let asked = Explained::ask(a, "api", "web:80");
        let told = asked.code == 0 && asked.text.contains("until the proxy is back");
        told.then_some(()).ok_or(asked.text)
    });
    reaches(&api, web);
    a.suite.proxy.start();
    reaches(&api, web);
    works(a, "api", "web:80");

    // What the netfilter-agent put in force goes on; a newcomer waits for it.
    a.suite.netfilter_agent.kill();
    broken(a, "api", "web:80", &untold("rule", "netfilter-agent is down", "start steppe-netfilter-agent "));
    reaches(&api, web);
    let late = a.docker.run(Run::idle("late").label("steppe.connect_to", "web:80"));
    broken(
        a,
        "late",
        "web:80",
        &down("address", "no grant can be bound to it", "start steppe-netfilter-agent "),
    );
    a.suite.netfilter_agent.start();
    reaches(&late, web);
    works(a, "late", "web:80");
    works(a, "api", "web:80");

    // Without control the agents know what is in force, and no more.
    a.suite.control.kill();
    let yes = works(a, "api", "web:80");
    assert!(yes.text.contains("is known when control is up"), "{}", yes.text);
    works(a, &api.address().to_string(), &web.to_string());
    let later = a.docker.run(Run::idle("later").label("steppe.connect_to", "web:80"));
    let expected = untold("grant", "control is down, and no grant is in force", "start steppe-control ");
    broken(a, "stranger", "web:80", &expected);
    let asked = Explained::ask(a, "later", "web:80");
    assert_eq!(asked.code, 4, "{}", asked.text);
    assert!(asked.text.contains("start steppe-control "), "{}", asked.text);
    a.suite.control.start();
    reaches(&later, web);
    works(a, "later", "web:80");
    broken(a, "stranger", "web:80", &NO_GRANT);
    refused(&stranger, web);

    for daemon in a.suite.all() {
        daemon.kill();
    }
    broken(a, "api", "web:80", &untold("control", "control is down", "start steppe-control "));
    a.suite.start();
    reaches(&api, web);
    works(a, "api", "web:80");
    cluster.assert_no_leak();
}

#[test]
fn with_consul_away_what_was_known_goes_on_and_the_rest_can_not_be_told() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let _web = provide(a, "web", "web-1");
    let api = consume(a, "api", "web:80");
    let worker = consume(a, "worker", "gone:80");
    let web = vip(a, "web", 80);
    reaches(&api, web);
    broken(a, "worker", "gone:80", &down("endpoint", "no instance is registered", ""));

    a.consul.daemon.kill();
    eventually(SOON, "status says that Consul is away", || {
        let status = a.steppe(&["status"]);
        let line = status.stdout.lines().find(|line| line.starts_with("consul ")).map(str::to_owned);
        let told = line.filter(|line| line.contains("stale, kept") && status.code == 1);
        told.map(drop).ok_or(status.stdout)
    });
    reaches(&api, web);
    works(a, "api", "web:80");
    let unheard = "no grant is known, and a source is not heard";
    let fix =
        broken(a, "worker", "web:80", &untold("grant", unheard, "see that consul answers steppe-control"));
    assert!(fix.contains("steppe status"), "{fix}");
    let unheard = "no instance is known, and a source is not heard";
    broken(a, "worker", "gone:80", &untold("endpoint", unheard, "see that consul answers"));

    a.consul.start();
    cluster.wait_consul();
    broken(a, "worker", "web:80", &NO_GRANT);
    tagged(a, &worker, "worker", &["connect_to=web:80"]);
    reaches(&worker, web);
    works(a, "worker", "web:80");
    cluster.assert_no_leak();
}
