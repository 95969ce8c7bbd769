//! The steps, in the order in which they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use steppe_integration::ask::SOON;
use steppe_testbed::{Attempt, Cluster, Host, Outcome, eventually, now_ns};

use crate::attempts::{Attempts, refusal};
use crate::opening::{self, INSTANCES};
use crate::props::{address, calls, grpcurl, held, outcomes, register, wait_up, wait_well};
use crate::stage::{Stage, Stop};

/// The instance that dies.
const VICTIM: &str = "web-2";
/// How many connections are counted; a multiple of the instances.
const CONNECTIONS: usize = 30;
/// How many show that a container is refused.
const FEW: usize = 3;
/// "At once", as a person sees it; what was measured is printed.
const AT_ONCE_MS: f64 = 1_000.0;
/// What a refusal may take, on a machine that is busy with other things as well.
const REFUSED_MS: f64 = 100.0;

/// Where the story is.
struct Story<'a> {
    stage: &'a mut Stage,
    a: &'a Host,
    b: &'a Host,
    cluster: &'a Cluster,
    /// `web`'s virtual IP on host a, with its port.
    web: SocketAddr,
    /// The addresses of the containers `api` and `worker`.
    api: String,
    worker: String,
}

/// Tells it, in a cluster whose hosts have just come up.
pub fn tell(stage: &mut Stage, cluster: &Cluster) -> Result<(), Stop> {
    let [a, b] = cluster.all();
    opening::hosts(stage, a, b)?;
    opening::provider(stage, a, b)?;
    let (api, web) = opening::consumer(stage, a)?;
    let mut story = Story { stage, a, b, cluster, web, api, worker: String::new() };
    story.round_robin()?;
    story.explained()?;
    story.stranger()?;
    story.other_port()?;
    story.granted()?;
    story.revoked()?;
    story.instance_dies()?;
    story.proxy_dies()?;
    story.grpcurl()?;
    story.all_is_well()
}

impl Story<'_> {
    fn round_robin(&mut self) -> Result<(), Stop> {
        self.stage.step("api's connections go to the three instances in turn, on both hosts.")?;
        self.stage.note(
            "probe is a small client; for each connection it prints when it began and ended, in ns, and how",
        )?;
        let web = self.web;
        let command = format!("docker exec api probe connect {web} --count {CONNECTIONS} >calls");
        self.stage.run_ok(self.a, &command)?;
        self.stage.run_ok(self.a, "head -3 calls")?;
        self.stage.run_ok(self.a, "cut -d' ' -f3- calls | sort | uniq -c")?;
        let calls = Attempts::read(&self.stage.must(self.a, "cat calls")?);
        let each = CONNECTIONS / INSTANCES.len();
        let even: BTreeMap<_, _> = INSTANCES.map(|(_, name, _)| (name, each)).into();
        self.stage.check(
            &format!("{each} each for web-1 on host a, web-2 and web-3 on host b; none failed"),
            calls.served() == even && calls.count() == CONNECTIONS,
        )
    }

    fn explained(&mut self) -> Result<(), Stop> {
        self.stage.step("`steppe explain` shows each link of the chain from api to web.")?;
        let explained = self.stage.run(self.a, "steppe explain api web:80")?;
        self.stage.check(
            "the answer is YES, and the exit code 0",
            explained.code == 0 && explained.stdout.starts_with("YES"),
        )
    }

    fn stranger(&mut self) -> Result<(), Stop> {
        self.stage.step(
            "A container `worker` on the same bridge, without the tag, is refused at once and told why.",
        )?;
        self.stage.run_ok(self.a, "docker run -d --name worker steppe-probe probe wait")?;
        self.worker = address(self.stage, self.a, "worker")?;
        self.stage.run_ok(self.a, &register("worker", &self.worker, None))?;
        eventually(SOON, "steppe explain knows worker's service", || {
            let explained = self.a.steppe(&["explain", "worker", "web:80"]);
            if explained.code == 1 { Ok(()) } else { Err(explained.stdout + &explained.stderr) }
        });
        self.refused("worker", self.web)?;
        let explained = self.stage.run(self.a, "steppe explain worker web:80")?;
        let fix = explained.stdout.contains("add tag connect_to=web:80");
        self.stage.check(
            "the answer is NO, the exit code 1, and the fix is to add the tag",
            explained.code == 1 && explained.stdout.starts_with("NO ") && fix,
        )
    }

    fn other_port(&mut self) -> Result<(), Stop> {
        self.stage.step("api itself is refused on a port that its tag doesn't name.")?;
        self.refused("api", SocketAddr::new(self.web.ip(), 81))
    }

    fn granted(&mut self) -> Result<(), Stop> {
        self.stage.step("The fix is done: worker gets the tag while it runs, and is let in at once.")?;
        let web = self.web;
        self.start_calls("worker")?;
        self.wait_calls("worker", FEW);
        let before = now_ns();
        self.stage.run_ok(self.a, &register("worker", &self.worker, Some("connect_to=web:80")))?;
        let a = self.a;
        eventually(SOON, "worker is let in", || {
            let calls = calls(a, "worker");
            let success = calls.at_first_success().is_some_and(|(_, _, after)| after.len() > CONNECTIONS);
            if success { Ok(()) } else { Err(format!("{} attempts at {web}, none answered", calls.count())) }
        });
        self.end_calls("worker")?;
        self.stage.run_ok(self.a, &outcomes("worker"))?;
        let calls = calls(self.a, "worker");
        let Some((refused, first, after)) = calls.at_first_success() else {
            return self.stage.check("worker is let in", false);
        };
        let took = Duration::from_nanos(first.end_ns.saturating_sub(before)).as_secs_f64() * 1e3;
        self.stage
            .check("refused until then", refused.iter().all(|attempt| attempt.outcome == Outcome::Refused))?;
        self.stage.check(
            &format!("answered {took:.0} ms after the command was given, and ever since"),
            took < AT_ONCE_MS && after.iter().all(|attempt| attempt.outcome.is_ok()),
        )
    }

    fn revoked(&mut self) -> Result<(), Stop> {
        self.stage.step("The tag is taken away again: a connection that worker holds open is cut.")?;
        let web = self.web;
        self.stage.run_ok(self.a, &format!("docker exec -d worker sh -c 'probe hold {web} >/held'"))?;
        held(self.a, "worker", " open ");
        let before = now_ns();
        self.stage.run_ok(self.a, &register("worker", &self.worker, None))?;
        let closed = held(self.a, "worker", " closed ");
        self.stage.run_ok(self.a, "docker exec worker cat /held")?;
        let at: u64 = closed.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(u64::MAX);
        let took = Duration::from_nanos(at.saturating_sub(before)).as_secs_f64() * 1e3;
        self.stage.check(&format!("cut {took:.0} ms after the command was given"), took < AT_ONCE_MS)?;
        self.refused("worker", web)
    }

    fn instance_dies(&mut self) -> Result<(), Stop> {
        self.stage.step("An instance dies while api connects again and again: no new connection fails.")?;
        self.start_calls("api")?;
        self.wait_calls("api", CONNECTIONS);
        let before = now_ns();
        self.stage.run_ok(self.b, &format!("docker kill {VICTIM}"))?;
        let dead = now_ns();
        wait_up(self.a, INSTANCES.len() - 1);
        self.wait_calls("api", calls(self.a, "api").count() + CONNECTIONS);
        self.end_calls("api")?;
        self.stage.run_ok(self.a, "steppe services")?;
        self.stage.run_ok(self.a, &outcomes("api"))?;
        let calls = calls(self.a, "api");
        // A connection that was open when the instance was killed dies with it: nobody can mend that.
        let was_open = |call: &&Attempt| {
            let meanwhile = call.start_ns < dead && call.end_ns > before;
            meanwhile && matches!(call.outcome, Outcome::Eof | Outcome::Reset)
        };
        let with_it = calls.failed().filter(was_open).count();
        let failed = calls.failed().count() - with_it;
        let also =
            if with_it == 0 { "" } else { "; one was open at that moment, and died with the instance" };
        self.stage.check(
            &format!("{} connections, of which {failed} failed{also}", calls.count()),
            failed == 0 && with_it <= 1,
        )?;
        self.stage.run_ok(self.b, &format!("docker start {VICTIM}"))?;
        wait_up(self.a, INSTANCES.len());
        self.stage.check("it is back, and in use again", true)
    }

    fn proxy_dies(&mut self) -> Result<(), Stop> {
        self.stage.step("The proxy is killed: a connection that begins meanwhile waits until it is back.")?;
        let web = self.web;
        self.stage.run_ok(self.a, "kill -9 $(pidof steppe-proxy)")?;
        let waiting = format!("docker exec -d api sh -c 'probe connect {web} --timeout-ms 10000 >/waiting'");
        self.stage.run_ok(self.a, &waiting)?;
        let status = self.stage.run(self.a, "steppe status")?;
        self.stage.check(
            "steppe status says that it is down, what that means, and what to do",
            status.code == 1 && status.stdout.contains("DOWN") && status.stdout.contains("next:"),
        )?;
        self.stage.note("steppe-proxy is started again, as systemd or Nomad would do")?;
        self.a.suite.restart(&self.a.suite.proxy);
        eventually(SOON, "the waiting connection is answered", || {
            let text = self.a.exec("docker", &["exec", "api", "cat", "/waiting"]).stdout;
            if text.ends_with('\n') { Ok(()) } else { Err(text) }
        });
        let text = self.stage.run_ok(self.a, "docker exec api cat /waiting")?;
        let answered = Attempts::read(&text).served().len() == 1;
        self.stage.check("the connection that waited was answered", answered)?;
        wait_well(self.a);
        self.stage.check("control told the new proxy everything: steppe status is OK again", true)?;
        let command = format!(
            "docker exec api probe connect {web} --count {CONNECTIONS} | cut -d' ' -f3- | sort | uniq -c"
        );
        let counted = self.stage.run_ok(self.a, &command)?;
        let all = INSTANCES.iter().all(|(_, name, _)| counted.contains(&format!("ok {name}\n")));
        self.stage.check("all three instances serve again", all && counted.lines().count() == INSTANCES.len())
    }

    fn grpcurl(&mut self) -> Result<(), Stop> {
        self.stage.step("Every process can be asked by gRPC on its socket, and describes itself.")?;
        self.stage.run_ok(self.a, "ls -l /run/steppe")?;
        let listed = self.stage.run_ok(self.a, &grpcurl("proxy", "list"))?;
        self.stage
            .check("the proxy's service is listed", listed.lines().any(|line| line == "steppe.v1.Proxy"))?;
        let described = self.stage.run_ok(self.a, &grpcurl("proxy", "describe steppe.v1.Proxy"))?;
        self.stage.check("and described, with the comments of its .proto", described.contains("// "))?;
        let web = self.web;
        self.stage.run_ok(self.a, &format!("docker exec -d api sh -c 'probe hold {web} >/held'"))?;
        held(self.a, "api", " open ");
        let got = self.stage.run_ok(self.a, &grpcurl("proxy", "steppe.v1.Proxy/ListConnections"))?;
        let got: Value = serde_json::from_str(&got).unwrap_or_default();
        let connections = got["connections"].as_array().map_or(0, Vec::len);
        let client = got["connections"][0]["client"]["ip"].as_str();
        self.stage.check(
            "and asked: one connection is open, api's",
            connections == 1 && client == Some(self.api.as_str()),
        )
    }

    fn all_is_well(&mut self) -> Result<(), Stop> {
        self.stage.step("At the end all is well, and nothing for a virtual IP has ever left a host.")?;
        let workloads = self.stage.run_ok(self.a, "steppe workloads")?;
        self.stage.check("api alone has a grant", workloads.matches("web:80").count() == 1)?;
        for host in [self.a, self.b] {
            self.stage.run_ok(host, "steppe status")?;
        }
        let packets = self.cluster.lan.vip_packets();
        self.stage
            .check(&format!("{packets} packets for virtual IPs were seen between the hosts"), packets == 0)
    }

    /// One connection that must be refused.
    fn refused(&self, name: &str, to: SocketAddr) -> Result<(), Stop> {
        let output = self.stage.run_ok(self.a, &format!("docker exec {name} probe connect {to}"))?;
        let attempts = Attempts::read(&output);
        let took = attempts.one().and_then(refusal);
        let text = took.map_or("refused".to_owned(), |took| format!("refused after {took:.1} ms"));
        self.stage.check(&text, took.is_some_and(|took| took < REFUSED_MS))
    }

    /// Lets a container connect again and again, unseen by the reader until its outcomes are counted.
    fn start_calls(&self, name: &str) -> Result<(), Stop> {
        let web = self.web;
        let calls = format!("probe connect {web} --forever --interval-ms 5 >/calls");
        self.stage.run_ok(self.a, &format!("docker exec -d {name} sh -c '{calls}'"))?;
        Ok(())
    }

    /// Waits until it has connected so often, or been refused.
    fn wait_calls(&self, name: &str, count: usize) {
        eventually(SOON, &format!("{name} has tried {count} connections"), || {
            let made = calls(self.a, name).count();
            if made >= count { Ok(()) } else { Err(made) }
        });
    }

    /// The container's first process, a probe as well, is an init and as such immune.
    fn end_calls(&self, name: &str) -> Result<(), Stop> {
        self.stage.must(self.a, &format!("docker exec {name} busybox killall probe"))?;
        Ok(())
    }
}
