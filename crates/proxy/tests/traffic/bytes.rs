//! Bytes, ends and resets.

use std::time::Duration;

use proptest::{prelude::*, test_runner::TestRunner};
use steppe_model::Resource;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    control::{Control, client, listener},
    net::{Net, echoed, expect_reset, read_all, slam, soon},
    process::{Proxy, RunDir},
};

/// A proxy with one endpoint, which the test plays.
struct Line {
    net: Net,
    proxy: Proxy,
    control: Control,
    endpoint: TcpListener,
    at: std::net::SocketAddrV4,
    listener: Resource,
    _dir: RunDir,
}

impl Line {
    async fn new() -> Self {
        let (net, dir) = (Net::new(), RunDir::new());
        let proxy = Proxy::start(&dir, &[]).await;
        let mut control = proxy.control().await;
        let (endpoint, address) = net.listen().await;
        let at = net.free();
        let listener = Resource::Listener(listener("web", at, &[address]));
        control.upsert(&[listener.clone(), client(&listener, net.client())]).await;
        Self { net, proxy, control, endpoint, at, listener, _dir: dir }
    }

    /// A connection: the client's end and the endpoint's.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let near = self.net.dial(self.at).await.unwrap();
        let (far, _) = soon(self.endpoint.accept()).await.unwrap();
        (near, far)
    }
}

#[tokio::test]
async fn either_end_may_finish_first_and_the_other_goes_on() {
    let line = Line::new().await;
    for client_first in [true, false] {
        let (near, far) = line.pair().await;
        let (mut first, mut second) = if client_first { (near, far) } else { (far, near) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let (bytes, ended) = read_all(&mut second).await;
        ended.unwrap();
        assert_eq!(bytes, b"question");
        for _ in 0..100 {
            second.write_all(&[7; 10_000]).await.unwrap();
        }
        drop(second);
        let (bytes, ended) = read_all(&mut first).await;
        ended.unwrap();
        assert_eq!(bytes.len(), 1_000_000);
    }
}

#[tokio::test]
async fn a_client_that_finishes_before_the_endpoint_is_found_is_served() {
    let line = Line::new().await;
    let mut near = line.net.dial(line.at).await.unwrap();
    near.write_all(b"all I have").await.unwrap();
    near.shutdown().await.unwrap();
    let (mut far, _) = soon(line.endpoint.accept()).await.unwrap();
    assert_eq!(read_all(&mut far).await.0, b"all I have");
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let mut line = Line::new().await;
    for client_resets in [true, false] {
        let (mut near, mut far) = line.pair().await;
        near.write_all(b"a").await.unwrap();
        assert_eq!(soon(far.read_u8()).await.unwrap(), b'a');
        far.write_all(b"b").await.unwrap();
        assert_eq!(soon(near.read_u8()).await.unwrap(), b'b');
        if client_resets {
            slam(near);
            expect_reset(&mut far).await;
        } else {
            slam(far);
            expect_reset(&mut near).await;
        }
    }
    line.control.until(&line.listener, |state| state.active == 0).await;
}

#[tokio::test]
async fn an_answer_that_was_complete_survives_what_comes_after_it() {
    // A server that answers and closes without having read everything: its kernel sends a reset after the FIN.
    let line = Line::new().await;
    for _ in 0..20 {
        let (mut near, mut far) = line.pair().await;
        far.write_all(&[9; 60_000]).await.unwrap();
        far.shutdown().await.unwrap();
        let mut answer = vec![0; 60_000];
        soon(near.read_exact(&mut answer)).await.unwrap();
        near.write_all(b"this is not read").await.unwrap();
        slam(far);
        let mut rest = vec![];
        // How it ends is the kernel's business; that nothing of the answer is missing is ours.
        let _ = soon(near.read_to_end(&mut rest)).await;
        assert!(answer.iter().all(|&byte| byte == 9) && rest.is_empty());
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    // A server that refuses an upload: it answers and closes with much unread, and its kernel sends a reset, with or without a
    // FIN before it.
    let line = Line::new().await;
    for ends_first in [true, false].into_iter().cycle().take(40) {
        let (mut near, mut far) = line.pair().await;
        let fill =
            async { while timeout(Duration::from_millis(50), near.write(&[1; 65_536])).await.is_ok() {} };
        soon(fill).await;
        soon(far.read_u8()).await.unwrap();
        let sending = async { while near.write_all(&[1; 65_536]).await.is_ok() {} };
        let refusing = async {
            far.write_all(b"413 too large").await.unwrap();
            if ends_first {
                far.shutdown().await.unwrap();
            }
            drop(far);
        };
        soon(async { tokio::join!(sending, refusing) }).await;
        let (answer, ended) = read_all(&mut near).await;
        assert_eq!(answer, b"413 too large", "{ended:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_the_endpoint_talks_is_no_burden() {
    let mut line = Line::new().await;
    for _ in 0..20 {
        let (near, mut far) = line.pair().await;
        drop(near);
        soon(async { while far.write_all(&[1; 100_000]).await.is_ok() {} }).await;
    }
    line.control.until(&line.listener, |state| state.active == 0).await;
}

#[tokio::test]
async fn a_reader_that_reads_nothing_holds_up_its_writer_and_nobody_else() {
    let line = Line::new().await;
    for client_is_slow in [true, false] {
        let (near, far) = line.pair().await;
        let (mut slow, mut fast) = if client_is_slow { (near, far) } else { (far, near) };
        let block = [5; 65_536];
        let mut written = 0u64;
        // Until the writer gets no further.
        while let Ok(count) = timeout(Duration::from_secs(1), fast.write(&block)).await {
            written += count.unwrap() as u64;
            assert!(written < 256 << 20, "nothing held the writer up");
        }
        assert!(resident_kib(&line.proxy) < 64 << 10, "{} KiB", resident_kib(&line.proxy));

        let (mut other_near, mut other_far) = line.pair().await;
        other_near.write_all(b"x").await.unwrap();
        assert_eq!(soon(other_far.read_u8()).await.unwrap(), b'x');

        let reader = tokio::spawn(async move { read_all(&mut slow).await });
        soon(fast.write_all(b"end")).await.unwrap();
        fast.shutdown().await.unwrap();
        let (bytes, ended) = reader.await.unwrap();
        ended.unwrap();
        assert_eq!(bytes.len() as u64, written + 3);
    }
}

fn resident_kib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn urgent_bytes_stall_nothing() {
    let line = Line::new().await;
    let (mut near, mut far) = line.pair().await;
    let mut sent = vec![];
    for round in 0..50u8 {
        near.write_all(&[round; 100]).await.unwrap();
        soon(async {
            while rustix::net::send(&near, b"!", rustix::net::SendFlags::OOB).is_err() {
                near.writable().await.unwrap();
            }
        })
        .await;
        near.write_all(&[round; 100]).await.unwrap();
        sent.extend([[round; 100].as_slice(), b"!", &[round; 100]].concat());
    }
    let mut got = vec![0; sent.len()];
    soon(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, sent);
    assert_eq!(echoed_by_hand(&mut near, &mut far).await, b"ok".as_slice());
}

async fn echoed_by_hand(near: &mut TcpStream, far: &mut TcpStream) -> Vec<u8> {
    far.write_all(b"ok").await.unwrap();
    let mut got = vec![0; 2];
    soon(near.read_exact(&mut got)).await.unwrap();
    got
}

/// What one end sends: sizes of its writes, and whether it pauses for the other end after each.
type Script = Vec<(usize, bool)>;

fn script() -> impl Strategy<Value = Script> {
    let size = prop_oneof![4 => 1..200usize, 3 => 1_000..20_000usize, 1 => 100_000..600_000usize];
    proptest::collection::vec((size, any::<bool>()), 0..12)
}

/// Sends what the script says, and then the end or a reset; reads in pieces of `piece`.
async fn play(
    stream: TcpStream,
    script: Script,
    slams: bool,
    piece: usize,
) -> (Vec<u8>, std::io::Result<()>) {
    let (mut reading, mut writing) = stream.into_split();
    let writer = async move {
        let mut position = 0;
        for (size, pauses) in script {
            let block: Vec<u8> = (position..position + size).map(content).collect();
            position += size;
            if let Err(error) = writing.write_all(&block).await {
                return (writing, Err(error));
            }
            if pauses {
                tokio::task::yield_now().await;
            }
        }
        if !slams {
            // A peer that is gone already is no news here.
            let _ = writing.shutdown().await;
        }
        (writing, Ok(()))
    };
    let reader = async move {
        let (mut bytes, mut buffer) = (vec![], vec![0; piece]);
        loop {
            match reading.read(&mut buffer).await {
                Ok(0) => return (bytes, Ok(()), reading),
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(error) => return (bytes, Err(error), reading),
            }
        }
    };
    let reader = tokio::spawn(reader);
    let (writing, written) = soon(writer).await;
    if slams {
        reader.abort();
        // Both halves must be back before the socket can be closed; a reader that was aborted has dropped its own.
        let _ = reader.await;
        slam_half(writing);
        return (vec![], Ok(()));
    }
    let (bytes, ended, _reading) = soon(reader).await.unwrap();
    // A write that fails takes the socket's error with it, and the read after it says just "end".
    (bytes, written.and(ended))
}

fn slam_half(writing: tokio::net::tcp::OwnedWriteHalf) {
    rustix::net::sockopt::set_socket_linger(writing.as_ref(), Some(Duration::ZERO)).unwrap();
    writing.forget();
}

/// Neighbours differ, and so do blocks.
fn content(position: usize) -> u8 {
    (position.wrapping_mul(2_654_435_761) >> 13) as u8
}

fn total(script: &Script) -> usize {
    script.iter().map(|(size, _)| size).sum()
}

#[test]
fn no_byte_is_lost_or_doubled_however_it_is_cut() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let line = runtime.block_on(Line::new());
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() });
    let plan = (script(), script(), proptest::option::of(any::<bool>()), 1..100_000usize, 1..100_000usize);
    let connections = proptest::collection::vec(plan, 1..5);
    runner
        .run(&connections, |connections| {
            runtime.block_on(async {
                let mut running = vec![];
                for (up, down, slammer, near_piece, far_piece) in connections {
                    let (near, far) = line.pair().await;
                    running.push(tokio::spawn(async move {
                        let near = play(near, up.clone(), slammer == Some(true), near_piece);
                        let far = play(far, down.clone(), slammer == Some(false), far_piece);
                        let (near, far) = tokio::join!(near, far);
                        (up, down, slammer, near, far)
                    }));
                }
                for connection in running {
                    let (up, down, slammer, near, far) = connection.await.unwrap();
                    for (sent, (got, ended), slams, slammed) in [
                        (down, near, slammer == Some(true), slammer == Some(false)),
                        (up, far, slammer == Some(false), slammer == Some(true)),
                    ] {
                        prop_assert!(got.iter().copied().eq((0..got.len()).map(content)), "garbled");
                        prop_assert!(got.len() <= total(&sent));
                        if slammed {
                            prop_assert!(ended.is_err(), "a reset looked like an end");
                        } else if !slams {
                            prop_assert!(ended.is_ok(), "{ended:?}");
                            prop_assert_eq!(got.len(), total(&sent));
                        }
                    }
                }
                Ok(())
            })
        })
        .unwrap();
    let mut line = line;
    runtime.block_on(line.control.until(&line.listener, |state| state.active == 0));
}

/// With descriptors for a pipe each, and with far fewer, when some go through pipes and some are copied.
#[tokio::test]
async fn bytes_in_bulk_arrive_whole_with_pipes_and_without() {
    const CONNECTIONS: u32 = 20;
    const BYTES: usize = 3 << 20;
    for descriptors in [1024, 64 * 2 + CONNECTIONS / 2] {
        let (net, dir) = (Net::new(), RunDir::new());
        let proxy = Proxy::start_with_descriptors(&dir, descriptors).await;
        let mut control = proxy.control().await;
        let endpoint = net.echo_endpoint().await;
        let at = net.free();
        let web = Resource::Listener(listener("web", at, &[endpoint.address]));
        control.upsert(&[web.clone(), client(&web, net.client())]).await;
        let mut running = vec![];
        for _ in 0..CONNECTIONS {
            running.push(tokio::spawn(async move {
                let near = net.dial(at).await.unwrap();
                play(near, vec![(BYTES, false)], false, 100_000).await
            }));
        }
        for one in running {
            let (bytes, ended) = one.await.unwrap();
            ended.unwrap();
            assert_eq!(bytes.len(), BYTES);
            assert!(bytes.into_iter().eq((0..BYTES).map(content)), "garbled");
        }
        control.until(&web, |state| state.active == 0).await;
    }
}

#[tokio::test]
async fn many_connections_at_once_each_get_their_own_bytes() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    let mut running = vec![];
    for number in 0..300u32 {
        running.push(tokio::spawn(async move {
            let mut connection = net.dial(at).await.unwrap();
            for round in 0..5u32 {
                let question = [number.to_be_bytes(), round.to_be_bytes()].concat().repeat(50);
                assert_eq!(echoed(&mut connection, &question).await.unwrap(), question);
            }
        }));
    }
    for one in running {
        one.await.unwrap();
    }
    control.until(&web, |state| state.active == 0 && state.accepted_total == 300).await;
}
