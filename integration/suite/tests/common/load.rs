//! New connections all the time, from a container to a service, each looked at: for showing that nobody notices an upgrade.

use std::{
    collections::BTreeMap,
    fmt,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use steppe_testbed::{Container, Outcome, eventually, now_ns, read_name};

/// Each waits for its own connection, and so one that is slow does not stop the others.
const THREADS: usize = 4;
/// Between two connections of a thread: with four places the machine is busy, and not starved.
const INTERVAL: Duration = Duration::from_millis(4);
/// A client gives up after this. The second retransmission of a SYN comes after 3 s, the third after 7 s.
const GIVES_UP: Duration = Duration::from_secs(5);

/// Losses that a message tells one by one.
const SHOWN: usize = 20;

/// The seconds and their parts of a time, as it is compared by eye.
pub fn clock(ns: u64) -> String {
    format!("{:.4} s", (ns % 1_000_000_000_000) as f64 / 1e9)
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Just before connect(2).
    pub start_ns: u64,
    /// How long connect(2) took.
    pub connect: Duration,
    /// What became of it.
    pub end: End,
}

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The server told its name.
    Served,
    /// connect(2) failed.
    NotConnected(String),
    /// It was open, and broke before the server told its name.
    Broken(String),
}

/// A container that makes connections until it is told to stop.
#[derive(Debug)]
pub struct Load {
    name: String,
    tried: Arc<Mutex<Vec<Tried>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins.
    pub fn start(name: &str, from: &Container, to: SocketAddr) -> Self {
        let tried = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..THREADS).map(|_| {
            let (from, tried, stop) = (from.clone(), tried.clone(), stop.clone());
            std::thread::spawn(move || from.enter(|| go_on(to, &tried, &stop)))
        });
        let threads = threads.collect();
        Self { name: name.to_owned(), tried, stop, threads }
    }

    fn count(&self) -> usize {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until there are `more` connections than now.
    #[track_caller]
    pub fn wait_more(&self, more: usize, deadline: Duration) {
        self.wait_count(self.count() + more, deadline);
    }

    /// Waits until there have been so many.
    #[track_caller]
    pub fn wait_count(&self, wanted: usize, deadline: Duration) {
        eventually(deadline, &format!("{} has {wanted} connections", self.name), || {
            let count = self.count();
            if count >= wanted { Ok(()) } else { Err(format!("{count}")) }
        });
    }

    /// The first that ended like this, if one did.
    pub fn first(&self, end: &End) -> Option<Tried> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.iter().find(|tried| tried.end == *end).cloned()
    }

    /// Ends, and tells what came of all of them.
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("it does not panic");
        }
        let tried = std::mem::take(&mut *self.tried.lock().unwrap_or_else(PoisonError::into_inner));
        Tally { name: self.name, tried }
    }
}

fn go_on(to: SocketAddr, tried: &Mutex<Vec<Tried>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let one = dial(to);
        tried.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        std::thread::park_timeout(INTERVAL.saturating_sub(began.elapsed()));
    }
}

fn dial(to: SocketAddr) -> Tried {
    let start_ns = now_ns();
    let began = Instant::now();
    let connected = TcpStream::connect_timeout(&to, GIVES_UP);
    let connect = began.elapsed();
    let end = match connected.map_err(|error| Outcome::of(&error)) {
        // It was open and was cut before connect(2) had returned.
        Err(Outcome::Reset) => End::Broken(Outcome::Reset.to_string()),
        Err(outcome) => End::NotConnected(outcome.to_string()),
        Ok(stream) => match read_name(stream, GIVES_UP) {
            Err(error) => End::Broken(Outcome::of(&error).to_string()),
            Ok(_) => End::Served,
        },
    };
    Tried { start_ns, connect, end }
}

/// What came of a load.
#[derive(Debug)]
pub struct Tally {
    name: String,
    /// Every connection.
    pub tried: Vec<Tried>,
}

impl Tally {
    /// Those that were not served.
    pub fn lost(&self) -> impl Iterator<Item = &Tried> {
        self.tried.iter().filter(|tried| tried.end != End::Served)
    }

    /// The longest that a connect(2) took.
    pub fn worst(&self) -> Duration {
        self.tried.iter().map(|tried| tried.connect).max().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ends: BTreeMap<&End, usize> = BTreeMap::new();
        self.tried.iter().for_each(|tried| *ends.entry(&tried.end).or_default() += 1);
        let late = self.tried.iter().filter(|tried| tried.connect > Duration::from_millis(500)).count();
        write!(f, "{}: {} connections", self.name, self.tried.len())?;
        for (end, count) in ends {
            write!(f, ", {count} {end:?}")?;
        }
        write!(f, "; slowest connect {:?}, {late} above 0.5 s", self.worst())?;
        for lost in self.lost().take(SHOWN) {
            write!(f, "\n  {}: {:?}", clock(lost.start_ns), lost.end)?;
        }
        Ok(())
    }
}
