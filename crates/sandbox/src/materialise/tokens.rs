//! What in a content is likely a secret, as data, and the search for it.

use moat_core::Secret;

/// A well-known shape of a token: a beginning and what follows it.
struct Shape {
    prefix: &'static str,
    /// Characters that follow at least.
    least: usize,
    what: &'static str,
}

const fn shape(prefix: &'static str, least: usize, what: &'static str) -> Shape {
    Shape { prefix, least, what }
}

const SHAPES: &[Shape] = &[
    shape("ghp_", 36, "GitHub token"),
    shape("gho_", 36, "GitHub token"),
    shape("ghu_", 36, "GitHub token"),
    shape("ghs_", 36, "GitHub token"),
    shape("ghr_", 36, "GitHub token"),
    shape("github_pat_", 22, "GitHub token"),
    shape("glpat-", 20, "GitLab token"),
    shape("AKIA", 16, "AWS access key"),
    shape("ASIA", 16, "AWS access key"),
    shape("sk-ant-", 24, "Anthropic key"),
    shape("sk-proj-", 24, "OpenAI key"),
    shape("sk-svcacct-", 24, "OpenAI key"),
    shape("sk-", 40, "API key"),
    shape("sk_live_", 20, "Stripe key"),
    shape("rk_live_", 20, "Stripe key"),
    shape("xoxb-", 20, "Slack token"),
    shape("xoxp-", 20, "Slack token"),
    shape("xoxa-", 20, "Slack token"),
    shape("xoxs-", 20, "Slack token"),
    shape("AIza", 35, "Google API key"),
    shape("ya29.", 30, "Google access token"),
    shape("npm_", 36, "npm token"),
    shape("pypi-AgEI", 40, "PyPI token"),
    shape("hf_", 34, "Hugging Face token"),
    shape("SG.", 60, "SendGrid key"),
    shape("dop_v1_", 60, "DigitalOcean token"),
    shape("shpat_", 32, "Shopify token"),
    shape("dckr_pat_", 24, "Docker token"),
    shape("AGE-SECRET-KEY-1", 50, "age key"),
];

/// Bytes of one file that are looked at.
const PER_FILE: usize = 1024 * 1024;
/// Bytes that are looked at over all files.
const BUDGET: u64 = 64 * 1024 * 1024;

/// Shorter values would match by chance.
const SHORTEST_KNOWN: usize = 8;

/// The search through one run's files: how much of the budget is spent, and where it ran out.
#[derive(Default)]
pub(super) struct Search {
    known: Vec<Secret>,
    looked_at: u64,
    partly: u64,
    stopped_at: Option<String>,
}

impl Search {
    /// A search that also finds these values.
    pub(super) fn new(known: &[Secret]) -> Self {
        let long = |secret: &&Secret| secret.expose().len() >= SHORTEST_KNOWN;
        Self { known: known.iter().filter(long).cloned().collect(), ..Self::default() }
    }

    /// What in a file is likely a secret.
    pub(super) fn look(&mut self, path: &str, content: &[u8]) -> Option<&'static str> {
        if self.looked_at >= BUDGET {
            self.stopped_at.get_or_insert_with(|| path.to_owned());
            return None;
        }
        let head = content.get(..PER_FILE).unwrap_or(content);
        self.partly += u64::from(head.len() < content.len());
        self.looked_at += head.len() as u64;
        if self.known.iter().any(|secret| contains(head, secret.expose().as_bytes())) {
            return Some("key that this run uses");
        }
        find(head)
    }

    /// For a file that is read in parts, of which `head` is the first.
    pub(super) fn look_at_head(&mut self, path: &str, head: &[u8]) -> Option<&'static str> {
        self.partly += 1;
        self.look(path, head)
    }

    /// What was not looked at, for people.
    pub(super) fn stopped(&self) -> Option<String> {
        let partly = match self.partly {
            0 => None,
            1 => Some("one file was searched in its first 1 MiB only".to_owned()),
            many => Some(format!("{many} files were searched in their first 1 MiB only")),
        };
        let stopped = self.stopped_at.as_ref().map(|path| {
            format!("the search for secrets stopped after {} MiB, at `{path}`", BUDGET >> 20)
        });
        match (stopped, partly) {
            (Some(stopped), Some(partly)) => Some(format!("{stopped}; {partly}")),
            (stopped, partly) => stopped.or(partly),
        }
    }
}

fn contains(content: &[u8], value: &[u8]) -> bool {
    let Some(first) = value.first() else { return false };
    let mut rest = content;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(value) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// What in a content is likely a secret.
fn find(content: &[u8]) -> Option<&'static str> {
    let mut before = b' ';
    for (place, two) in content.windows(2).enumerate() {
        let [first, second] = *two else { continue };
        // Nearly every byte of a file ends here.
        if may_begin(first, second) {
            let rest = content.get(place..).unwrap_or_default();
            if is_private_key(rest) {
                return Some("private key");
            }
            let starts_word = !(before.is_ascii_alphanumeric() || before == b'_');
            if let (true, Some(what)) = (starts_word, token(rest)) {
                return Some(what);
            }
        }
        before = first;
    }
    None
}

/// Whether anything that is searched for begins with these two bytes.
fn may_begin(first: u8, second: u8) -> bool {
    matches!(
        &[first, second],
        b"--"
            | b"gh"
            | b"gi"
            | b"gl"
            | b"AK"
            | b"AS"
            | b"sk"
            | b"rk"
            | b"xo"
            | b"AI"
            | b"ya"
            | b"np"
            | b"py"
            | b"hf"
            | b"SG"
            | b"do"
            | b"sh"
            | b"dc"
            | b"AG"
    )
}

fn token(rest: &[u8]) -> Option<&'static str> {
    let shape = SHAPES.iter().find(|shape| {
        rest.strip_prefix(shape.prefix.as_bytes()).is_some_and(|tail| {
            let body = word(tail);
            body.len() >= shape.least && is_random(body)
        })
    })?;
    Some(shape.what)
}

/// The characters that tokens are made of.
fn word(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .iter()
        .take(512)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
        .count();
    bytes.get(..length).unwrap_or_default()
}

/// Not `xxxx…` and not `…EXAMPLE`, as documentation has them.
fn is_random(body: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in body {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    let different = seen.iter().filter(|seen| **seen).count();
    let is_example = body.windows(7).any(|window| window.eq_ignore_ascii_case(b"example"));
    different >= 8 && !is_example
}

/// `-----BEGIN … PRIVATE KEY-----` with a body, also where the line ends are escaped.
fn is_private_key(rest: &[u8]) -> bool {
    let Some(after) = rest.strip_prefix(b"-----BEGIN ") else { return false };
    let kind = after.get(..48).unwrap_or(after);
    let marker = b"PRIVATE KEY";
    let Some(place) = kind.windows(marker.len()).position(|window| window == marker) else {
        return false;
    };
    let body = after.get(place + marker.len()..).unwrap_or_default();
    let is_body = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let blank = body
        .iter()
        .take_while(|byte| b"- \t\r\n\\\"',KCOLB".contains(byte) || matches!(byte, b'n' | b'r'))
        .count();
    let body = body.get(blank..).unwrap_or_default();
    body.starts_with(b"Proc-Type") || body.iter().take(16).take_while(is_body).count() == 16
}

#[cfg(test)]
mod tests {
    use super::{SHAPES, find, may_begin};

    #[test]
    fn no_shape_is_passed_over() {
        for shape in SHAPES {
            let bytes = shape.prefix.as_bytes();
            assert!(may_begin(bytes[0], bytes[1]), "{}", shape.prefix);
        }
    }

    #[test]
    fn finds_keys_and_tokens_but_no_examples() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx2m";
        let in_json = "\"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG\"";
        let token = format!("token = gh{}_{}", "p", "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5");
        for secret in [key, in_json, &token] {
            assert!(find(secret.as_bytes()).is_some(), "{secret}");
        }
        let placeholder = format!("ghp_{}", "x".repeat(36));
        let inside = format!("foo{}", token.replace("token = ", ""));
        for harmless in [
            "if text.starts_with(\"-----BEGIN PRIVATE KEY-----\") {}",
            "-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEAx2m",
            "AKIAIOSFODNN7EXAMPLE",
            "ask-me-anything-about-the-weather-in-the-city-of-light",
            &placeholder,
            &inside,
        ] {
            assert_eq!(find(harmless.as_bytes()), None, "{harmless}");
        }
    }
}
