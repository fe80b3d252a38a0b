use base64::Engine as _;
use moat_harness::image::{ImageError, image_output};
use serde_json::{Value, json};

use crate::cases::{Format, expect_equal, run_all};

#[test]
fn image_sniff_vectors() {
    run_all(&Format { prefix: "image_sniff", recognises, run });
}

fn recognises(case: &Value) -> bool {
    case["input"].get("filename").is_some() && case["input"].get("head_b64").is_some()
}

fn run(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let engine = base64::engine::general_purpose::STANDARD;
    let mut content = engine.decode(input["head_b64"].as_str().unwrap()).unwrap();
    if let Some(size) = input["size"].as_u64() {
        content.resize(size as usize, 0);
    }
    let got = match image_output(input["filename"].as_str().unwrap(), &content) {
        Ok(output) => {
            let url = output[0]["image_url"].as_str().unwrap();
            let (mime, encoded) =
                url.strip_prefix("data:").and_then(|url| url.split_once(";base64,")).unwrap();
            assert_eq!(engine.decode(encoded).unwrap(), content);
            json!({ "ok": true, "mime": mime })
        }
        Err(error) => {
            let class = match error {
                ImageError::TooLarge(_) => "too_large",
                _ => "unsupported",
            };
            json!({ "ok": false, "error": class, "text": error.to_string() })
        }
    };
    expect_equal(&got, &case["expect"])
}
