//! A host with a bridge, and containers, as network namespaces. They go when the values are dropped.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where the listeners are (the agent's default).
pub const LISTENER: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 54);
/// For what must happen; never waited for in full.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// For what must not happen: a dropped packet.
const SILENCE: Duration = Duration::from_millis(300);

/// A network namespace.
pub struct Namespace {
    /// Holds it, and ends when its standard input does: also when the test is killed.
    holder: Child,
    file: File,
}

impl Namespace {
    pub fn new() -> Self {
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
        namespace
    }

    /// Runs this inside. Sockets and processes that it makes stay inside.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let task = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                inside()
            });
            task.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command inside and gives what it printed.
    pub fn command(&self, program: &str, args: &str) -> String {
        let output = self.run(|| Command::new(program).args(args.split(' ')).output());
        let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command until it prints this: a new link carries nothing before the kernel has noticed that both its ends are up.
    fn until(&self, program: &str, args: &str, part: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.command(program, args).contains(part) {
            assert!(Instant::now() < end, "{program} {args}: no `{part}`");
        }
    }

    pub fn ip(&self, args: &str) -> String {
        self.command("ip", args)
    }

    pub fn nft(&self, args: &str) -> String {
        self.command("nft", args)
    }

    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Dials with a deadline.
    pub fn dial(&self, address: &str) -> io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| TcpStream::connect_timeout(&address, DEADLINE))
    }

    /// Dials where nothing may answer.
    pub fn dial_in_vain(&self, address: &str) -> io::ErrorKind {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| TcpStream::connect_timeout(&address, SILENCE)).expect_err(&address.to_string()).kind()
    }

    /// Dials where maybe nothing answers.
    pub fn dial_for_a_moment(&self, address: &str) -> io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| TcpStream::connect_timeout(&address, SILENCE))
    }

    /// Dials as a local process of a user.
    pub fn dial_as(&self, uid: u32, address: &str) -> io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        self.as_user(uid, || TcpStream::connect_timeout(&address, DEADLINE))
    }

    /// Runs this inside, as a user. Sockets that it makes are the user's.
    pub fn as_user<T: Send>(&self, uid: u32, inside: impl FnOnce() -> T + Send) -> T {
        self.run(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid)).unwrap();
            inside()
        })
    }

    pub fn listen(&self, address: Ipv4Addr) -> TcpListener {
        self.run(|| TcpListener::bind((address, 0)).unwrap())
    }

    pub fn udp(&self, address: Ipv4Addr) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((address, 0)).unwrap());
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

/// The first byte of the next datagram, and whose it is. A signal ends a wait that has a deadline, and another thread may cause
/// one.
pub fn receive(socket: &UdpSocket) -> io::Result<(u8, SocketAddr)> {
    let mut byte = [0];
    loop {
        match socket.recv_from(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received.map(|(_, from)| (byte[0], from)),
        }
    }
}

/// A host: a bridge `br0` with 172.30.0.1/24.
pub struct Host {
    pub net: Namespace,
}

impl Host {
    pub fn new() -> Self {
        let net = Namespace::new();
        net.ip("link add br0 type bridge");
        net.ip("addr add 172.30.0.1/24 dev br0");
        net.ip("link set br0 up");
        Self { net }
    }

    /// A container on `br0`.
    pub fn container(&self, last: u8) -> Container {
        self.container_on("br0", Ipv4Addr::new(172, 30, 0, last))
    }

    /// A container on a bridge.
    pub fn container_on(&self, bridge: &str, ip: Ipv4Addr) -> Container {
        static PORTS: AtomicU32 = AtomicU32::new(1);
        let [a, b, c, d] = ip.octets();
        let container = Container {
            net: Namespace::new(),
            bridge: bridge.into(),
            port: format!("veth{}", PORTS.fetch_add(1, Ordering::Relaxed)),
            ip,
            mac: format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"),
        };
        let Container { net, port, mac, .. } = &container;
        self.net.ip(&format!("link add {port} type veth peer name eth0 netns {}", net.pid()));
        self.net.ip(&format!("link set {port} master {bridge} up"));
        net.ip(&format!("link set eth0 address {mac}"));
        // As Docker does.
        net.run(|| fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
        net.ip(&format!("addr add {ip}/24 dev eth0"));
        net.ip("link set eth0 up");
        net.ip(&format!("route add default via {}", Ipv4Addr::new(a, b, c, 1)));
        net.until("ip", "link show eth0", "state UP");
        self.net.until("bridge", &format!("link show dev {port}"), "state forwarding");
        container
    }

    /// Another bridge, with 172.31.0.1/24.
    pub fn second_bridge(&self) {
        self.net.ip("link add br1 type bridge");
        self.net.ip("addr add 172.31.0.1/24 dev br1");
        self.net.ip("link set br1 up");
    }

    /// Lets packets pass through, as Docker does.
    pub fn forward(&self) {
        self.net.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    }

    /// Another host, which is 192.0.2.2 and knows this one as 192.0.2.1, and nothing of its bridges.
    pub fn neighbour(&self) -> Namespace {
        let neighbour = Namespace::new();
        self.net.ip(&format!("link add up0 type veth peer name eth0 netns {}", neighbour.pid()));
        self.net.ip("addr add 192.0.2.1/24 dev up0");
        self.net.ip("link set up0 up");
        neighbour.ip("addr add 192.0.2.2/24 dev eth0");
        neighbour.ip("link set eth0 up");
        neighbour.until("ip", "link show eth0", "state UP");
        self.net.until("ip", "link show up0", "state UP");
        self.net.ip("route add default via 192.0.2.2");
        neighbour
    }

    pub fn ifindex(&self, name: &str) -> u32 {
        self.net.ip(&format!("-o link show {name}")).split(':').next().unwrap().parse().unwrap()
    }

    /// The hardware address of a link.
    pub fn mac(&self, name: &str) -> String {
        let link = self.net.ip(&format!("-o link show {name}"));
        let (_, rest) = link.split_once("link/ether ").unwrap();
        rest.split(' ').next().unwrap().into()
    }

    pub fn remove_port(&self, container: &Container) {
        self.net.ip(&format!("link del {}", container.port));
    }
}

pub struct Container {
    pub net: Namespace,
    pub bridge: String,
    pub port: String,
    pub ip: Ipv4Addr,
    pub mac: String,
}
