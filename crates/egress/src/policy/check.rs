//! The checks that the policy is made of, each of which a test can switch off to show that some
//! case depends on it. In a normal build all of them are constantly on.

/// One check of the policy, of secrets or of signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// A trailing dot of a host name says nothing.
    TrailingDot,
    /// Host names are compared without regard to case.
    Case,
    /// A suffix begins at a label.
    SuffixBoundary,
    /// `*.suffix` is not `suffix`.
    SuffixItself,
    /// A rule for one name is for that name only.
    ExactName,
    /// Names have labels of letters, digits, `-` and `_`, within their lengths.
    NameSyntax,
    /// Hosts that end in a number are addresses, however they are written.
    OddLiterals,
    /// IPv6 addresses that stand for IPv4 ones are taken for these.
    MappedLiterals,
    /// Addresses are reached by number only where a rule names them.
    LiteralsNamed,
    /// A rule holds for its ports.
    Ports,
    /// A rule holds for its scheme.
    Schemes,
    /// A rule holds for its methods.
    Methods,
    /// A rule holds for what is beneath its path.
    Paths,
    /// Paths are compared by whole segments.
    PathSegments,
    /// Paths are decoded before they are compared.
    PathDecoding,
    /// A path that can be read in two ways matches nothing that is allowed.
    PathAmbiguity,
    /// What is denied stays denied, whatever is allowed.
    DenyWins,
    /// A path that can be read in two ways matches everything that is denied.
    DenyAmbiguity,
    /// Every level has to allow.
    EveryLevel,
    /// A lower level may not allow more than a higher one.
    Narrowing,
    /// Agents and calls do not say which files and commands of this host are read.
    Sources,
    /// Names may not lead to addresses that are not public.
    PrivateAddresses,
    /// IPv6 addresses that carry IPv4 ones are judged by these.
    CarriedAddresses,
    /// Addresses that hand out credentials are reached only by number.
    MetadataAddresses,
    /// A conditional rule, a secret or a wish to look makes TLS be opened.
    Opening,
    /// A secret is put in at its own hosts only.
    SecretHosts,
    /// A secret is put in over TLS only, unless plain HTTP is named.
    SecretTls,
    /// A secret is put in only at the places named for it.
    SecretPlaces,
    /// A placeholder on its way to another host is stopped.
    WrongPlace,
    /// Responses are searched for values.
    Echo,
    /// Requests are searched for values in other forms.
    Leak,
    /// SSH signs with the allowed keys only.
    SshKeys,
    /// SSH signs logins only.
    SshLogins,
    /// The server name of TLS is the host.
    ServerName,
    /// TLS to a name has a server name.
    ServerNamePresent,
    /// A server name that is encrypted is refused.
    EncryptedHello,
    /// `Host` and authority of a request are the host that it is sent to.
    HostHeader,
    /// What is neither TLS nor HTTP needs a rule of its own.
    KnownProtocol,
    /// Requests that can be read in two ways are refused.
    Framing,
    /// Heads of requests are bounded.
    HeadSize,
    /// Programs and hosts have to go on.
    Slowness,
    /// What was judged is connected to; names are not looked up again.
    SingleLookup,
    /// The proxy's variables lead to the same decisions.
    ProxyDecides,
    /// Hosts have to be who their certificate says.
    ServerTrust,
    /// Limits are counted.
    Limits,
    /// WebSockets begin with a proper handshake.
    WebSocketHandshake,
}

/// Whether a check is made.
#[cfg(not(test))]
#[inline]
pub(crate) const fn is_on(_: Check) -> bool {
    true
}

#[cfg(test)]
thread_local! {
    static OFF: std::cell::Cell<Option<Check>> = const { std::cell::Cell::new(None) };
}

/// Whether a check is made: always, but for what this thread runs inside [`without`].
#[cfg(test)]
pub(crate) fn is_on(check: Check) -> bool {
    OFF.with(|off| off.get() != Some(check))
}

/// What comes out when one check is not made.
#[cfg(test)]
pub(crate) fn without<T>(check: Check, run: impl FnOnce() -> T) -> T {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            OFF.with(|off| off.set(None));
        }
    }
    let _restore = Restore;
    OFF.with(|off| off.set(Some(check)));
    run()
}
