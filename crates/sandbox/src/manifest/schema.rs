use schemars::generate::SchemaSettings;

use super::Manifest;

/// Names the schema, wherever a copy of it lies.
const SCHEMA_ID: &str = "urn:moat:schema:manifest:v1";

/// The JSON Schema of [`Manifest`], as text.
pub fn schema_text() -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Manifest>();
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), "A manifest".into());
    // A schema is plain data and always serialises.
    let mut text = serde_json::to_string_pretty(schema.as_value()).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_schema_of_manifests_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/manifest.v1.json");
        if std::env::var_os("MOAT_UPDATE").is_some() {
            std::fs::write(path, super::schema_text()).unwrap();
        }
        let published = std::fs::read_to_string(path).unwrap();
        let current = published == super::schema_text();
        assert!(current, "run the test with MOAT_UPDATE=1 and review {path}");
    }
}
