use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

/// Bytes, words of JSON, one special token and two that end an output.
fn words() -> Vec<(Vec<u8>, bool)> {
    let mut words: Vec<(Vec<u8>, bool)> = (0..=255).map(|byte| (vec![byte], false)).collect();
    let texts =
        ["name", "\": \"", "\":", "{\"", "na", "me\"", "true", "false", "get", "_weather", " \"", "<tool>", "yes"];
    words.extend(texts.map(|text| (text.as_bytes().to_vec(), false)));
    words.extend(["<|tool|>", "<|end|>", "<eos>"].map(|text| (text.as_bytes().to_vec(), true)));
    words
}

const END: u32 = 256 + 13 + 1;

fn bytes() -> Vec<u8> {
    let words = words();
    let lengths = words.iter().map(|(word, special)| word.len() as u32 * 2 + u32::from(*special));
    let numbers = [words.len() as u32].into_iter().chain(lengths).chain([2, END, END + 1]);
    let mut bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    words.iter().for_each(|(word, _)| bytes.extend(word));
    bytes
}

/// The longest words first, special ones among them, as tokenizers of models do.
fn tokenize(text: &str) -> Vec<u32> {
    let (words, mut rest, mut tokens) = (words(), text.as_bytes(), Vec::new());
    while !rest.is_empty() {
        let fits = words.iter().enumerate().filter(|(_, (word, _))| rest.starts_with(word));
        let (id, (word, _)) = fits.max_by_key(|(_, (word, _))| word.len()).unwrap();
        tokens.push(id as u32);
        rest = &rest[word.len()..];
    }
    tokens
}

fn grammars() -> Grammars {
    Grammars::new(&bytes(), Box::new(tokenize)).unwrap()
}

fn compile(spec: Value) -> Result<Constraint, String> {
    grammars().compile(&spec.to_string())
}

fn text(tokens: &[u32]) -> String {
    let words = words();
    String::from_utf8(tokens.iter().flat_map(|token| words[*token as usize].0.clone()).collect()).unwrap()
}

fn allowed(constraint: &mut Constraint) -> Vec<u32> {
    let mut mask = Vec::new();
    constraint.mask(&mut mask).unwrap();
    (0..words().len() as u32).filter(|token| mask[*token as usize / 32] >> (token % 32) & 1 == 1).collect()
}

/// Picks among what is allowed, by a seed, until the end; drafts in between change nothing.
fn run(constraint: &mut Constraint, seed: u64, most: usize) -> Option<String> {
    let mut state = seed;
    let mut tokens = Vec::new();
    while tokens.len() < most {
        let forced = constraint.forced(8);
        assert_eq!(constraint.validate(&forced), forced.len());
        let allowed = allowed(constraint);
        if let Some(first) = forced.first() {
            assert_eq!(allowed, [*first], "what is forced is all that the mask leaves");
        }
        // The first states of neighbouring seeds are alike.
        for _ in 0..1 + 4 * usize::from(tokens.is_empty()) {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        }
        // Ends are taken where they can be, one time out of two.
        let ends = allowed.contains(&END) && state >> 63 == 1;
        let token = if ends { END } else { allowed[(state >> 33) as usize % allowed.len()] };
        constraint.commit(token).unwrap();
        if token >= END {
            let mut mask = vec![1];
            constraint.mask(&mut mask).unwrap();
            assert!(mask.is_empty() && constraint.forced(8).is_empty(), "nothing follows the end");
            return Some(text(&tokens));
        }
        tokens.push(token);
    }
    None
}

fn texts(spec: Value) -> Vec<String> {
    let constraint = compile(spec).unwrap();
    (0..40).filter_map(|seed| run(&mut constraint.clone(), seed, 200)).collect()
}

#[test]
fn each_kind_gives_what_it_says() {
    let found = texts(json!({ "choice": ["yes", "no \"/\\ at all\n", "né"] }));
    assert!(["yes", "no \"/\\ at all\n", "né"].iter().all(|text| found.iter().any(|found| found == text)), "{found:?}");
    assert!(found.len() == 40);
    let dates = texts(json!({ "regex": "^\\d{4}-[0-9]{2}$" }));
    assert!(dates.len() == 40 && dates.iter().all(|date| date.len() == 7 && date.as_bytes()[4] == b'-'), "{dates:?}");
    assert_eq!(texts(json!({ "regex": "a\\$" })), vec!["a$"; 40]);
    let sums = texts(json!({ "grammar": "start: sum\nsum: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]{1,3}/" }));
    assert!(sums.len() > 20 && sums.iter().any(|sum| sum.contains('+')), "{sums:?}");
    assert!(sums.iter().all(|sum| sum.split('+').all(|n| (1..=3).contains(&n.len()))), "{sums:?}");
    let objects = texts(json!({ "json_object": true, "disable_any_whitespace": true }));
    assert!(!objects.is_empty());
    for object in objects {
        // Numbers of JSON have no end, those of `serde_json` do.
        match serde_json::from_str::<Value>(&object) {
            Ok(value) => assert!(value.is_object()),
            Err(error) => assert!(error.to_string().contains("out of range"), "{error}: {object}"),
        }
    }
}

#[test]
fn a_schema_forces_what_it_leaves_no_choice_about() {
    let schema = json!({
        "type": "object", "properties": { "name": { "enum": ["get_weather"] }, "ok": { "type": "boolean" } },
        "required": ["name", "ok"], "additionalProperties": false,
    });
    let mut constraint = compile(json!({ "json": schema, "disable_any_whitespace": true })).unwrap();
    let forced = constraint.forced(100);
    assert!(text(&forced).starts_with("{\"name\":\"get_weather\",\"ok\""), "{}", text(&forced));
    assert_eq!(constraint.forced(2), forced[..2]);
    let made = texts(json!({ "json": schema }));
    assert!(!made.is_empty());
    for made in made {
        let made: Value = serde_json::from_str(&made).unwrap();
        assert!(made["name"] == "get_weather" && made["ok"].is_boolean());
    }
}

#[test]
fn keys_come_in_the_schema_s_order() {
    let schema = json!({ "type": "object", "properties": { "z": { "const": 1 }, "a": { "const": 2 } }, "required": ["a", "z"] , "additionalProperties": false });
    assert!(
        texts(json!({ "json": schema, "disable_any_whitespace": true })).iter().all(|text| text == r#"{"z":1,"a":2}"#)
    );
}

#[test]
fn references_lead_anywhere_in_the_schema() {
    let tool = json!({
        "type": "object", "properties": { "a": { "$ref": "#/$defs/tool0/$defs/a" } }, "required": ["a"],
        "additionalProperties": false, "$defs": { "a": { "const": 5 } },
    });
    let schema = json!({ "type": "array", "items": { "$ref": "#/$defs/tool0" }, "minItems": 1, "maxItems": 1, "$defs": { "tool0": tool } });
    let spec = json!({ "json": schema, "disable_any_whitespace": true });
    assert!(texts(spec).iter().all(|text| text == r#"[{"a":5}]"#));
    let lark = format!("start: \"<\" call \">\"\ncall: %json {schema}");
    assert!(texts(json!({ "grammar": lark })).iter().all(|text| text.starts_with("<[") && text.ends_with("]>")));
}

#[test]
fn drafts_are_valid_as_far_as_the_grammar_allows() {
    let mut constraint = compile(json!({ "regex": "[ab]{3}c" })).unwrap();
    let tokens = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    assert_eq!(constraint.validate(&tokens("abac")), 4);
    assert_eq!(constraint.validate(&tokens("abc")), 2);
    assert_eq!(constraint.validate(&[END]), 0);
    assert_eq!(constraint.validate(&[1_000_000]), 0, "a token that is none");
    assert_eq!(constraint.validate(&[97, 1_000_000]), 1);
    assert_eq!(allowed(&mut constraint), [97, 98]);
}

#[test]
fn structural_tags_are_free_text_with_parts_that_fit() {
    let tag = |begin: &str, trigger: &str, end: &str| {
        json!({ "structural_tag": { "type": "structural_tag", "triggers": [trigger], "structures": [
            { "begin": begin, "schema": { "type": "object", "properties": { "a": { "const": 7 } }, "required": ["a"],
              "additionalProperties": false, "x-guidance": { "whitespace_flexible": false } }, "end": end },
        ] } })
    };
    let mut constraint = compile(tag("<tool>get=", "<tool>", "</tool>")).unwrap();
    for token in tokenize("so<") {
        constraint.commit(token).unwrap();
    }
    for token in tokenize("tool>") {
        constraint.commit(token).unwrap();
    }
    assert_eq!(text(&constraint.forced(100)), "get={\"a\":7}</tool>");
    // Special tokens are themselves, not their text.
    let mut constraint = compile(tag("<|tool|>get=", "<|tool|>", "<|tool|>")).unwrap();
    constraint.commit(256 + 13).unwrap();
    let forced = constraint.forced(100);
    assert_eq!(forced.last(), Some(&(256 + 13)), "{}", text(&forced));
    for (bad, words) in [
        (json!({ "structural_tag": { "structures": [], "triggers": ["<"] } }), "must have structures"),
        (tag("<b>", "<tool>", ""), "begins with none of the triggers"),
        (json!({ "structural_tag": { "format": {} } }), "has a format"),
    ] {
        let error = compile(bad).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_text_that_spells_a_special_token_is_text() {
    let mut constraint = compile(json!({ "choice": ["<eos>", "<|tool|>"] })).unwrap();
    let made = run(&mut constraint, 1, 100).unwrap();
    assert!(["<eos>", "<|tool|>"].contains(&made.as_str()));
    let mut constraint = compile(json!({ "regex": "<eos>!" })).unwrap();
    assert_eq!(run(&mut constraint, 1, 100).as_deref(), Some("<eos>!"));
}

#[test]
fn what_is_not_known_or_can_never_be_is_named() {
    for (spec, words) in [
        (json!({ "json": { "type": "object", "unevaluatedProperties": false } }), "unevaluatedProperties"),
        (json!({ "json": { "type": "array", "uniqueItems": true } }), "uniqueItems"),
        (json!({ "json": { "type": "text" } }), "text"),
        (json!({ "json": { "$ref": "https://example.com/schema" } }), "example.com"),
        (json!({ "json": { "type": "integer", "minimum": 3, "maximum": 1 } }), "3"),
        (json!({ "json": false }), "nsatisfiable"),
        (json!({ "regex": "(" }), "regex"),
        (json!({ "regex": "^$" }), "empty text"),
        (json!({ "regex": "((a{1000}){1000}){1000}" }), "1000000000 times"),
        (json!({ "json": { "pattern": "(a{1000}b){1000}" } }), "1000000 times"),
        (json!({ "grammar": "start: A\nA: /(a{1000}b){1000}/" }), "1000000 times"),
        (json!({ "grammar": "begin: \"a\"" }), "start"),
        (json!({ "grammar": "root ::= \"a\"" }), "Lark"),
        (json!({ "grammar": "start: nothing" }), "nothing"),
    ] {
        let error = compile(spec.clone()).map(|_| "none").expect_err(&spec.to_string());
        assert!(error.contains(words), "{spec}: {error}");
        assert!(error.len() < 600 && !error.contains("<state>"), "{error}");
    }
}

/// On a stack as small as a WebAssembly module's, each in bounded time.
#[test]
fn what_is_hostile_ends_in_an_error_soon() {
    let deep_schema = (0..120).fold(json!({ "type": "string" }), |inner, _| json!({ "type": "array", "items": inner }));
    let deeper = "[".repeat(100_000);
    let wide: Value = (0..20_000)
        .map(|i| (format!("key{i}"), json!({ "type": "string", "minLength": i })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let doubling: String = (0..40).map(|i| format!("r{i}: r{} r{}\n", i + 1, i + 1)).collect();
    let branches: Vec<Value> = (0..12).map(|i| json!({ "anyOf": (0..12).map(|j| json!({ "type": "object", "properties": { format!("p{i}_{j}"): { "type": "string" } } })).collect::<Vec<_>>() })).collect();
    let specs = [
        ("deep schema", json!({ "json": deep_schema }).to_string()),
        ("deeper than JSON may be", format!("{{\"json\":{deeper}")),
        ("wide schema", json!({ "json": { "type": "object", "properties": wide } }).to_string()),
        ("many items", json!({ "json": { "type": "array", "items": { "type": "object" }, "minItems": 100_000_000 } }).to_string()),
        ("long text", json!({ "json": { "type": "string", "minLength": 1_000_000_000 } }).to_string()),
        ("all of any of", json!({ "json": { "allOf": branches } }).to_string()),
        ("a reference to itself", json!({ "json": { "$ref": "#" } }).to_string()),
        ("references in a ring", json!({ "json": { "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } } }).to_string()),
        ("huge repetition", json!({ "regex": "((a{1000}){1000}){1000}" }).to_string()),
        ("exponential regex", json!({ "regex": "(.*a){40}[ab]{200}(.*b){40}" }).to_string()),
        ("deep regex", json!({ "regex": format!("{}a{}", "(".repeat(50_000), ")".repeat(50_000)) }).to_string()),
        ("deep pattern", json!({ "json": { "type": "string", "pattern": format!("{}a{}", "(".repeat(50_000), ")".repeat(50_000)) } }).to_string()),
        ("deep lark", json!({ "grammar": format!("start: {}\"a\"{}", "(".repeat(50_000), ")".repeat(50_000)) }).to_string()),
        ("endless lark", json!({ "grammar": "start: start" }).to_string()),
        ("ambiguous lark", json!({ "grammar": "start: e\ne: e e e | \"a\" | e e | \"\"" }).to_string()),
        ("doubling lark", json!({ "grammar": format!("start: r0\n{doubling}r40: \"a\"") }).to_string()),
        ("repeating lark", json!({ "grammar": "start: a{100000000}\na: \"a\" | \"b\"" }).to_string()),
        ("many choices", json!({ "choice": (0..20_000).map(|i| format!("text {i}")).collect::<Vec<_>>() }).to_string()),
        ("too long", json!({ "regex": "a".repeat(2 << 20) }).to_string()),
    ];
    let grammars = grammars();
    let mut refused = Vec::new();
    for (what, spec) in &specs {
        let started = Instant::now();
        let ended = std::thread::scope(|scope| {
            let work = || {
                let mut constraint = grammars.compile(spec)?;
                // One that compiles is run: each of its steps is bounded too.
                let mut mask = Vec::new();
                for _ in 0..50 {
                    constraint.forced(100);
                    constraint.mask(&mut mask)?;
                    let Some(word) = mask.iter().position(|word| *word != 0) else { break };
                    constraint.commit(word as u32 * 32 + mask[word].trailing_zeros())?;
                }
                Ok(())
            };
            std::thread::Builder::new().stack_size(1 << 20).spawn_scoped(scope, work).unwrap().join().unwrap()
        });
        let seconds = started.elapsed();
        println!("{what}: {seconds:?} {}", ended.as_ref().map_or_else(|error: &String| error.as_str(), |()| "runs"));
        assert!(seconds < Duration::from_secs(20), "{what} took {seconds:?}");
        if ended.is_err() {
            refused.push(*what);
        }
    }
    for what in [
        "deeper than JSON may be",
        "wide schema",
        "all of any of",
        "huge repetition",
        "a reference to itself",
        "deep regex",
        "deep pattern",
        "deep lark",
        "many choices",
        "too long",
    ] {
        assert!(refused.contains(&what), "{what} must be refused; refused are {refused:?}");
    }
}
