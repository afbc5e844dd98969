//! As much of JSON Schema as the server's documents use.

use serde_json::Value;
use std::collections::BTreeSet;

/// A document whose schemas refer to each other, and what was seen of their properties.
pub struct Schemas<'a> {
    document: &'a Value,
    /// Properties by name, as `Trade.price`.
    pub seen: BTreeSet<String>,
}

impl<'a> Schemas<'a> {
    pub fn of(document: &'a Value) -> Self {
        Self { document, seen: BTreeSet::new() }
    }

    /// What a `$ref` leads to, and its name.
    pub fn resolve(&self, value: &'a Value) -> (&'a Value, Option<&'a str>) {
        let Some(reference) = value["$ref"].as_str() else { return (value, None) };
        let target = self.document.pointer(reference.strip_prefix('#').expect("in this document"));
        let name = reference.rsplit('/').next();
        (target.unwrap_or_else(|| panic!("{reference} leads nowhere")), name)
    }

    #[track_caller]
    pub fn accept(&mut self, schema: &'a Value, value: &Value, name: &str) {
        if let Err(wrong) = self.check(schema, value, name) {
            panic!("{name}: {wrong}");
        }
    }

    /// What is wrong with a value.
    pub fn check(&mut self, schema: &'a Value, value: &Value, name: &str) -> Result<(), String> {
        let (schema, own) = self.resolve(schema);
        let name = own.unwrap_or(name);
        for (word, says) in schema.as_object().into_iter().flatten() {
            let holds = match word.as_str() {
                "type" => says
                    .as_array()
                    .map_or_else(|| is_of(value, says), |types| types.iter().any(|kind| is_of(value, kind))),
                "const" => value == says,
                "enum" => says.as_array().is_some_and(|all| all.contains(value)),
                "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= says.as_f64().unwrap()),
                "pattern" => value.as_str().is_none_or(|text| matches(says.as_str().unwrap(), text)),
                "anyOf" | "oneOf" => {
                    let all = says.as_array().unwrap().iter();
                    let wrong: Vec<_> = all.map(|one| self.check(one, value, name).err()).collect();
                    if wrong.iter().all(Option::is_some) {
                        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
                        return Err(format!("{name}: {value} is none of: {}", wrong.join("; ")));
                    }
                    true
                }
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.check(says, item, name)?;
                    }
                    true
                }
                "properties" | "required" | "additionalProperties" => true,
                // Words for people.
                word => matches!(word, "description" | "default" | "format"),
            };
            if !holds {
                return Err(format!("{name}: {value} is not as {word} says: {says}"));
            }
        }
        self.check_fields(schema, value, name)
    }

    fn check_fields(&mut self, schema: &'a Value, value: &Value, name: &str) -> Result<(), String> {
        let Some(object) = value.as_object() else { return Ok(()) };
        let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if let Some(field) = required.find(|field| !object.contains_key(*field)) {
            return Err(format!("{name}: {value} has no {field}"));
        }
        for (field, value) in object {
            match (schema["properties"].get(field), &schema["additionalProperties"]) {
                (Some(known), _) => {
                    self.check(known, value, &format!("{name}.{field}"))?;
                    self.seen.insert(format!("{name}.{field}"));
                }
                (None, Value::Bool(false)) => return Err(format!("{name} has an unknown {field}")),
                (None, others) if others.is_object() => self.check(others, value, name)?,
                (None, _) => {}
            }
        }
        Ok(())
    }
}

/// The properties of named schemas, as [`Schemas::seen`] has them.
pub fn properties(schemas: &Value) -> BTreeSet<String> {
    fn of(schema: &Value, name: &str, found: &mut BTreeSet<String>) {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let name = format!("{name}.{field}");
            found.insert(name.clone());
            of(schema, &name, found);
            let parts = ["anyOf", "oneOf"].into_iter().filter_map(|word| schema[word].as_array());
            parts.flatten().for_each(|part| of(part, &name, found));
            of(&schema["items"], &name, found);
        }
    }
    let mut found = BTreeSet::new();
    for (name, schema) in schemas.as_object().unwrap() {
        of(schema, name, &mut found);
    }
    found
}

fn is_of(value: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("no type {other}"),
    }
}

/// The patterns that the documents have.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        r"^-?[0-9]+(\.[0-9]+)?$" => {
            let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
            let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            are_digits(whole.strip_prefix('-').unwrap_or(whole)) && are_digits(decimals)
        }
        "^status(:|$)" => text == "status" || text.starts_with("status:"),
        kind if kind.starts_with('^') && kind.ends_with(':') => {
            text.starts_with(&kind[1..].replace('\\', ""))
        }
        other => panic!("this test does not know the pattern {other}"),
    }
}
