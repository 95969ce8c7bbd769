use clap::Parser;
use steppe_model::DoorMode;
use tokio::{net::TcpListener, time::timeout};

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    doors: DoorFlags,
}

fn config(flags: &[&str], sources: Vec<Place>) -> DoorsConfig {
    let flags = Flags::try_parse_from([&["control"], flags].concat()).unwrap().doors;
    DoorsConfig { flags, proxy_uid: 7, sources }
}

async fn first(config: DoorsConfig) -> Doors {
    let (sink, mut told) = mpsc::channel(1);
    let task = tokio::spawn(follow(config, sink));
    let told = timeout(Duration::from_secs(10), told.recv()).await.unwrap().unwrap();
    task.abort();
    let Observation::Doors(doors) = told else { panic!("{told:?}") };
    doors
}

#[tokio::test]
async fn what_the_flags_say_counts() {
    let flags = [
        "--door=published=enforce",
        "--door=dns=off",
        "--peer-cidr=10.0.1.0/24,10.0.0.0/24",
        "--peer-cidr=10.0.0.0/24",
        "--local-allow=0",
        "--local-allow=500",
        "--published-ports=1-9",
    ];
    let doors = first(config(&flags, Vec::new())).await;
    assert_eq!(doors.mode(DoorName::Published), DoorMode::Enforce);
    assert_eq!(doors.mode(DoorName::Dns), DoorMode::Off);
    assert_eq!(doors.mode(DoorName::Spoofing), DoorMode::Enforce);
    assert_eq!(doors.mode(DoorName::Leaving), DoorMode::Audit);
    assert_eq!(doors.peers, ["10.0.0.0/24", "10.0.1.0/24"].map(|peer| peer.parse().unwrap()));
    assert_eq!(doors.local_uids, [7, 500]);
    assert_eq!(doors.published_ports, 1..=9);
}

/// As whoever runs the tests; root is not listed, as root always may.
#[tokio::test]
async fn who_listens_where_a_source_is_may_dial() {
    let me = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = |host: &str| Place::Tcp { host: host.to_owned(), port };
    let host = node::read().unwrap();
    for here in ["127.0.0.1", "localhost"] {
        assert_eq!(owners(&place(here), &host).await, Some(BTreeSet::from([me])), "{here}");
    }
    // TEST-NET-1 (RFC 5737): nobody's, and nothing is sent there.
    assert_eq!(owners(&place("192.0.2.1"), &host).await, None);

    let mut seen = Owners::default();
    let sources = [place("127.0.0.1")];
    assert!(seen.look(&sources, &host).await);
    drop(listener);
    assert!(seen.look(&sources, &host).await, "it was found before");
    assert_eq!(seen.uids().collect::<Vec<_>>(), [me]);
    assert!(!Owners::default().look(&sources, &host).await, "it was never found");
}
