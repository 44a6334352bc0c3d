//! Random JSON schemas, and whether a value fits one: written from the specification, knowing nothing of grammars.

use serde_json::{Map, Value, json};

use super::Random;

/// A schema of some depth, out of which an output of a few hundred tokens comes.
pub fn schema(random: &mut Random) -> Value {
    let mut schema = object(random, 0);
    if random.below(4) == 0 {
        schema["properties"]["next"] = json!({ "$ref": "#/$defs/node" });
        let node = json!({
            "type": "object", "required": ["v"], "additionalProperties": false,
            "properties": { "v": { "type": "integer", "minimum": 0, "maximum": 9 }, "next": { "$ref": "#/$defs/node" } },
        });
        schema["$defs"] = json!({ "node": node });
    }
    schema
}

fn object(random: &mut Random, depth: usize) -> Value {
    const NAMES: [&str; 6] = ["name", "id", "the water", "tags", "x\"y", "größe"];
    let mut properties = Map::new();
    let mut required = Vec::new();
    for _ in 0..1 + random.below(4) {
        let name = *random.pick(&NAMES);
        if !properties.contains_key(name) {
            properties.insert(name.into(), any(random, depth + 1));
            if random.below(3) > 0 {
                required.push(name);
            }
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn any(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth < 3 { 13 } else { 9 }) {
        0 => json!({ "type": "boolean" }),
        1 => json!({ "type": ["null", "boolean"] }),
        2 => json!({ "type": "integer", "minimum": -20 + random.below(20) as i64, "maximum": 5 + random.below(500) }),
        3 => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1000 }),
        4 => json!({ "type": "string", "minLength": random.below(3), "maxLength": 3 + random.below(6) }),
        5 => json!({ "enum": ["water", "the \"light\"", 7, null, true, { "a": [1] }] }),
        6 => json!({ "const": ["fixed", 1.5, { "deep": "größe" }] }),
        7 => json!({ "type": "string", "pattern": "^[a-c]{2,4}-(x|yy)$" }),
        8 => json!({ "type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100 }),
        9 => {
            let least = random.below(3);
            json!({ "type": "array", "items": any(random, depth + 1), "minItems": least, "maxItems": least + 2 })
        }
        10 => {
            json!({ "type": "array", "prefixItems": [any(random, depth + 1), any(random, depth + 1)], "items": false, "minItems": 2 })
        }
        11 => json!({ "anyOf": [any(random, depth + 1), any(random, depth + 1)] }),
        _ => object(random, depth),
    }
}

/// Whether `value` fits `schema`, a part of `root`.
pub fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else { return *schema == Value::Bool(true) };
    schema.iter().all(|(key, rule)| match key.as_str() {
        "$ref" => fits(root, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), value),
        "type" => {
            let all = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
            all.iter().any(|kind| is(kind.as_str().unwrap(), value))
        }
        "enum" => rule.as_array().unwrap().iter().any(|one| same(one, value)),
        "const" => same(rule, value),
        "minimum" => value.as_f64().is_none_or(|x| x >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|x| x <= rule.as_f64().unwrap()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|x| x > rule.as_f64().unwrap()),
        "multipleOf" => value.as_f64().is_none_or(|x| x % rule.as_f64().unwrap() == 0.0),
        "minLength" => value.as_str().is_none_or(|s| s.chars().count() >= rule.as_u64().unwrap() as usize),
        "maxLength" => value.as_str().is_none_or(|s| s.chars().count() <= rule.as_u64().unwrap() as usize),
        "pattern" => value.as_str().is_none_or(pattern),
        "minItems" => value.as_array().is_none_or(|a| a.len() >= rule.as_u64().unwrap() as usize),
        "maxItems" => value.as_array().is_none_or(|a| a.len() <= rule.as_u64().unwrap() as usize),
        "prefixItems" => {
            value.as_array().is_none_or(|a| a.iter().zip(rule.as_array().unwrap()).all(|(v, s)| fits(root, s, v)))
        }
        "items" => value.as_array().is_none_or(|a| {
            let prefix = schema.get("prefixItems").map_or(0, |p| p.as_array().unwrap().len());
            a.iter().skip(prefix).all(|v| fits(root, rule, v))
        }),
        "properties" => value
            .as_object()
            .is_none_or(|o| rule.as_object().unwrap().iter().all(|(k, s)| o.get(k).is_none_or(|v| fits(root, s, v)))),
        "required" => value
            .as_object()
            .is_none_or(|o| rule.as_array().unwrap().iter().all(|k| o.contains_key(k.as_str().unwrap()))),
        "additionalProperties" => value.as_object().is_none_or(|o| {
            assert_eq!(*rule, Value::Bool(false));
            o.keys().all(|k| schema["properties"].get(k).is_some())
        }),
        "anyOf" => rule.as_array().unwrap().iter().any(|one| fits(root, one, value)),
        "$defs" => true,
        other => panic!("{other} is not known here"),
    })
}

/// `^[a-c]{2,4}-(x|yy)$`
fn pattern(text: &str) -> bool {
    let Some((first, second)) = text.split_once('-') else { return false };
    (2..=4).contains(&first.len()) && first.bytes().all(|b| (b'a'..=b'c').contains(&b)) && ["x", "yy"].contains(&second)
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
        other => panic!("{other} is no type"),
    }
}

/// As JSON Schema compares: 1 and 1.0 are the same, keys have no order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}
