use super::{Ask, Case};
use crate::policy::Scheme::{self, Http, Https, Ssh, Tcp};
use crate::policy::check::Check;

type Rules = &'static [&'static str];
type Text = &'static str;

const fn connect(
    name: Text,
    rules: Rules,
    host: Text,
    port: u16,
    answer: Text,
    check: Check,
) -> Case {
    Case { name, rules, ask: Ask::Connect(host, port, None), answer, check }
}

const fn over(
    name: Text,
    rules: Rules,
    host: Text,
    port: u16,
    scheme: Scheme,
    answer: Text,
    check: Check,
) -> Case {
    Case { name, rules, ask: Ask::Connect(host, port, Some(scheme)), answer, check }
}

const fn get(name: Text, rules: Rules, path: Text, answer: Text, check: Check) -> Case {
    send(name, rules, "GET", path, answer, check)
}

const fn send(
    name: Text,
    rules: Rules,
    method: Text,
    path: Text,
    answer: Text,
    check: Check,
) -> Case {
    Case { name, rules, ask: Ask::Request(Https, method, "a.test", 443, path), answer, check }
}

const fn leads(name: Text, rules: Rules, address: Text, answer: Text, check: Check) -> Case {
    Case { name, rules, ask: Ask::Address("a.test", 443, address), answer, check }
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // Names.
    connect("a trailing dot", &["a.test"], "a.test.", 443, "tunnel", Check::TrailingDot),
    connect("two trailing dots", &["a.test"], "a.test..", 443, "invalid_host", Check::NameSyntax),
    connect("capitals in the host", &["a.test"], "A.TeSt", 443, "tunnel", Check::Case),
    connect("capitals in the rule", &["A.TEST"], "a.test", 443, "tunnel", Check::Case),
    connect("the name as the beginning of another", &["a.test"], "a.test.evil.test", 443, "not_allowed", Check::ExactName),
    connect("the name with letters behind it", &["a.test"], "a.testevil", 443, "not_allowed", Check::ExactName),
    connect("the suffix with letters before it", &["*.a.test"], "nota.test", 443, "not_allowed", Check::SuffixBoundary),
    connect("the suffix with a dash before it", &["*.a.test"], "x-a.test", 443, "not_allowed", Check::SuffixBoundary),
    connect("the suffix itself", &["*.a.test"], "a.test", 443, "not_allowed", Check::SuffixItself),
    connect("the suffix itself with a dot", &["*.a.test"], "a.test.", 443, "not_allowed", Check::SuffixItself),
    connect("no host", &["*"], "", 443, "invalid_host", Check::NameSyntax),
    connect("a user name in it", &["*"], "a.test@evil.test", 443, "invalid_host", Check::NameSyntax),
    connect("a zero byte in it", &["*"], "a.test\0.evil.test", 443, "invalid_host", Check::NameSyntax),
    connect("a line end in it", &["*"], "a.test\r\nx", 443, "invalid_host", Check::NameSyntax),
    connect("an escape in it", &["*"], "a%2etest", 443, "invalid_host", Check::NameSyntax),
    connect("another script's letters", &["*"], "ａ.test", 443, "invalid_host", Check::NameSyntax),
    connect("white space behind it", &["*"], "a.test ", 443, "invalid_host", Check::NameSyntax),
    connect("an empty label", &["*"], "a..test", 443, "invalid_host", Check::NameSyntax),
    connect("a dash before it", &["*"], "-a.test", 443, "invalid_host", Check::NameSyntax),
    connect("a label of 64", &["*"], "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test", 443, "invalid_host", Check::NameSyntax),
    // Addresses by number.
    connect("IPv4 where every name is allowed", &["*"], "127.0.0.1", 443, "address_literal", Check::LiteralsNamed),
    connect("IPv6 where every name is allowed", &["*"], "[::1]", 443, "address_literal", Check::LiteralsNamed),
    connect("IPv4 inside IPv6 where every name is allowed", &["*"], "[::ffff:127.0.0.1]", 443, "address_literal", Check::LiteralsNamed),
    connect("IPv6 without brackets where every name is allowed", &["*"], "::1", 443, "address_literal", Check::LiteralsNamed),
    connect("a public address where every name is allowed", &["*"], "1.1.1.1", 443, "address_literal", Check::LiteralsNamed),
    connect("an address with hexadecimal part", &["*"], "0x7f.1", 443, "address_literal", Check::OddLiterals),
    connect("an address as one number", &["*"], "2130706433", 443, "address_literal", Check::OddLiterals),
    connect("an address with one hexadecimal number", &["*"], "0x7f000001", 443, "address_literal", Check::OddLiterals),
    connect("an address with octal part", &["*"], "0177.0.0.1", 443, "address_literal", Check::OddLiterals),
    connect("an address with two parts", &["*"], "127.1", 443, "address_literal", Check::OddLiterals),
    connect("an address with nothing behind 0x", &["*"], "0x", 443, "address_literal", Check::OddLiterals),
    connect("an address with hexadecimal in capitals", &["*"], "0X7F.0.0.1", 443, "address_literal", Check::OddLiterals),
    connect("five parts", &["*"], "1.2.3.4.5", 443, "invalid_host", Check::OddLiterals),
    connect("a part above 255", &["*"], "1.2.3.256", 443, "invalid_host", Check::OddLiterals),
    connect("a name that ends in a number", &["*"], "a.test.1", 443, "invalid_host", Check::OddLiterals),
    connect("a number too large", &["*"], "4294967296", 443, "invalid_host", Check::OddLiterals),
    connect("a broken octal part", &["*"], "1.2.3.09", 443, "invalid_host", Check::OddLiterals),
    connect("an address with a trailing dot", &["*"], "127.0.0.1.", 443, "address_literal", Check::TrailingDot),
    connect("an address outside the network", &["10.0.0.0/8", "*"], "11.1.2.3", 443, "address_literal", Check::LiteralsNamed),
    connect("a mapped address for one that is named", &["127.0.0.1"], "[::ffff:7f00:1]", 443, "tunnel", Check::MappedLiterals),
    connect("a mapped address for one that is denied", &["[::/0]", "!127.0.0.1", "127.0.0.0/8"], "[::ffff:7f00:1]", 443, "denied_by_rule", Check::MappedLiterals),
    // Ports and protocols.
    connect("another port", &["a.test"], "a.test", 8080, "port_not_allowed", Check::Ports),
    connect("SSH where the web is allowed", &["a.test"], "a.test", 22, "port_not_allowed", Check::Ports),
    connect("plain HTTP's port where TLS is allowed", &["https://a.test"], "a.test", 80, "port_not_allowed", Check::Ports),
    connect("the default port where another is named", &["a.test:8443"], "a.test", 443, "port_not_allowed", Check::Ports),
    connect("another raw port", &["tcp://a.test:5432"], "a.test", 5433, "port_not_allowed", Check::Ports),
    over("plain HTTP where TLS is allowed", &["https://a.test:8080"], "a.test", 8080, Http, "scheme_not_allowed", Check::Schemes),
    over("TLS where plain HTTP is allowed", &["http://a.test:8080"], "a.test", 8080, Https, "scheme_not_allowed", Check::Schemes),
    over("raw bytes where the web is allowed", &["a.test"], "a.test", 443, Tcp, "scheme_not_allowed", Check::Schemes),
    over("TLS where SSH is allowed", &["ssh://a.test"], "a.test", 22, Https, "scheme_not_allowed", Check::Schemes),
    over("SSH where the web is allowed at its port", &["a.test:22"], "a.test", 22, Ssh, "scheme_not_allowed", Check::Schemes),
    // Methods and paths.
    send("another method", &["GET a.test"], "POST", "/", "method_not_allowed", Check::Methods),
    send("the method in small letters", &["GET a.test"], "get", "/", "method_not_allowed", Check::Methods),
    send("CONNECT inside an opened connection", &["GET,POST a.test"], "CONNECT", "/", "method_not_allowed", Check::Methods),
    get("another path", &["a.test/v1"], "/v2", "path_not_allowed", Check::Paths),
    get("the path above", &["a.test/v1/x"], "/v1", "path_not_allowed", Check::Paths),
    get("a longer segment", &["a.test/v1"], "/v10", "path_not_allowed", Check::PathSegments),
    get("a longer segment with a dot", &["a.test/v1"], "/v1.evil/x", "path_not_allowed", Check::PathSegments),
    get("an encoded letter", &["a.test/v1"], "/%76%31/x", "open", Check::PathDecoding),
    get("a path with dots", &["a.test/v1"], "/v1/../admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with encoded dots", &["a.test/v1"], "/v1/%2e%2e/admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with half-encoded dots", &["a.test/v1"], "/v1/.%2E/admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with an encoded slash", &["a.test/v1"], "/v1/..%2fadmin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with an encoded backslash", &["a.test/v1"], "/v1/..%5cadmin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with two slashes", &["a.test/v1"], "/v1//admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with twice encoded dots", &["a.test/v1"], "/v1/%252e%252e/admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with a broken escape", &["a.test/v1"], "/v1/%zz", "ambiguous_path", Check::PathAmbiguity),
    get("a path with parameters behind dots", &["a.test/v1"], "/v1/..;/admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with parameters behind nothing", &["a.test/v1"], "/v1/;x/admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with a zero byte", &["a.test/v1"], "/v1/a%00b", "ambiguous_path", Check::PathAmbiguity),
    get("a path with a byte that is not ASCII", &["a.test/v1"], "/v1/é", "ambiguous_path", Check::PathAmbiguity),
    get("a path with a byte that is not UTF-8", &["a.test/v1"], "/v1/%ff", "ambiguous_path", Check::PathAmbiguity),
    get("a path with backslashes", &["a.test/v1"], "/v1/x\\..\\admin", "ambiguous_path", Check::PathAmbiguity),
    get("a path with a fragment", &["a.test/v1"], "/v1/x#/y", "ambiguous_path", Check::PathAmbiguity),
    // Denials.
    connect("denied by name where all are allowed", &["*", "!a.test"], "a.test", 443, "denied_by_rule", Check::DenyWins),
    connect("denied by suffix", &["a.test", "!*.test"], "a.test", 443, "denied_by_rule", Check::DenyWins),
    connect("denied without a port, allowed raw", &["tcp://a.test:5432", "!a.test"], "a.test", 5432, "denied_by_rule", Check::DenyWins),
    connect("denied by number", &["10.0.0.0/8", "!10.1.0.0/16"], "10.1.2.3", 443, "denied_by_rule", Check::DenyWins),
    get("a denied path", &["a.test", "!a.test/admin"], "/admin/x", "denied_by_rule", Check::DenyWins),
    get("a denied path in capitals", &["a.test", "!a.test/admin"], "/ADMIN", "denied_by_rule", Check::DenyWins),
    get("a denied path, encoded", &["a.test", "!a.test/admin"], "/%61dmin", "denied_by_rule", Check::PathDecoding),
    get("a denied path around a corner", &["a.test", "!a.test/admin"], "/x/../admin", "ambiguous_path", Check::DenyAmbiguity),
    get("a denied path with parameters before it", &["a.test", "!a.test/v1/admin"], "/v1;x/admin", "ambiguous_path", Check::DenyAmbiguity),
    get("a denied path behind two slashes", &["a.test", "!a.test/admin"], "//admin", "ambiguous_path", Check::DenyAmbiguity),
    send("a denied method", &["a.test", "!POST a.test"], "POST", "/", "denied_by_rule", Check::DenyWins),
    send("a denied method in small letters", &["a.test", "!POST a.test"], "post", "/", "denied_by_rule", Check::DenyWins),
    leads("a denied network that a name leads to", &["a.test+private", "!10.0.0.0/8"], "10.0.0.1", "denied_by_rule", Check::DenyWins),
    // What is opened.
    connect("a method opens", &["GET a.test"], "a.test", 443, "open", Check::Opening),
    connect("a path opens", &["a.test/v1"], "a.test", 443, "open", Check::Opening),
    connect("a denied path opens", &["a.test", "!a.test/admin"], "a.test", 443, "open", Check::Opening),
    connect("a denied method opens what is raw", &["tcp://a.test:443", "!POST a.test"], "a.test", 443, "open", Check::Opening),
    // Where names lead.
    leads("to this host", &["a.test"], "127.0.0.1", "private_address", Check::PrivateAddresses),
    leads("to a private network", &["a.test"], "10.0.0.1", "private_address", Check::PrivateAddresses),
    leads("to the end of a private network", &["a.test"], "172.31.255.255", "private_address", Check::PrivateAddresses),
    leads("to a home network", &["a.test"], "192.168.1.1", "private_address", Check::PrivateAddresses),
    leads("to a link", &["a.test"], "169.254.1.1", "private_address", Check::PrivateAddresses),
    leads("to a provider's customers", &["a.test"], "100.64.0.1", "private_address", Check::PrivateAddresses),
    leads("to many hosts", &["a.test"], "224.0.0.1", "private_address", Check::PrivateAddresses),
    leads("to no host", &["a.test"], "0.0.0.0", "private_address", Check::PrivateAddresses),
    leads("to documentation", &["a.test"], "192.0.2.1", "private_address", Check::PrivateAddresses),
    leads("to synthetic addresses", &["a.test"], "198.18.0.1", "private_address", Check::PrivateAddresses),
    leads("to everybody", &["a.test"], "255.255.255.255", "private_address", Check::PrivateAddresses),
    leads("to this host, IPv6", &["a.test"], "::1", "private_address", Check::PrivateAddresses),
    leads("to no host, IPv6", &["a.test"], "::", "private_address", Check::PrivateAddresses),
    leads("to a link, IPv6", &["a.test"], "fe80::1", "private_address", Check::PrivateAddresses),
    leads("to a private network, IPv6", &["a.test"], "fd00::1", "private_address", Check::PrivateAddresses),
    leads("to many hosts, IPv6", &["a.test"], "ff02::1", "private_address", Check::PrivateAddresses),
    leads("to documentation, IPv6", &["a.test"], "2001:db8::1", "private_address", Check::PrivateAddresses),
    leads("to this host, mapped", &["a.test"], "::ffff:127.0.0.1", "private_address", Check::PrivateAddresses),
    leads("to a metadata service", &["a.test"], "169.254.169.254", "private_address", Check::PrivateAddresses),
    leads("to a private address by way of NAT64", &["a.test"], "64:ff9b::7f00:1", "private_address", Check::CarriedAddresses),
    leads("to a private address by way of a local NAT64", &["a.test"], "64:ff9b:1::a00:1", "private_address", Check::CarriedAddresses),
    leads("to a private address by way of 6to4", &["a.test"], "2002:7f00:1::1", "private_address", Check::CarriedAddresses),
    leads("to a private address by way of Teredo", &["a.test"], "2001:0:1234::80ff:fffe", "private_address", Check::CarriedAddresses),
    leads("to a private address by way of ISATAP", &["a.test"], "2600::5efe:a00:1", "private_address", Check::CarriedAddresses),
    leads("to a private address by way of the old compatible form", &["a.test"], "::10.0.0.1", "private_address", Check::CarriedAddresses),
    leads("to a private address by way of the translated form", &["a.test"], "::ffff:0:10.0.0.1", "private_address", Check::CarriedAddresses),
    leads("to the usual metadata service, private allowed", &["a.test+private"], "169.254.169.254", "private_address", Check::MetadataAddresses),
    leads("to another cloud's metadata service, private allowed", &["a.test+private"], "100.100.100.200", "private_address", Check::MetadataAddresses),
    leads("to the IPv6 metadata service, private allowed", &["a.test+private"], "fd00:ec2::254", "private_address", Check::MetadataAddresses),
    leads("to the containers' metadata service, private allowed", &["a.test+private"], "169.254.170.2", "private_address", Check::MetadataAddresses),
];
