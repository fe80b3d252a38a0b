//! How a case of the table is run, as it is and with what it hangs on taken away.

use std::time::Duration;

use super::world::{Setup, World, ask, hear, say, tls};
use crate::limits::EgressLimits;
use crate::policy::check::{Check, without};

/// The value of the secret of cases that have one.
pub(super) const VALUE: &str = "v-4l/u3+0f.the=secret";

/// What a program does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Says something on a connection to `host:port`.
    Plain(&'static str, u16, &'static str),
    /// TLS on a connection to `host:port` asking for a name (none if empty), then says something.
    Tls(&'static str, u16, &'static str, &'static str),
    /// Says something to the proxy.
    Proxy(&'static str),
    /// Asks the proxy for a connection, then TLS asking for a name, then says something.
    Connect(&'static str, &'static str, &'static str),
    /// Begins TLS with a hello that carries an encrypted one.
    EncryptedHello(&'static str),
}

/// What comes of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// An answer of the host with this status and this in it.
    Answered(&'static str, &'static str),
    /// Raw bytes of the host with this in them.
    Echoed(&'static str),
    /// An answer of the host, and only this address was connected to.
    Led(&'static str),
    /// Refused for this reason, and no host is connected to.
    Refused(&'static str),
    /// The same, with this status and this sentence in the answer.
    Replied(&'static str, &'static str),
    /// Allowed, and failed for this reason before a host was connected to.
    Failed(&'static str),
    /// The host saw this, and the program sees the placeholder instead.
    Sent(&'static str),
    /// The host did not see this.
    Unsent(&'static str),
    /// Refused for this reason after a host was connected to.
    Broken(&'static str),
}

/// What is taken away to see that the outcome hangs on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mutation {
    /// One check is not made.
    Without(Check),
    /// Another policy.
    Allowing(&'static [&'static str]),
    /// Nothing: other cases show it.
    None,
}

pub(super) struct Case {
    name: &'static str,
    setup: Setup,
    act: Act,
    outcome: Outcome,
    mutation: Mutation,
}

impl Case {
    pub(super) fn new(
        name: &'static str,
        allow: &'static [&'static str],
        act: Act,
        outcome: Outcome,
        mutation: Mutation,
    ) -> Self {
        let limits = EgressLimits {
            header_bytes: 16 << 10,
            request_wait: Duration::from_millis(400),
            response_wait: Duration::from_millis(400),
            idle: Duration::from_millis(400),
            ..EgressLimits::default()
        };
        let setup = Setup { allow: allow.to_vec(), limits, ..Setup::default() };
        Self { name, setup, act, outcome, mutation }
    }

    pub(super) fn lookups(mut self, lookups: &[&'static str]) -> Self {
        self.setup.lookups = lookups.to_vec();
        self
    }

    pub(super) fn secret(mut self, spec: &'static str, value: &'static str) -> Self {
        self.setup.secrets.push((spec, value));
        self
    }

    pub(super) fn limits(mut self, change: impl FnOnce(&mut EgressLimits)) -> Self {
        change(&mut self.setup.limits);
        self
    }

    pub(super) fn without(mut self, check: Check) -> Self {
        self.mutation = Mutation::Without(check);
        self
    }

    pub(super) fn allowing(mut self, allow: &'static [&'static str]) -> Self {
        self.mutation = Mutation::Allowing(allow);
        self
    }

    pub(super) fn only_refused(mut self) -> Self {
        self.mutation = Mutation::None;
        self
    }

    /// Runs it with what it hangs on taken away.
    fn mutated(&self) -> Option<Result<(), String>> {
        match self.mutation {
            Mutation::Without(check) => Some(without(check, || run(&self.setup, self))),
            Mutation::Allowing(allow) => {
                let setup = Setup { allow: allow.to_vec(), ..self.setup.clone() };
                Some(run(&setup, self))
            }
            Mutation::None => None,
        }
    }
}

/// Runs all cases, and shows that each fails without what it hangs on.
pub(super) fn check_all(cases: Vec<Case>) {
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(found) = run(&case.setup, case) {
            failures.push(format!("{}: {found}", case.name));
            continue;
        }
        match case.mutated() {
            Some(Ok(())) => {
                failures.push(format!("{}: right also with {:?}", case.name, case.mutation));
            }
            Some(Err(_)) => println!("ok `{}`; fails with {:?}", case.name, case.mutation),
            None => println!("ok `{}`", case.name),
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn run(setup: &Setup, case: &Case) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(setup).await;
        let reply = act(&world, case.act).await;
        let decisions = world.decisions();
        let dialled = world.dialled.lock().unwrap().clone();
        let last = decisions.last();
        let reason = last.and_then(|one| one.reason.as_deref());
        let is_allowed = last.is_some_and(|one| one.allowed);
        let has_status = |status: &str| reply.starts_with(&format!("HTTP/1.1 {status}"));
        let seen = world.seen.lock().unwrap().join("\n");
        let is_right = match case.outcome {
            Outcome::Sent(text) => {
                let names = last.is_some_and(|one| one.secrets == ["KEY"]);
                has_status("200") && seen.contains(text) && !reply.contains(text) && names
            }
            Outcome::Unsent(text) => has_status("200") && !seen.is_empty() && !seen.contains(text),
            Outcome::Answered(status, text) => {
                has_status(status) && reply.contains(text) && is_allowed
            }
            Outcome::Echoed(text) => reply.contains(text) && is_allowed,
            Outcome::Led(address) => {
                let led: Vec<_> = dialled.iter().map(|one| one.ip().to_string()).collect();
                has_status("200") && led == [address] && is_allowed
            }
            Outcome::Refused(expected) => {
                reason == Some(expected) && dialled.is_empty() && !has_status("2")
            }
            Outcome::Replied(status, text) => {
                has_status(status) && reply.contains(text) && reason.is_some() && dialled.is_empty()
            }
            Outcome::Failed(expected) => reason == Some(expected) && dialled.is_empty(),
            Outcome::Broken(expected) => {
                let is_once = last.is_some_and(|one| one.count == 1);
                reason == Some(expected) && is_once && !dialled.is_empty()
            }
        };
        if decisions.iter().any(|one| format!("{one:?}").contains(VALUE)) {
            return Err(format!("a value stands in a decision: {decisions:?}"));
        }
        if is_right {
            return Ok(());
        }
        let reply = reply.escape_debug().to_string();
        Err(format!("{:?}: {reason:?} {dialled:?} {reply:.300}", case.outcome))
    })
}

async fn act(world: &World, act: Act) -> String {
    match act {
        Act::Plain(host, port, text) => say(world.connect(host, port), &world.text(text)).await,
        Act::Tls(host, port, name, text) => {
            match tls(world.connect(host, port), name, &["http/1.1"], None).await {
                Ok(stream) => say(stream, &world.text(text)).await,
                Err(error) => format!("TLS: {error}"),
            }
        }
        Act::Proxy(text) => say(world.proxy(), &world.text(text)).await,
        Act::Connect(target, name, text) => {
            let mut stream = world.proxy();
            let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
            let reply = ask(&mut stream, request.as_bytes()).await;
            if !reply.starts_with("HTTP/1.1 200") {
                return reply + &hear(&mut stream).await;
            }
            match tls(stream, name, &["http/1.1"], None).await {
                Ok(stream) => say(stream, &world.text(text)).await,
                Err(error) => format!("TLS: {error}"),
            }
        }
        Act::EncryptedHello(host) => say(world.connect(host, 443), &encrypted_hello(host)).await,
    }
}

/// A hello that asks for a host in the clear and for another in secret.
fn encrypted_hello(host: &str) -> Vec<u8> {
    let length = host.len() as u16;
    let mut extensions = [[0, 0], (length + 5).to_be_bytes(), (length + 3).to_be_bytes()].concat();
    extensions.push(0);
    extensions.extend(length.to_be_bytes());
    extensions.extend(host.as_bytes());
    extensions.extend([0xfe, 0x0d, 0, 4, 1, 2, 3, 4]);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut bytes = vec![22, 3, 1];
    bytes.extend((body.len() as u16 + 4).to_be_bytes());
    bytes.extend([1, 0]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}
