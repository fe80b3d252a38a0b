//! Signatures that Amazon Web Services publishes: its test suite of signature version 4, and the
//! examples of S3's documentation.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use moat_core::Secret;

use crate::policy::{Host, Scheme};
use crate::secret::{LineageKey, SecretProblem, SecretSet, Towards};
use crate::sign::{AwsPayload, AwsRequest, AwsSignError, AwsSigned, AwsSigner, sha256_hex};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const AMAZON: &str = "example.amazonaws.com";

fn towards(spec: &str, value: &str) -> Towards {
    let spec = spec.parse().unwrap();
    let values = BTreeMap::from([("AWS".to_owned(), Secret::new(value))]);
    let set = SecretSet::new(&[spec], &LineageKey::new([7; 32]), values).unwrap();
    set.towards(&Host::parse(AMAZON).unwrap(), 443, Scheme::Https)
}

fn suite() -> Towards {
    towards(
        "AWS=env:AWS@*.amazonaws.com;sign=aws:us-east-1:service",
        "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    )
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn header<'a>(signed: &'a AwsSigned, name: &str) -> &'a str {
    &signed.set.iter().find(|(other, _)| *other == name).unwrap().1
}

/// Method, target, headers beside the host, body, signed headers, signature.
type Vector = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

const SUITE: &[Vector] = &[
    (
        "GET",
        "/",
        &[("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")],
        "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    (
        "GET",
        "/",
        &[
            ("My-Header1", "value4"),
            ("My-Header1", "value1"),
            ("My-Header1", "value3"),
            ("My-Header1", "value2"),
        ],
        "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    (
        "GET",
        "/",
        &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[],
        "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    ("GET", "/ሴ", &[], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("GET", "/", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    // Paths that are one after their dots and empty segments are gone.
    ("GET", "/./", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("GET", "//", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "GET",
        "/example1/example2/../..",
        &[],
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    (
        "GET",
        "/?Param1=value1",
        &[],
        "",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    (
        "GET",
        "/?Param2=value2&Param1=value1",
        &[],
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "GET",
        "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[],
        "",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    ("GET", "/?ሴ=bar", &[], "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    (
        "GET",
        "/?%E1%88%B4=bar",
        &[],
        "",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    ("POST", "/", &[], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    (
        "POST",
        "/",
        &[("My-Header1", "value1")],
        "",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    (
        "POST",
        "/",
        &[("My-Header1", "VALUE1")],
        "",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    (
        "POST",
        "/?Param1=value1",
        &[],
        "",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    (
        "POST",
        "/?%40%23%24%25%5E=&%2B=%2F%2C%3F%3E%3C%60%22%3B%3A%5C%7C%5D%5B%7B%7D",
        &[],
        "",
        "66c82657c86e26fb25238d0e69f011edc4c6df5ae71119d7cb98ed9b87393c1e",
    ),
    ("POST", "/?p=", &[], "", "e71688addb58a26418614085fb730ba3faa623b461c17f48f2fbdb9361b94a9b"),
    (
        "POST",
        "/",
        &[("Content-Type", "application/x-www-form-urlencoded")],
        "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
    (
        "POST",
        "/",
        &[("Content-Type", "application/x-www-form-urlencoded; charset=utf8")],
        "Param1=value1",
        "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
    ),
];

#[test]
fn signatures_of_the_test_suite_vector() {
    let towards = suite();
    for (method, target, headers, body, signature) in SUITE {
        // What a client inside sends: signed with its placeholder, at another time.
        let names: Vec<String> = headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        let signer = towards.aws_signer(None).unwrap().unwrap();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=x/20010101/us-east-1/service/aws4_request, \
             SignedHeaders=host;{}, Signature=0",
            names.join(";")
        );
        let mut sent: Vec<(&str, &[u8])> = vec![
            ("Host", AMAZON.as_bytes()),
            ("X-Amz-Date", b"20010101T000000Z"),
            ("Authorization", authorization.as_bytes()),
            ("Accept", b"*/*"),
        ];
        sent.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        assert!(AwsSigner::needs_hash(&sent));
        let hash = sha256_hex(body.as_bytes());
        let payload = AwsPayload::Hash(&hash);
        let request = AwsRequest { method, target, headers: &sent, payload };
        let signed = signer.sign(&request, at(1_440_938_160)).unwrap();
        let authorization = header(&signed, "authorization");
        assert!(
            authorization.ends_with(&format!("Signature={signature}")),
            "{target} {authorization}"
        );
        assert!(authorization.contains("Credential=AKIDEXAMPLE/20150830/us-east-1/service/"));
        assert_eq!(header(&signed, "x-amz-date"), "20150830T123600Z");
    }
}

#[test]
fn signatures_of_s3_vector() {
    let key = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let towards = towards("AWS=env:AWS@*.amazonaws.com;sign=aws:us-east-1:s3", key);
    let put = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    type Example = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static str,
        &'static str,
    );
    let examples: [Example; 4] = [
        (
            "GET",
            "/test.txt",
            &[("range", "bytes=0-9")],
            EMPTY,
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            put,
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle",
            &[],
            EMPTY,
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            &[],
            EMPTY,
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ];
    for (method, target, headers, hash, names, signature) in examples {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=x/20010101/us-east-1/s3/aws4_request,SignedHeaders={names},Signature=0"
        );
        let mut sent: Vec<(&str, &[u8])> = vec![
            ("host", b"examplebucket.s3.amazonaws.com"),
            ("authorization", authorization.as_bytes()),
            ("x-amz-content-sha256", hash.as_bytes()),
        ];
        sent.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        assert!(!AwsSigner::needs_hash(&sent));
        let payload = AwsPayload::AsDeclared;
        let request = AwsRequest { method, target, headers: &sent, payload };
        let signer = towards.aws_signer(None).unwrap().unwrap();
        let signed = signer.sign(&request, at(1_369_353_600)).unwrap();
        let wanted = format!("SignedHeaders={names}, Signature={signature}");
        let authorization = header(&signed, "authorization");
        assert!(authorization.ends_with(&wanted), "{target}: {authorization}");
    }
}

#[test]
fn who_signs_and_what_is_not_signed() {
    let towards = towards("AWS=env:AWS@*.amazonaws.com;sign=aws", "AKID:secret/secret:token/token");
    let authorization = |key: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={key}/20010101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
        )
    };
    // Without a placeholder, and without a region of its own, it is somebody else's request.
    assert!(towards.aws_signer(None).unwrap().is_none());
    assert!(towards.aws_signer(Some(&authorization("AKIDOTHER"))).unwrap().is_none());
    let spec = "AWS=env:AWS@*.amazonaws.com;sign=aws".parse().unwrap();
    let set = SecretSet::new(&[spec], &LineageKey::new([7; 32]), BTreeMap::new()).unwrap();
    let environment = set.environment();
    assert_eq!(environment["AWS_ACCESS_KEY_ID"], environment["AWS"]);
    let authorization = authorization(&environment["AWS"]);
    let valueless = set.towards(&Host::parse(AMAZON).unwrap(), 443, Scheme::Https);
    let missing = SecretProblem::Missing { name: "AWS".to_owned() };
    assert_eq!(valueless.aws_signer(Some(&authorization)).unwrap_err(), missing);
    // A key that signs is not put in, wherever its placeholder stands.
    assert_eq!(towards.header("x", environment["AWS"].as_bytes()), Ok(None));

    let signer = towards.aws_signer(Some(&authorization)).unwrap().unwrap();
    let sign = |target: &str, hash: &str| {
        let headers: [(&str, &[u8]); 3] = [
            ("host", AMAZON.as_bytes()),
            ("authorization", authorization.as_bytes()),
            ("x-amz-content-sha256", hash.as_bytes()),
        ];
        let payload = AwsPayload::AsDeclared;
        signer.sign(&AwsRequest { method: "PUT", target, headers: &headers, payload }, at(0))
    };
    let signed = sign("/", "UNSIGNED-PAYLOAD").unwrap();
    assert_eq!(header(&signed, "x-amz-security-token"), "token/token");
    assert!(header(&signed, "authorization").contains(
        "AKID/19700101/eu-west-1/sqs/aws4_request, \
         SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    ));
    assert!(!format!("{signed:?}").contains("token/token"));
    assert_eq!(
        sign("/", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD").unwrap_err(),
        AwsSignError::Streaming
    );
    assert_eq!(sign("/?X-Amz-Signature=0", EMPTY).unwrap_err(), AwsSignError::Presigned);
}
