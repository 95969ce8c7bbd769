//! The kernel's side of what is in force: makes, adopts, changes and removes the tables. One writer socket, one transaction at a
//! time, each in one send.

use std::{collections::BTreeSet, io, time::Instant};

use crate::{
    error::Error,
    netlink::{
        NETFILTER, Refusal, Socket,
        dump::{self, RawElement, TableState},
        nftables::{self, Made, OWNER, Operation, PERSIST},
    },
    ruleset::{Addresses, Balancer, COUNTERS, Element, Family, SETS, SetName, Value, stamp},
    state::{Closed, Edit, Found, Place, State},
};

/// Who may change the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TableOwner {
    /// This agent alone, if the kernel can keep others off (Linux 6.9); else as with `off`
    Auto,
    /// Anybody; what others change is put back
    Off,
}

/// A transaction that did not happen.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The kernel refused a part of it. Nothing was changed.
    Refused(io::Error),
    /// Nobody knows: the tables must be made anew.
    Unknown(io::Error),
}

/// The tables in the kernel.
pub(crate) struct Kernel {
    writer: Socket,
    reader: Socket,
    addresses: Addresses,
    owned: bool,
    /// The balancers there are. One that nobody needs any more stays until the next start.
    balancers: BTreeSet<Balancer>,
    /// Handle and number of members of each table, as we left them.
    mark: Vec<(u64, u32)>,
}

impl Kernel {
    /// Takes over what is there, or makes it. Gives also what was in force already.
    ///
    /// # Errors
    /// [`Error`], which says what this process or this kernel lacks.
    pub(crate) fn open(addresses: Addresses, owner: TableOwner) -> Result<(Self, State, Closed), Error> {
        let open = || Socket::open(NETFILTER).map_err(Error::netlink("opened"));
        let (balancers, mark) = (BTreeSet::new(), Vec::new());
        let mut kernel = Self { writer: open()?, reader: open()?, addresses, owned: false, balancers, mark };
        let tables = kernel.tables()?;
        if tables.iter().flatten().any(|table| table.owner.is_some()) {
            return Err(Error::Owned);
        }
        let (found, closed, whole) = kernel.read_state()?;
        let mut closed = Closed::found(closed, Instant::now());
        let (state, kept) = found.within(addresses.services);
        let ours = stamp(addresses);
        let same =
            whole && kept && tables.iter().all(|table| table.as_ref().is_some_and(|t| t.stamp == ours));
        if !(same && kernel.take_over(owner, &tables, &state)?) {
            kernel.rebuild(&state, &closed.left(Instant::now()), owner)?;
        }
        kernel.remember()?;
        Ok((kernel, state, closed))
    }

    /// Whether the kernel keeps others off the tables.
    pub(crate) fn owned(&self) -> bool {
        self.owned
    }

    /// The port id of the socket that writes.
    pub(crate) fn writer_port(&self) -> u32 {
        self.writer.port()
    }

    fn tables(&mut self) -> Result<Vec<Option<TableState>>, Error> {
        Family::ALL
            .into_iter()
            .map(|family| dump::table(&mut self.reader, family))
            .collect::<io::Result<_>>()
            .map_err(Error::netlink("read"))
    }

    /// Tries to use the tables as they are, but for their rules: while nobody owned them, a stranger may have changed
    /// those. Gives false when the tables must be made anew.
    fn take_over(
        &mut self,
        owner: TableOwner,
        tables: &[Option<TableState>],
        state: &State,
    ) -> Result<bool, Error> {
        let found = dump::balancers(&mut self.reader).map_err(Error::netlink("read"))?;
        let found: BTreeSet<Balancer> = found.into_iter().collect();
        let needed = balancers(&state.edits());
        if !needed.is_subset(&found) {
            return Ok(false);
        }
        let members = |family| {
            // Each has a chain. There are at most two thousand.
            let balancers = if family == Family::Inet { found.len() as u32 } else { 0 };
            nftables::members(family, self.addresses) + balancers
        };
        let all_there = |(family, table): (_, &Option<TableState>)| {
            table.as_ref().is_some_and(|table| table.members == members(family))
        };
        if !Family::ALL.into_iter().zip(tables).all(all_there) {
            return Ok(false);
        }
        let persistent = tables.iter().flatten().all(|table| table.flags & PERSIST != 0);
        let flags = match owner {
            TableOwner::Auto if persistent => OWNER | PERSIST,
            // Tables that were made without flags can't get them later.
            TableOwner::Auto => return Ok(false),
            TableOwner::Off if persistent => PERSIST,
            TableOwner::Off => 0,
        };
        let mut batch = self.writer.request();
        nftables::begin(&mut batch);
        nftables::add_tables(&mut batch, flags, self.addresses);
        nftables::replace_rules(&mut batch, self.addresses, &needed);
        for balancer in found.difference(&needed) {
            nftables::delete_balancer(&mut batch, *balancer);
        }
        nftables::end(&mut batch);
        let refused = self.writer.transact(&batch).map_err(Error::netlink("taken over"))?;
        let taken = refused.is_empty();
        self.owned = taken && owner == TableOwner::Auto;
        self.balancers = needed;
        Ok(taken)
    }

    /// Makes the tables anew, with everything in them, `closed` too, in one transaction: no packet sees them missing.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn rebuild(
        &mut self,
        state: &State,
        closed: &[Element],
        owner: TableOwner,
    ) -> Result<(), Error> {
        if owner == TableOwner::Auto && self.rebuild_with(state, closed, OWNER | PERSIST)? {
            self.owned = true;
        } else {
            self.rebuild_with(state, closed, 0)?;
            self.owned = false;
        }
        self.remember()
    }

    /// Gives false when the kernel does not know the flags.
    fn rebuild_with(&mut self, state: &State, closed: &[Element], flags: u32) -> Result<bool, Error> {
        let tables = self.tables()?;
        let mut batch = self.writer.request();
        nftables::begin(&mut batch);
        for (family, table) in Family::ALL.into_iter().zip(tables) {
            if table.is_some() {
                nftables::delete_table(&mut batch, family);
            }
        }
        let first_table = batch.next_sequence();
        nftables::add_tables(&mut batch, flags, self.addresses);
        let after_tables = batch.next_sequence();
        let mut made = nftables::add_ruleset(&mut batch, self.addresses);
        let edits = state.edits();
        let mut changes = changes(&edits);
        changes.extend(closed.iter().map(|element| (Operation::Add, element.clone())));
        let balancers = balancers(&edits);
        for balancer in &balancers {
            nftables::add_balancer(&mut batch, *balancer, &mut made);
        }
        nftables::change_elements(&mut batch, &changes);
        nftables::end(&mut batch);
        let refused = self.writer.transact(&batch).map_err(Error::netlink("made"))?;
        let Some(Refusal { sequence, errno }) = refused.first().copied() else {
            self.balancers = balancers;
            return Ok(true);
        };
        if (first_table..after_tables).contains(&sequence) && flags != 0 && NOT_SUPPORTED.contains(&errno) {
            return Ok(false);
        }
        if sequence < first_table && errno == NOT_PERMITTED {
            return Err(Error::Owned);
        }
        let words = made.iter().find(|(made, _)| *made == sequence);
        Err(Error::refused(words.map_or("table steppe", |(_, words)| words), errno))
    }

    /// Puts edits in force, in one transaction.
    ///
    /// # Errors
    /// [`CommitError`].
    pub(crate) fn commit(&mut self, edits: &[Edit]) -> Result<(), CommitError> {
        let mut batch = self.writer.request();
        nftables::begin(&mut batch);
        let mut added = balancers(edits);
        added.retain(|balancer| !self.balancers.contains(balancer));
        for balancer in &added {
            nftables::add_balancer(&mut batch, *balancer, &mut Made::new());
        }
        // Neighbours share a message; edits come in an order that must be kept.
        nftables::change_elements(&mut batch, &changes(edits));
        nftables::end(&mut batch);
        match self.writer.transact(&batch) {
            Ok(refused) => match refused.first() {
                None => {
                    let inet = Family::ALL.iter().position(|family| *family == Family::Inet);
                    if let Some((_, members)) = inet.and_then(|at| self.mark.get_mut(at)) {
                        // Each has a chain.
                        *members += added.len() as u32;
                    }
                    self.balancers.append(&mut added);
                    Ok(())
                }
                Some(refusal) => Err(CommitError::Refused(io::Error::from_raw_os_error(refusal.errno))),
            },
            Err(error) => Err(CommitError::Unknown(error)),
        }
    }

    /// Whether the tables are those that we left: a cheap look, not at the elements.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn is_intact(&mut self) -> Result<bool, Error> {
        Ok(self.look()? == self.mark)
    }

    fn remember(&mut self) -> Result<(), Error> {
        self.mark = self.look()?;
        Ok(())
    }

    fn look(&mut self) -> Result<Vec<(u64, u32)>, Error> {
        Ok(self.tables()?.into_iter().flatten().map(|table| (table.handle, table.members)).collect())
    }

    fn read_state(&mut self) -> Result<(State, Vec<Place>, bool), Error> {
        let mut found = Found::default();
        for set in &SETS {
            self.elements(set.name, |element| {
                found.take(set.name, element);
                None::<()>
            })?;
        }
        let closed = found.closed();
        let (state, whole) = found.into_state();
        Ok((state, closed, whole))
    }

    /// What `take` makes of each element of a set.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn elements<T>(
        &mut self,
        set: SetName,
        take: impl FnMut(RawElement<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        dump::elements(&mut self.reader, set, take).map_err(Error::netlink("read"))
    }

    /// What `take` makes of the elements with these keys, which must all be there.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn some_elements<T>(
        &mut self,
        set: SetName,
        keys: &[Value],
        take: impl FnMut(RawElement<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        dump::some_elements(&mut self.reader, set, keys, take).map_err(Error::netlink("read"))
    }

    /// What the named counters with this name have counted, in both tables.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn counted(&mut self, name: &str) -> Result<u64, Error> {
        let counters = COUNTERS.into_iter().filter(|(_, counter)| *counter == name);
        let counted = counters.map(|counter| dump::counted(&mut self.reader, counter));
        counted.sum::<io::Result<u64>>().map_err(Error::netlink("read"))
    }
}

/// EOPNOTSUPP: flags of a table that the kernel does not know. Before Linux 5.13 it said EINVAL.
const NOT_SUPPORTED: [i32; 2] =
    [rustix::io::Errno::OPNOTSUPP.raw_os_error(), rustix::io::Errno::INVAL.raw_os_error()];
/// EPERM: the table is owned.
const NOT_PERMITTED: i32 = rustix::io::Errno::PERM.raw_os_error();

fn changes(edits: &[Edit]) -> Vec<(Operation, Element)> {
    let mut changes = Vec::with_capacity(edits.len());
    for edit in edits {
        edit.elements(&mut changes);
    }
    changes
}

/// The balancers that edits lead to.
fn balancers(edits: &[Edit]) -> BTreeSet<Balancer> {
    edits.iter().filter_map(Edit::balancer).collect()
}

/// Removes both tables.
///
/// # Errors
/// [`Error::Owned`] while an agent runs.
pub(crate) fn purge() -> Result<(), Error> {
    let mut socket = Socket::open(NETFILTER).map_err(Error::netlink("opened"))?;
    let mut present = Vec::new();
    for family in Family::ALL {
        if dump::table(&mut socket, family).map_err(Error::netlink("read"))?.is_some() {
            present.push(family);
        }
    }
    let mut batch = socket.request();
    nftables::begin(&mut batch);
    for family in present {
        nftables::delete_table(&mut batch, family);
    }
    nftables::end(&mut batch);
    let refused = socket.transact(&batch).map_err(Error::netlink("removed"))?;
    match refused.first() {
        None => Ok(()),
        Some(refusal) if refusal.errno == NOT_PERMITTED => Err(Error::Owned),
        Some(refusal) => Err(Error::netlink("removed")(io::Error::from_raw_os_error(refusal.errno))),
    }
}
