//! What a client inside may say to the SSH agent of the host: list the allowed keys, and have
//! logins signed with them. Everything else is answered here, with "failure".
//!
//! The protocol is that of draft-miller-ssh-agent. Nothing that a client sends reaches the agent as
//! it came: messages are read whole, bounded, and written anew.

use std::collections::VecDeque;

use super::ssh_key::SshKey;
use crate::policy::check::{Check, is_on};

/// Bytes of the longest message in either direction, without its length; as OpenSSH has it.
pub const MAX_AGENT_MESSAGE: usize = 256 * 1024;
/// Answers that the agent may owe at once.
const MAX_ASKED: usize = 64;
/// Keys that an agent may list.
const MAX_KEYS: u32 = 1024;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// First byte of a login's message (RFC 4252).
const USERAUTH_REQUEST: u8 = 50;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentStep {
    /// Send these bytes to the agent, and give its answer to [`AgentFilter::from_agent`].
    ToAgent(Vec<u8>),
    /// Send these bytes to the client.
    ToClient(Vec<u8>),
    /// A signature was refused; it is only to be recorded, the answer is a step of its own.
    Refused(SignRefused),
    /// The agent is about to be asked for a signature with this key, as this user of a server.
    Signing(SshKey, String),
}

/// Why something is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignRefused {
    /// The key is not an allowed one.
    Key,
    /// It is no login, but something else that would carry the person's name.
    NoLogin,
}

/// Why a connection to an agent has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// A message is longer than any should be.
    #[error("a message of the SSH agent protocol has more than {MAX_AGENT_MESSAGE} bytes")]
    TooLong,
    /// A client asked too much without waiting for answers.
    #[error("a client of the SSH agent asks on without waiting")]
    TooMany,
    /// A message is not of the protocol.
    #[error("a message of the SSH agent protocol is malformed")]
    Malformed,
    /// The agent answered what was not asked.
    #[error("the SSH agent answered what was not asked")]
    Unasked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Keys,
    Signature,
}

/// Stands between one client inside and the agent of the host. Without sockets: it is given bytes
/// and says what to do.
pub struct AgentFilter {
    keys: Vec<SshKey>,
    client: Frames,
    agent: Frames,
    asked: VecDeque<Asked>,
}

impl AgentFilter {
    /// A filter that lets these keys be used.
    pub fn new(keys: impl Into<Vec<SshKey>>) -> Self {
        let (client, agent) = (Frames::default(), Frames::default());
        Self { keys: keys.into(), client, agent, asked: VecDeque::new() }
    }

    /// Whether the agent still owes an answer. A client that asks on without waiting need not be
    /// read before.
    pub fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Takes bytes of the client.
    ///
    /// # Errors
    ///
    /// The connection has to end.
    pub fn from_client(&mut self, bytes: &[u8]) -> Result<Vec<AgentStep>, AgentError> {
        self.client.push(bytes);
        let mut steps = Vec::new();
        while let Some(message) = self.client.next()? {
            if self.asked.len() >= MAX_ASKED {
                return Err(AgentError::TooMany);
            }
            self.ask(&message, &mut steps);
        }
        Ok(steps)
    }

    /// Takes bytes of the agent.
    ///
    /// # Errors
    ///
    /// The connection has to end.
    pub fn from_agent(&mut self, bytes: &[u8]) -> Result<Vec<AgentStep>, AgentError> {
        self.agent.push(bytes);
        let mut steps = Vec::new();
        while let Some(message) = self.agent.next()? {
            let asked = self.asked.pop_front().ok_or(AgentError::Unasked)?;
            let (kind, _) = message.split_first().ok_or(AgentError::Malformed)?;
            let answer = match (asked, *kind) {
                (Asked::Keys, IDENTITIES_ANSWER) => self.allowed_keys(&message)?,
                (Asked::Signature, SIGN_RESPONSE) => message,
                _ => vec![FAILURE],
            };
            steps.push(AgentStep::ToClient(framed(&answer)));
        }
        Ok(steps)
    }

    fn ask(&mut self, message: &[u8], steps: &mut Vec<AgentStep>) {
        let refused = match message.split_first() {
            Some((&REQUEST_IDENTITIES, [])) => {
                self.asked.push_back(Asked::Keys);
                steps.push(AgentStep::ToAgent(framed(&[REQUEST_IDENTITIES])));
                return;
            }
            Some((&SIGN_REQUEST, body)) => match self.signature(body) {
                Ok((key, user, request)) => {
                    self.asked.push_back(Asked::Signature);
                    steps.push(AgentStep::Signing(key, user));
                    steps.push(AgentStep::ToAgent(framed(&request)));
                    return;
                }
                Err(refused) => Some(refused),
            },
            _ => None,
        };
        steps.extend(refused.map(AgentStep::Refused));
        steps.push(AgentStep::ToClient(framed(&[FAILURE])));
    }

    /// A request for a signature, if it is for a login with an allowed key.
    fn signature(&self, body: &[u8]) -> Result<(SshKey, String, Vec<u8>), SignRefused> {
        let mut reader = Reader(body);
        let (Some(blob), Some(data), Some(flags)) =
            (reader.string(), reader.string(), reader.number())
        else {
            return Err(SignRefused::NoLogin);
        };
        let key = SshKey::of_blob(blob);
        if is_on(Check::SshKeys) && !self.keys.contains(&key) {
            return Err(SignRefused::Key);
        }
        let user = match login(data, blob) {
            Some(user) => user,
            None if !is_on(Check::SshLogins) => String::new(),
            None => return Err(SignRefused::NoLogin),
        };
        let mut request = vec![SIGN_REQUEST];
        put_string(&mut request, blob);
        put_string(&mut request, data);
        request.extend(flags.to_be_bytes());
        Ok((key, user, request))
    }

    /// The agent's list, without the keys that are not allowed.
    fn allowed_keys(&self, message: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut reader = Reader(message.get(1..).unwrap_or_default());
        let count = reader.number().filter(|count| *count <= MAX_KEYS);
        let mut allowed = Vec::new();
        let mut kept: u32 = 0;
        for _ in 0..count.ok_or(AgentError::Malformed)? {
            let blob = reader.string().ok_or(AgentError::Malformed)?;
            let comment = reader.string().ok_or(AgentError::Malformed)?;
            if self.keys.contains(&SshKey::of_blob(blob)) || !is_on(Check::SshKeys) {
                put_string(&mut allowed, blob);
                // A comment is often a path or a person's address, and nobody inside needs it.
                let _ = comment;
                put_string(&mut allowed, b"");
                kept += 1;
            }
        }
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.extend(kept.to_be_bytes());
        answer.extend(allowed);
        Ok(answer)
    }
}

/// The user of a login that is to be signed with this key (RFC 4252, section 7), if it is one:
/// session, 50, user, service, `publickey`, true, algorithm, key.
fn login(data: &[u8], blob: &[u8]) -> Option<String> {
    let mut reader = Reader(data);
    let session = reader.string()?;
    let is_request = reader.byte()? == USERAUTH_REQUEST;
    let user = reader.string()?;
    let is_connection = reader.string()? == b"ssh-connection";
    let method = reader.string()?;
    let has_signature = reader.byte()? == 1;
    let _algorithm = reader.string()?;
    let is_key = reader.string()? == blob;
    // The host-bound form of OpenSSH names the server's key at the end.
    let is_end = match method {
        b"publickey" => reader.0.is_empty(),
        b"publickey-hostbound-v00@openssh.com" => {
            reader.string()?;
            reader.0.is_empty()
        }
        _ => false,
    };
    // A session's id is a hash of 20 to 64 bytes.
    let is_session = (20..=64).contains(&session.len());
    let is_login = is_session && is_request && is_connection && has_signature && is_key && is_end;
    is_login.then(|| String::from_utf8_lossy(user).chars().take(128).collect())
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(message.len() + 4);
    put_string(&mut frame, message);
    frame
}

/// A message is at most [`MAX_AGENT_MESSAGE`] bytes, so that its length always fits.
fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Bytes become messages.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, AgentError> {
        let Some(length) = Reader(&self.0).number() else { return Ok(None) };
        let length = length as usize;
        if length > MAX_AGENT_MESSAGE {
            return Err(AgentError::TooLong);
        }
        if self.0.len() < 4 + length {
            return Ok(None);
        }
        let rest = self.0.split_off(4 + length);
        let frame = std::mem::replace(&mut self.0, rest);
        Ok(Some(frame.get(4..).unwrap_or_default().to_vec()))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (string, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(string)
    }
}
