//! The one form of a request that both sides sign.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::aws::AwsRequest;

/// What may stand unencoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn canonical_request(
    request: &AwsRequest<'_>,
    service: &str,
    headers: &[(&str, &[u8])],
    signed: &[String],
    payload: &str,
) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let mut lines =
        vec![request.method.to_owned(), canonical_path(path, service), canonical_query(query)];
    for name in signed {
        let value = header_value(headers, name).unwrap_or_default();
        lines.push(format!("{name}:{value}"));
    }
    lines.extend([String::new(), signed.join(";"), payload.to_owned()]);
    lines.join("\n")
}

/// S3 takes paths as they are, encoded once; all others without dots and empty segments, and
/// encoded once more than they are sent.
fn canonical_path(path: &str, service: &str) -> String {
    if service == "s3" {
        let encode = |segment: &str| {
            let decoded: Vec<u8> = percent_decode_str(segment).collect();
            percent_encode(&decoded, ENCODED).to_string()
        };
        return path.split('/').map(encode).collect::<Vec<_>>().join("/");
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let encoded = segments.iter().map(|segment| percent_encode(segment.as_bytes(), ENCODED));
    let mut canonical: String = encoded.map(|segment| format!("/{segment}")).collect();
    if canonical.is_empty() || path.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&decoded, ENCODED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (encode(key), encode(value)))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
}

/// All values of a header, in their order, without superfluous white space. `None`: there is none.
pub(super) fn header_value(headers: &[(&str, &[u8])], name: &str) -> Option<String> {
    let values = headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let plain = |value: &[u8]| {
        let text = String::from_utf8_lossy(value);
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    let values: Vec<String> = values.map(|(_, value)| plain(value)).collect();
    (!values.is_empty()).then(|| values.join(","))
}
