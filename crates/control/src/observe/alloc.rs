//! What Nomad tells of an allocation: the job's own words, and where it runs.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use steppe_model::Protocol;

/// One allocation: what Nomad placed on one node for one group of a job
/// (<https://developer.hashicorp.com/nomad/api-docs/allocations>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alloc {
    /// Its id, a UUID in lower case.
    pub id: Arc<str>,
    /// Its namespace, as Nomad has it: jobs can't change it.
    pub namespace: Arc<str>,
    /// The user that its job's meta names, for those who trust authors of jobs.
    pub user_in_meta: Option<Arc<str>>,
    /// The same of the labels of its containers.
    pub user_in_labels: Option<Arc<str>>,
    /// The id of its job.
    pub job: Arc<str>,
    /// Its group.
    pub group: Arc<str>,
    /// Its name, such as `api.web[0]`.
    pub name: Arc<str>,
    /// The name of its node.
    pub node: Arc<str>,
    /// Whether anything of it may still run.
    pub life: Life,
    /// Its network.
    pub network: AllocNetwork,
    /// The ports that it was given on the host.
    pub ports: Vec<AllocPort>,
    /// What its job asks for.
    pub asks: Vec<Ask>,
    /// Its services, as its job names them.
    pub services: Vec<AllocService>,
}

/// Whether an allocation may still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It was placed, and Nomad wants it to run or to end in its own time.
    Placed,
    /// Nomad wants it to stop, and some of it may still run.
    Stopping,
    /// It ran to its end, failed, was lost, or its tasks were stopped: nothing of it runs.
    Dead,
}

/// An allocation's network (<https://developer.hashicorp.com/nomad/docs/job-specification/network#mode>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllocNetwork {
    /// Each task has what its driver gives it: Docker's containers an address of their own, others the host's.
    Task,
    /// The host's own.
    Host,
    /// A network namespace that all its tasks share, on a bridge of Nomad's.
    Bridge {
        /// Its address; `None` until it has one.
        address: Option<Ipv4Addr>,
        /// How many changes of bridge ports control had taken in when the address was read; see
        /// [`super::Container::ports_known`].
        ports_known: u64,
    },
    /// Another CNI network, which Steppe knows nothing of; its mode as written.
    Other(Arc<str>),
}

/// A port on the host that leads into an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocPort {
    /// Its label.
    pub label: Arc<str>,
    /// The host's address that it is bound to; unspecified (0.0.0.0) for all.
    pub host_ip: Ipv4Addr,
    /// The port on the host.
    pub host_port: u16,
    /// The port in the allocation or container; the same as on the host when the job names none.
    pub to: u16,
}

/// One `connect_to`, as a job's author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Where it was written, for people: such as `tag of service api (job api, group web)` or `meta of task t (job …)`.
    pub origin: Arc<str>,
    /// The grants, comma separated, after interpolation.
    pub text: Arc<str>,
}

/// A service of an allocation's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocService {
    /// Its name after interpolation.
    pub name: Arc<str>,
    /// What `steppe.NAME` the task's, group's and job's meta say, without the prefix; the task's beat the group's, and the
    /// group's the job's.
    pub settings: BTreeMap<String, String>,
    /// Those of its tags that are settings, after interpolation.
    pub tags: Vec<String>,
    /// The protocol and label of its port; the label may also be a number.
    pub port: Option<(Protocol, Arc<str>)>,
}
