//! Who else commands can run as.

use std::collections::BTreeMap;

use moat_guest::{Failure, GuestConfig};

use crate::files::Identity;

/// Everybody by name.
pub(crate) struct Users(BTreeMap<String, User>);

pub(crate) struct User {
    pub(crate) identity: Identity,
    pub(crate) environment: BTreeMap<String, String>,
}

impl Users {
    pub(crate) fn new(config: &GuestConfig) -> Self {
        let users = config.users.iter().map(|(name, user)| {
            let identity = Identity::new(user.uid, user.gid, &user.groups, 0);
            (name.clone(), User { identity, environment: user.environment.clone() })
        });
        Self(users.collect())
    }

    pub(crate) fn find(&self, name: &str) -> Result<&User, Failure> {
        let unknown = || {
            let name: String = name.chars().take(80).collect();
            Failure::Unsupported {
                what: format!("run a command as `{name}`, whom it does not know"),
            }
        };
        self.0.get(name).ok_or_else(unknown)
    }
}
