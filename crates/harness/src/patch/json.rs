use serde_json::{Map, Value};

use super::{Action, Operation, PatchError, quoted};

/// Reads `{"operations": […]}`, `{"operation": {…}}`, one operation, or a list of them.
pub(super) fn parse(input: &str) -> Result<Vec<Operation>, PatchError> {
    let value: Value = serde_json::from_str(input)
        .map_err(|error| PatchError::parse(format!("the patch is not JSON: {error}")))?;
    match value {
        Value::Array(list) => list.into_iter().map(operation).collect(),
        Value::Object(mut object) => {
            match (object.remove("operations"), object.remove("operation")) {
                (Some(Value::Array(list)), _) => list.into_iter().map(operation).collect(),
                (_, Some(one)) if !one.is_null() => Ok(vec![operation(one)?]),
                _ => Ok(vec![operation(Value::Object(object))?]),
            }
        }
        _ => Err(PatchError::parse("the patch is neither an object nor a list")),
    }
}

fn operation(value: Value) -> Result<Operation, PatchError> {
    let Value::Object(mut object) = value else {
        return Err(PatchError::parse("an operation has to be an object"));
    };
    let kind = text(&mut object, "type")?.unwrap_or_default();
    let path = text(&mut object, "path")?.filter(|path| !path.is_empty());
    let diff = object.remove("diff");
    let move_to = text(&mut object, "move_to")?;
    let path = path.ok_or_else(|| PatchError::parse("an operation has no `path`"))?;
    let diff = || match diff {
        Some(Value::String(diff)) => Ok(diff),
        _ => Err(PatchError::parse(format!("the operation on {} has no `diff`", quoted(&path)))),
    };
    let action = match kind.as_str() {
        "create_file" => Action::Create { diff: diff()? },
        "update_file" => Action::Update { diff: diff()?, move_to },
        "delete_file" => Action::Delete,
        other => {
            return Err(PatchError::parse(format!(
                "{} is no operation; `type` is `create_file`, `update_file` or `delete_file`",
                quoted(other)
            )));
        }
    };
    Ok(Operation { path, action, diff_line: None })
}

fn text(object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, PatchError> {
    match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(PatchError::parse(format!("`{name}` of an operation has to be a text"))),
    }
}
