//! Network namespaces. They go when the values are dropped.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// For what must happen; never waited for in full.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// For what must not happen.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);
/// Where dns listens (its default).
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 53);
/// An asker.
pub(crate) const API: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Another.
pub(crate) const WORKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// One that is no asker.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

/// A network namespace in which all these addresses are local.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Holds it, and ends when its standard input does: also when the test is killed.
    holder: Child,
    file: File,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`unshare` of util-linux is needed");
        let mut line = String::new();
        let out = holder.stdout.take().unwrap();
        let read = BufReader::new(out).read_line(&mut line).unwrap();
        assert!(read > 0, "a network namespace can't be made: these tests need root");
        let file = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
        let namespace = Self { holder, file };
        namespace.ip("link set lo up");
        namespace.ip("addr add 169.254.77.53/32 dev lo");
        namespace.ip("addr add 10.0.0.0/16 dev lo");
        namespace
    }

    /// Runs this inside. Sockets and processes that it makes stay inside.
    pub(crate) fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let task = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                inside()
            });
            task.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn ip(&self, args: &str) {
        let output = self
            .run(|| Command::new("ip").args(args.split(' ')).output())
            .expect("`ip` of iproute2 is needed");
        assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn udp(&self, from: Ipv4Addr) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((from, 0)).unwrap());
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It reads the end of its input and exits.
        let _ = self.holder.wait();
    }
}

/// Tells a flood to stop, also when the test fails.
pub(crate) struct Stopping<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
