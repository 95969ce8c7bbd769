//! Reads back what the kernel holds. Reading has a socket of its own: the writer's queue stays clear.

use std::io;

use super::{
    Message, Messages, Socket,
    attr::Attributes,
    nftables::{self, FIXED, chain, element, object, table},
};
use crate::ruleset::{Balancer, Family, SetName, TABLE, Value};

/// Keys in one question: each answer is a message of its own, and all must fit the socket's queue.
const KEYS: usize = 512;

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableState {
    /// [`nftables::OWNER`] and [`nftables::PERSIST`].
    pub(crate) flags: u32,
    /// Its comment.
    pub(crate) stamp: String,
    /// A number that no other table has, ever.
    pub(crate) handle: u64,
    /// How many sets, chains and counters it has.
    pub(crate) members: u32,
    /// The port id of the socket that owns it.
    pub(crate) owner: Option<u32>,
}

/// One element as the kernel has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawElement<'a> {
    /// The bytes of its key.
    pub(crate) key: &'a [u8],
    /// The bytes of what it leads to; none in a set.
    pub(crate) data: &'a [u8],
    /// The chain that it leads to; empty where it leads to no chain.
    pub(crate) chain: &'a str,
    /// Its comment; empty for none.
    pub(crate) comment: &'a str,
    /// Packets that matched it, where it counts.
    pub(crate) packets: u64,
    /// Whether it ends a range.
    pub(crate) end: bool,
}

/// Our table of a family; `None` if there is none.
///
/// # Errors
/// The kernel's.
pub(crate) fn table(socket: &mut Socket, family: Family) -> io::Result<Option<TableState>> {
    let mut request = socket.request();
    nftables::get_table(&mut request, family);
    let read = |message: Message<'_>| {
        let attrs = message.attributes(FIXED);
        Some(TableState {
            flags: attrs.be32(table::FLAGS)?,
            stamp: attrs.get(table::USERDATA).and_then(nftables::read_comment).unwrap_or_default().into(),
            handle: attrs.be64(table::HANDLE)?,
            members: attrs.be32(table::USE)?,
            owner: attrs.be32(table::OWNER),
        })
    };
    match socket.ask(&request, read) {
        Ok(tables) => Ok(tables.into_iter().next()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The balancers whose chains there are.
///
/// # Errors
/// The kernel's.
pub(crate) fn balancers(socket: &mut Socket) -> io::Result<Vec<Balancer>> {
    let mut request = socket.request();
    nftables::get_chains(&mut request, Family::Inet);
    socket.ask(&request, |message| {
        let attrs = message.attributes(FIXED);
        let ours = attrs.text(chain::TABLE) == Some(TABLE);
        ours.then(|| Balancer::named(attrs.text(chain::NAME)?)).flatten()
    })
}

/// What `take` makes of each element of a set; nothing if there is no such set.
///
/// # Errors
/// The kernel's.
pub(crate) fn elements<T>(
    socket: &mut Socket,
    set: SetName,
    take: impl FnMut(RawElement<'_>) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut request = socket.request();
    nftables::get_elements(&mut request, set.set());
    match ask(socket, &request, take) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}

/// What `take` makes of the elements with these keys, which must all be there.
///
/// # Errors
/// The kernel's.
pub(crate) fn some_elements<T>(
    socket: &mut Socket,
    set: SetName,
    keys: &[Value],
    mut take: impl FnMut(RawElement<'_>) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for keys in keys.chunks(KEYS) {
        let mut request = socket.request();
        nftables::get_some_elements(&mut request, set.set(), keys);
        found.extend(ask(socket, &request, &mut take)?);
    }
    Ok(found)
}

fn ask<T>(
    socket: &mut Socket,
    request: &Messages,
    mut take: impl FnMut(RawElement<'_>) -> Option<T>,
) -> io::Result<Vec<T>> {
    let lists = socket.ask(request, |message| {
        let list = message.attributes(FIXED).nested(element::LIST)?;
        Some(
            list.into_iter().filter_map(|(_, item)| take(raw_element(Attributes(item))?)).collect::<Vec<_>>(),
        )
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn raw_element(item: Attributes<'_>) -> Option<RawElement<'_>> {
    let packets = || {
        let counter = item.nested(element::EXPRESSION)?.nested(object::EXPRESSION_DATA)?;
        counter.be64(object::PACKETS)
    };
    let data = item.nested(element::DATA);
    Some(RawElement {
        key: item.nested(element::KEY)?.get(element::VALUE)?,
        data: data.and_then(|data| data.get(element::VALUE)).unwrap_or_default(),
        chain: data.and_then(|data| data.nested(element::VERDICT)?.text(element::CHAIN)).unwrap_or_default(),
        comment: item.get(element::USERDATA).and_then(nftables::read_comment).unwrap_or_default(),
        packets: packets().unwrap_or(0),
        end: item.be32(element::FLAGS).is_some_and(|flags| flags & element::INTERVAL_END != 0),
    })
}

/// What a named counter has counted.
///
/// # Errors
/// The kernel's.
pub(crate) fn counted(socket: &mut Socket, (family, name): (Family, &str)) -> io::Result<u64> {
    let mut request = socket.request();
    nftables::get_counter(&mut request, family, name);
    let found = socket
        .ask(&request, |message| message.attributes(FIXED).nested(object::DATA)?.be64(object::PACKETS))?;
    Ok(found.into_iter().sum())
}
