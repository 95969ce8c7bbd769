//! What a user's network and its bridge are called.

use std::sync::Arc;

use steppe_model::UserName;

use crate::plan::spread;

/// What the names begin with.
const PREFIX: &str = "steppe-";
/// IFNAMSIZ without its closing zero, netdevice(7).
const INTERFACE_NAME: usize = 15;

/// The name of the Docker network.
pub(super) fn network(user: &UserName) -> String {
    format!("{PREFIX}{user}")
}

/// The name of the bridge's interface: the network's, where the kernel takes so long a name.
pub(super) fn bridge(user: &UserName) -> Arc<str> {
    let name = network(user);
    if name.len() <= INTERFACE_NAME {
        return name.into();
    }
    format!("{PREFIX}{:08x}", spread(user.as_str()) >> 32).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_have_names_that_the_kernel_takes() {
        let name = |user: &str| bridge(&user.parse().unwrap());
        assert_eq!(&*name("alice"), "steppe-alice");
        assert_eq!(&*name("12345678"), "steppe-12345678");
        let long = name(&"x".repeat(63));
        assert!(long.len() == INTERFACE_NAME && long.starts_with(PREFIX), "{long}");
        assert_ne!(name("department-a"), name("department-b"));
    }
}
