//! Questions over TCP (RFC 7766), each with its length before it.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    desk::{Desk, Step, Transport},
    limits::Waiting,
};

/// Connections at a time.
const CONNECTIONS: usize = 512;
/// Of one asker.
const CONNECTIONS_OF_ONE: usize = 32;
/// How long a connection may be idle, or a question or an answer be under way (RFC 7766 §6.2.3 wants it to be seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Questions of one connection that may be open at a time; the next is read when one is answered.
const PIPELINED: usize = 16;
/// When no connection can be accepted, it is tried again after this.
const PAUSE: Duration = Duration::from_millis(50);

/// Who has how many connections.
#[derive(Debug, Default)]
struct Places {
    by_asker: Mutex<HashMap<Ipv4Addr, usize>>,
}

impl Places {
    fn take(self: &Arc<Self>, ip: Ipv4Addr) -> Option<Place> {
        let mut by_asker = self.by_asker.lock().unwrap_or_else(PoisonError::into_inner);
        if by_asker.values().sum::<usize>() >= CONNECTIONS {
            return None;
        }
        let count = by_asker.entry(ip).or_default();
        (*count < CONNECTIONS_OF_ONE).then(|| {
            *count += 1;
            Place { places: self.clone(), ip }
        })
    }
}

/// A connection that counts.
struct Place {
    places: Arc<Places>,
    ip: Ipv4Addr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_asker = self.places.by_asker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_asker.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_asker.remove(&self.ip);
            }
        }
    }
}

/// Serves until told to stop; then takes what waits to be accepted, closes, and ends when the questions that were read are answered.
pub(super) async fn serve(desk: Arc<Desk>, listener: TcpListener, stop: watch::Receiver<bool>) {
    let places = Arc::new(Places::default());
    // Each connection has an end of it: when all are gone, so are they.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let take = |accepted: io::Result<(TcpStream, SocketAddr)>| {
        let (stream, SocketAddr::V4(from)) = accepted? else { return Ok(()) };
        let Some(place) = places.take(*from.ip()) else {
            debug!(%from, "too many connections");
            return Ok(());
        };
        let (desk, stop, alive) = (desk.clone(), stop.clone(), alive.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(&desk, *from.ip(), stream, stop).await {
                debug!(%from, %error, "connection ended");
            }
            drop((place, alive));
        });
        io::Result::Ok(())
    };
    let mut stopping = stop.clone();
    loop {
        let taken = tokio::select! {
            biased;
            () = told_to_stop(&mut stopping) => break,
            accepted = listener.accept() => take(accepted),
        };
        if let Err(error) = taken {
            warn!(%error, "can't accept connections");
            sleep(PAUSE).await;
        }
    }
    while let Ok(Ok(())) = timeout(Duration::ZERO, listener.accept()).await.map(take) {}
    drop((listener, alive));
    // Nothing is ever sent: it ends when the last is gone.
    let _ = all_gone.recv().await;
}

/// Answers one connection's questions, each as soon as it can be, until it is closed, idle or told to stop.
async fn converse(
    desk: &Arc<Desk>,
    ip: Ipv4Addr,
    stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut open = Open::new();
    let mut buffer = Vec::new();
    let mut reading = true;
    'questions: while reading || !open.is_empty() {
        // A question is read to its end, whatever is answered meanwhile.
        let mut question = pin!(question(&mut reader));
        loop {
            let idle = sleep(IDLE);
            tokio::select! {
                biased;
                Some(answer) = open.next(), if !open.is_empty() => {
                    // What was not told the answer won't be.
                    if let Ok((answer, _waiting)) = answer {
                        reply(&mut writer, &answer).await?;
                    }
                    if !reading && open.is_empty() {
                        break 'questions;
                    }
                }
                asked = &mut question, if reading && open.len() < PIPELINED => {
                    let Some(packet) = asked? else {
                        reading = false;
                        continue 'questions;
                    };
                    match desk.take(ip, &packet, Transport::Tcp, Instant::now(), &mut buffer) {
                        Step::Reply => reply(&mut writer, &buffer).await?,
                        Step::Silence => return Ok(()),
                        Step::Forward(pending) => desk.forward(pending, later(&mut open)),
                        Step::Await(pending) => desk.await_asker(pending, later(&mut open)),
                    }
                    continue 'questions;
                }
                () = told_to_stop(&mut stop), if reading => {
                    reading = false;
                    continue 'questions;
                }
                () = idle, if open.is_empty() => return Ok(()),
            }
        }
    }
    // A FIN: what was answered arrives.
    writer.shutdown().await
}

/// Answers that come later, each with its place: an asker has as many as it may have, also if it does not read them.
type Open = FuturesUnordered<oneshot::Receiver<(Vec<u8>, Waiting)>>;

/// Takes an answer that comes later, and puts whom it is told to among those that are waited for.
fn later(open: &mut Open) -> impl FnOnce(&[u8], Waiting) + Send + 'static {
    let (tell, told) = oneshot::channel();
    open.push(told);
    move |answer, waiting| {
        // The connection may be gone.
        let _ = tell.send((answer.to_vec(), waiting));
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has nothing more to serve.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The next question; `None` when there will be none.
async fn question(reader: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let length = match reader.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut packet = vec![0; length.into()];
    reader.read_exact(&mut packet).await?;
    Ok(Some(packet))
}

async fn reply(writer: &mut OwnedWriteHalf, answer: &[u8]) -> io::Result<()> {
    // An answer has 65,535 bytes at the most.
    let mut framed = Vec::with_capacity(2 + answer.len());
    framed.extend_from_slice(&(answer.len() as u16).to_be_bytes());
    framed.extend_from_slice(answer);
    // Who does not read does not keep us.
    timeout(IDLE, writer.write_all(&framed)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn an_answer_has_its_place_until_it_is_sent() {
        let (ip, now) = (Ipv4Addr::new(10, 0, 0, 2), Instant::now());
        let limits = Limits::new(10, 1, 10);
        let mut open = Open::new();
        let tell = later(&mut open);
        tell(b"answer", limits.wait(ip, None, now).unwrap());
        assert!(limits.wait(ip, None, now).is_none());
        drop(open);
        assert!(limits.wait(ip, None, now).is_some());
    }
}
