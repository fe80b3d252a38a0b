//! The decisions.

use std::net::IpAddr;

use super::address::AddressClass;
use super::check::{Check, is_on};
use super::host::Host;
use super::level::{LevelRules, Named};
use super::path::RequestPath;
use super::rule::{Attempt, Miss, Scheme};
use super::teach;
use super::verdict::{Allowed, Denial, DenyReason, Handling, Verdict};
use super::{HostPattern, Policy};

impl Policy {
    /// May a connection to a host be made, and what has to be done with its bytes? An allowed
    /// connection says nothing yet about what is spoken over it, if `scheme` is `None`: once that
    /// is known it has to be asked again with it. It says nothing about requests either; where
    /// they are seen, each is asked about with [`Policy::request`].
    pub fn connect(&self, host: &Host, port: u16, scheme: Option<Scheme>) -> Verdict {
        self.judge(Attempt { host, port, scheme, request: None })
    }

    /// May this request be sent? `path` is the request's target without its query. Upgrades
    /// (WebSocket) and `CONNECT` inside an opened connection are requests like others.
    pub fn request(
        &self,
        host: &Host,
        port: u16,
        scheme: Scheme,
        method: &str,
        path: &RequestPath,
    ) -> Verdict {
        self.judge(Attempt { host, port, scheme: Some(scheme), request: Some((method, path)) })
    }

    /// May a connection that is allowed lead to this address? Asked for the very address that is
    /// connected to, so that a name that leads elsewhere the second time gains nothing.
    ///
    /// Addresses that are not public are refused unless every level that allows the connection
    /// has a rule for it that says `+private`, or one that names the address by number. Addresses
    /// of links, metadata services, and those that are no single host, have to be named by number.
    ///
    /// # Errors
    ///
    /// The address is not one that the host may lead to.
    pub fn address(&self, host: &Host, port: u16, address: IpAddr) -> Result<(), Denial> {
        let address = address.to_canonical();
        let by_number =
            Attempt { host: &Host::Address(address), port, scheme: None, request: None };
        if let Some((level, named)) = self.denying(by_number) {
            return Err(teach::denied_by(level, named, by_number));
        }
        let class = AddressClass::of(address);
        if class == AddressClass::Public || !is_on(Check::PrivateAddresses) {
            return Ok(());
        }
        let attempt = Attempt { host, port, scheme: None, request: None };
        let refusing = self.levels.iter().find(|level| {
            let allowing = level.allow.as_ref();
            allowing.is_some_and(|rules| !names_address(rules, attempt, class, address))
        });
        match refusing {
            None if self.allows_something() => Ok(()),
            level => Err(teach::private_address(level, attempt, address, class)),
        }
    }

    fn judge(&self, attempt: Attempt<'_>) -> Verdict {
        if let Some((level, named)) = self.denying(attempt) {
            let mut denial = teach::denied_by(level, named, attempt);
            if attempt.request.is_some_and(|(_, path)| path.is_ambiguous())
                && named.rule.path.is_some()
            {
                denial.reason = DenyReason::AmbiguousPath;
            }
            return Verdict::Deny(denial);
        }
        let mut allowing = None;
        for level in &self.levels {
            let Some(rules) = &level.allow else { continue };
            match first_allowing(rules, attempt) {
                Ok(named) => allowing = Some((level, named)),
                // With the check off, the last level speaks for all.
                Err(_) if !is_on(Check::EveryLevel) => {}
                Err(miss) => {
                    return Verdict::Deny(teach::not_allowed(Some(level), miss, attempt));
                }
            }
        }
        match allowing {
            None => Verdict::Deny(teach::not_allowed(None, Miss::Host, attempt)),
            Some((level, named)) => {
                let handling = self.handling(attempt);
                Verdict::Allow(Allowed { rule: level.show(named), handling })
            }
        }
    }

    fn denying(&self, attempt: Attempt<'_>) -> Option<(&LevelRules, &Named)> {
        let rules = self.levels.iter().flat_map(|level| level.deny.iter().map(move |n| (level, n)));
        rules.filter(|_| is_on(Check::DenyWins)).find(|(_, named)| named.rule.denies(attempt))
    }

    /// The strictest of what the levels ask for, each with its loosest rule; then what secrets and
    /// denials ask for.
    fn handling(&self, attempt: Attempt<'_>) -> Handling {
        let connection = Attempt { request: None, ..attempt };
        let levels = self.levels.iter().filter_map(|level| level.allow.as_ref());
        let asked = levels.filter_map(|rules| loosest(rules, connection)).max();
        let handling = asked.unwrap_or(Handling::Open);
        if is_on(Check::Opening) && self.has_to_be_seen(connection, handling) {
            return Handling::Open;
        }
        handling
    }

    fn has_to_be_seen(&self, connection: Attempt<'_>, handling: Handling) -> bool {
        let mut denials = self.levels.iter().flat_map(|level| &level.deny);
        let is_denied_in_part =
            denials.any(|named| named.rule.is_conditional() && named.rule.may_deny(connection));
        if is_denied_in_part || handling == Handling::Raw {
            return is_denied_in_part;
        }
        let Attempt { host, port, scheme, .. } = connection;
        let mut opened = self.levels.iter().flat_map(|level| &level.open);
        self.secrets.iter().any(|secret| secret.may_be_for(host, port, scheme))
            || opened.any(|pattern| pattern.matches(host))
    }
}

fn first_allowing<'a>(rules: &'a [Named], attempt: Attempt<'_>) -> Result<&'a Named, Miss> {
    let mut nearest = Miss::Host;
    for named in rules {
        match named.rule.allows(attempt) {
            Ok(()) => return Ok(named),
            Err(miss) => nearest = nearest.max(miss),
        }
    }
    Err(nearest)
}

fn loosest(rules: &[Named], connection: Attempt<'_>) -> Option<Handling> {
    let allowing = rules.iter().filter(|named| named.rule.allows(connection).is_ok());
    let handling = |named: &Named| match (named.rule.is_raw(), named.rule.is_conditional()) {
        (true, _) => Handling::Raw,
        (false, false) => Handling::Tunnel,
        (false, true) if is_on(Check::Opening) => Handling::Open,
        (false, true) => Handling::Tunnel,
    };
    allowing.map(handling).min()
}

/// Whether one of the rules lets the host lead to this address.
fn names_address(
    rules: &[Named],
    attempt: Attempt<'_>,
    class: AddressClass,
    address: IpAddr,
) -> bool {
    rules.iter().any(|named| {
        let rule = &named.rule;
        let is_by_number = matches!(rule.host, HostPattern::Addresses(_));
        if is_by_number {
            return rule.host.names(address) && rule.allowed_ports().any(|p| p == attempt.port);
        }
        rule.private && class.is_private() && rule.allows(attempt).is_ok()
    })
}
