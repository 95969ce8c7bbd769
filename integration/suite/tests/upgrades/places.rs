//! A client and four services, one placed in each way that an instance can be placed; each is dialled all the time.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use steppe_testbed::{Cluster, Container, Host, Outcome, Run, Service, eventually, now_ns};

use crate::common::{
    SOON,
    held::{Held, hold},
    load::{End, Load, Tally, Tried, clock},
    provide,
    stage::{Trier, register},
    vip,
};

/// The machine is busy, and not for nothing: tens of thousands of connections must be made.
const LONG: Duration = Duration::from_secs(45);
/// On another host; on the same host and bridge; on the same host and another bridge; the client itself.
const SERVICES: [&str; 4] = ["far", "near", "across", "mirror"];

/// See the module's head.
pub struct Places<'a> {
    /// The client's host, whose Steppe is replaced.
    pub host: &'a Host,
    api: Container,
    targets: Vec<SocketAddr>,
    loads: Vec<Load>,
    stranger: Trier,
}

impl<'a> Places<'a> {
    /// Starts Steppe on the first of two hosts, sets the scene and begins.
    pub fn set(cluster: &'a Cluster) -> Self {
        let [a, b] = cluster.all();
        a.suite.start();
        provide(b, "far", "far-1");
        a.docker.create_network("other", "172.30.2.0/24");
        register(a, "near", &a.docker.run(Run::serve("near-1", 80)));
        register(a, "across", &a.docker.run(Run::serve("across-1", 80).network("other")));
        let api = a.docker.run(Run::serve("api", 80));
        a.consul.register(&Service::new("mirror").at(api.address(), 80));
        let tag = format!("connect_to={}", SERVICES.map(|name| format!("{name}:80")).join(","));
        a.consul.register(&Service::new("api").at(api.address(), 1).tag(&tag));
        let targets: Vec<_> = SERVICES.iter().map(|name| vip(a, name, 80)).collect();
        for (name, target) in SERVICES.iter().zip(&targets) {
            eventually(SOON, &format!("{name} answers"), || {
                let attempt = api.connect(*target);
                if attempt.outcome.is_ok() { Ok(()) } else { Err(attempt) }
            });
        }
        let stranger = a.docker.run(Run::connect("stranger", targets[1], Duration::from_millis(10)));
        let stranger = Trier::of(&stranger);
        stranger.wait_refused();
        let loads = SERVICES.iter().zip(&targets).map(|(name, to)| Load::start(name, &api, *to)).collect();
        Self { host: a, api, targets, loads, stranger }
    }

    /// A connection to each of the four that is held.
    pub fn hold_all(&self) -> Vec<Held> {
        self.targets.iter().map(|target| hold(&self.api, *target)).collect()
    }

    /// Waits until there are so many more connections at each of the four.
    #[track_caller]
    pub fn wait_more(&self, more: usize) {
        self.loads.iter().for_each(|load| load.wait_more(more, LONG));
    }

    /// Waits until there have been so many at each.
    #[track_caller]
    pub fn wait_each(&self, count: usize) {
        self.loads.iter().for_each(|load| load.wait_count(count, LONG));
    }

    /// The first connection of anybody's that ends like this.
    #[track_caller]
    pub fn first(&self, end: &End) -> Tried {
        eventually(LONG, &format!("a connection ends: {end:?}"), || {
            self.loads.iter().find_map(|load| load.first(end)).ok_or("none has")
        })
    }

    /// Waits until new connections go to the proxy again.
    #[track_caller]
    pub fn wait_proxied(&self) {
        let status = || {
            let answer = self.host.grpcurl(
                &self.host.suite.netfilter_agent,
                &[],
                &["steppe.v1.NetfilterAgent/GetStatus"],
            );
            serde_json::from_str::<Value>(&answer.stdout)
                .map_err(|error| format!("{error}: {}", answer.stderr))
        };
        eventually(SOON, "the proxy has its connections back", || {
            let status = status()?;
            if status["takeover"] == true { Err(status.to_string()) } else { Ok(()) }
        });
    }

    /// Waits until the kernel holds at least so many grants.
    #[track_caller]
    pub fn wait_grants(&self, count: usize) {
        eventually(LONG, &format!("{count} grants are in force"), || {
            let listed = self.host.nft(&["-j", "list", "set", "inet", "steppe", "grants"]);
            let listed: Value = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
            let set = listed["nftables"].as_array().into_iter().flatten().find_map(|item| item.get("set"));
            let found = set.and_then(|set| set["elem"].as_array()).map_or(0, Vec::len);
            if found >= count { Ok(()) } else { Err(format!("{found}")) }
        });
    }

    /// Who is granted nothing has been refused all the while, each time and at once.
    #[track_caller]
    pub fn assert_strangers_refused(&self) {
        let tried = self.stranger.tried();
        println!("stranger: {} refused", tried.len());
        for attempt in tried {
            assert_eq!(attempt.outcome, Outcome::Refused, "{attempt}");
        }
    }

    /// Says when something is done, for comparing it with what was lost.
    pub fn say(what: &str) {
        println!("{}: {what}", clock(now_ns()));
    }

    /// Ends, and tells what came of each.
    pub fn finish(self) -> Vec<Tally> {
        self.loads.into_iter().map(Load::finish).collect()
    }
}
