//! The resolver of a sandbox: answers every name with its synthetic address, and asks nobody.

use std::net::Ipv4Addr;

use simple_dns::rdata::{A, PTR, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE};
use simple_dns::{ResourceRecord, TYPE};

use crate::names::{AddressRange, Names};
use crate::policy::{Host, HostName};

/// The longest query that is read, in bytes.
pub const MAX_QUERY: usize = 1232;
/// Seconds for which a program may keep an answer.
const TTL: u32 = 60;

/// An answer, and what has to be decided because of it.
pub(crate) struct Answer {
    /// The message to send back.
    pub(crate) message: Vec<u8>,
    /// The name whose address was asked for.
    pub(crate) asked: Option<HostName>,
}

/// Answers a query. `None`: it is none, and nothing is said.
pub(crate) fn answer(query: &[u8], names: &Names) -> Option<Answer> {
    if query.len() > MAX_QUERY {
        return None;
    }
    let (id, flags) = header(query)?;
    if flags & 0x8000 != 0 {
        return None;
    }
    // What this parser cannot read (a question of an unknown type, say) gets an answer as well, so
    // that the program need not wait.
    let Ok(packet) = Packet::parse(query) else {
        return Some(Answer { message: failure(id, flags, 1), asked: None });
    };
    let [question] = packet.questions.as_slice() else {
        return Some(Answer { message: failure(id, flags, 1), asked: None });
    };
    let mut reply = Packet::new_reply(id);
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if packet.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions.push(question.clone());
    let mut asked = None;
    if packet.opcode() == OPCODE::StandardQuery && is_internet(question) {
        asked = resolve(question, names, &mut reply);
    } else {
        *reply.rcode_mut() = RCODE::NotImplemented;
    }
    let message = reply.build_bytes_vec().unwrap_or_else(|_| failure(id, flags, 2));
    Some(Answer { message, asked })
}

fn is_internet(question: &Question<'_>) -> bool {
    matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY)
}

fn resolve<'a>(question: &Question<'a>, names: &Names, reply: &mut Packet<'a>) -> Option<HostName> {
    let mut add = |data: RData<'a>| {
        let name = question.qname.clone();
        reply.answers.push(ResourceRecord::new(name, CLASS::IN, TTL, data));
    };
    if matches!(question.qtype, QTYPE::TYPE(TYPE::PTR)) {
        match pointer(&question.qname, names) {
            Some(name) => add(RData::PTR(PTR(name))),
            None => *reply.rcode_mut() = RCODE::NameError,
        }
        return None;
    }
    let Some(name) = host(&question.qname) else {
        *reply.rcode_mut() = RCODE::NameError;
        return None;
    };
    // Nothing but IPv4: an address of IPv6 would lead nowhere, and the records of services could
    // hold the keys of encrypted hellos.
    if !matches!(question.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY) {
        return None;
    }
    if is_localhost(&name) {
        add(RData::A(A { address: Ipv4Addr::LOCALHOST.to_bits() }));
        return None;
    }
    match names.address(&name) {
        Some(address) => add(RData::A(A { address: address.to_bits() })),
        None => *reply.rcode_mut() = RCODE::ServerFailure,
    }
    Some(name)
}

fn is_localhost(name: &HostName) -> bool {
    name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
}

fn host(name: &Name<'_>) -> Option<HostName> {
    let labels: Option<Vec<&str>> =
        name.as_bytes().map(|label| std::str::from_utf8(label).ok()).collect();
    let labels = labels?;
    // A dot within a label would make two labels of one.
    if labels.iter().any(|label| label.contains('.')) {
        return None;
    }
    match Host::parse(&labels.join(".")).ok()? {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    }
}

fn pointer<'a>(name: &Name<'_>, names: &Names) -> Option<Name<'a>> {
    let labels: Vec<&str> =
        name.as_bytes().filter_map(|label| std::str::from_utf8(label).ok()).collect();
    let [d, c, b, a, "in-addr", "arpa"] = labels.as_slice() else { return None };
    let address: Ipv4Addr = [*a, *b, *c, *d].join(".").parse().ok()?;
    let name = match names.name(address) {
        Some((name, _)) => name.as_str().to_owned(),
        None if address == names.range().gateway() => "gateway.moat.internal".to_owned(),
        None => return None,
    };
    Name::new(&name).ok().map(Name::into_owned)
}

/// Identifier and flags of a message.
fn header(message: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d, ..] = *message.get(..12)? else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// An answer without content.
fn failure(id: u16, flags: u16, code: u16) -> Vec<u8> {
    let flags = 0x8080 | (flags & 0x7900) | code;
    let mut message = Vec::with_capacity(12);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&flags.to_be_bytes());
    message.extend_from_slice(&[0; 8]);
    message
}

/// For fuzzing: what would be answered.
#[doc(hidden)]
pub fn answer_for_fuzzing(query: &[u8]) -> Option<Vec<u8>> {
    let names = Names::new(AddressRange::SYNTHETIC, 64);
    answer(query, &names).map(|answer| answer.message)
}

#[cfg(test)]
mod tests;
