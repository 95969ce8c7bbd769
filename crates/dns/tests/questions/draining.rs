//! Told to stop.

use std::{
    net::Ipv4Addr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType::A;
use rustix::process::Signal;

use crate::{
    client::{Tcp, ask, at, heard, question, received, sent, told},
    control::{Control, asker},
    net::{API, Namespace, STRANGER, Stopping},
    process::Dns,
    upstream::{Upstream, addressed},
};

struct Pair {
    net: Namespace,
    dir: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        Self { net: Namespace::new(), dir: tempfile::tempdir().unwrap() }
    }

    async fn start(&self, instance: &str) -> (Dns, Control) {
        let dns = Dns::start(&self.net, &self.dir, &["--asker-rate", "1000000", "--instance", instance]);
        let mut control = dns.control().await;
        control.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
        dns.until_logged("listening");
        (dns, control)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_are_replaced_in_turn_without_a_lost_question() {
    let pair = Pair::new();
    let mut both = [("a", pair.start("a").await), ("b", pair.start("b").await)];
    let (stop, answered, lost) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let flood = || {
        let packet = question("web.", A);
        let bytes = packet.to_vec().unwrap();
        while !stop.load(Ordering::Relaxed) {
            // Sockets of their own, as resolver libraries have: so the kernel spreads them.
            let sockets: Vec<_> = (0..16).map(|_| pair.net.udp(API)).collect();
            for socket in &sockets {
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                for _ in 0..8 {
                    socket.send_to(&bytes, at()).unwrap();
                }
            }
            let mut buffer = [0; 512];
            for socket in &sockets {
                for _ in 0..8 {
                    let counter = if received(socket, &mut buffer).is_ok() { &answered } else { &lost };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let floods = [scope.spawn(flood), scope.spawn(flood)];
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            for _ in 0..3 {
                for (instance, running) in &mut both {
                    let before = answered.load(Ordering::Relaxed);
                    running.0.signal(Signal::TERM);
                    let told = Instant::now();
                    assert!(running.0.exit().success());
                    // Nothing new came: it ended by itself, not because its time was over.
                    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
                    *running = runtime.block_on(pair.start(instance));
                    while answered.load(Ordering::Relaxed) < before + 1_000 {
                        thread::yield_now();
                    }
                }
            }
        });
        drop(stopping);
        floods.into_iter().for_each(|flood| flood.join().unwrap());
    });
    println!("{answered:?} answered, {lost:?} lost");
    assert_eq!(lost.into_inner(), 0, "of {answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_answered_and_control_is_told() {
    let pair = Pair::new();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(&pair.net, Ipv4Addr::new(10, 0, 1, 1), move |asked, send| {
        held.lock().unwrap().recv().unwrap();
        send(&addressed(&asked.message, &[Ipv4Addr::new(192, 0, 2, 1)], 60));
    });
    let (mut dns, mut control) = pair.start("a").await;
    let mut idle = Tcp::dial(&pair.net, API);
    assert_eq!(told(&idle.ask(&question("web.", A))), "NoError 247.0.0.1");
    let message = question("www.example.", A);
    let socket = pair.net.udp(API);
    socket.send_to(&message.to_vec().unwrap(), at()).unwrap();
    let mut tcp = Tcp::dial(&pair.net, API);
    tcp.send(&message);
    // Whether control tells of this one is waited for.
    let strange = question("web.", A);
    let stranger = sent(&pair.net, STRANGER, &strange);
    // Once this is answered, those have been taken.
    assert_eq!(ask(&pair.net, API, "web.", A), "NoError 247.0.0.1");
    while control.status().await.results.is_empty() {}
    dns.signal(Signal::TERM);
    control.until_draining().await;
    assert!(control.status().await.draining);
    // Idle connections are closed, with a FIN.
    assert!(idle.receive().is_err());
    release.send(()).unwrap();
    assert_eq!(told(&heard(&socket, &message)), "NoError 192.0.2.1");
    assert_eq!(told(&heard(&stranger, &strange)), "NXDomain");
    assert!(dns.exit().success());
    drop((tcp, upstream));
}
