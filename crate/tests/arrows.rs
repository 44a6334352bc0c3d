//! The arrows of docs/architecture.md: a room's sources name only the rooms that its row allows.

use std::fs;
use std::path::Path;

/// Each room, and the rooms that it may use; `config` and `error` are everybody's.
const ARROWS: [(&str, &[&str]); 11] = [
    ("format", &[]),
    ("text", &[]),
    ("sample", &[]),
    ("speculate", &[]),
    ("metrics", &[]),
    ("program", &["format"]),
    ("model", &["program", "format"]),
    ("gpu", &["program", "format"]),
    ("cpu", &["program", "format"]),
    ("engine", &["program", "speculate", "sample", "metrics", "text"]),
    ("llm", &["engine", "gpu", "cpu", "model", "program", "format", "text", "sample", "speculate", "metrics"]),
];

/// The sources of a room: its folder, and the file of its name.
fn sources(path: &Path, found: &mut Vec<(String, String)>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), found));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
    }
}

/// The rooms that a source names after `crate::`, one at a time or in braces.
fn named(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    // What is told in comments binds nobody.
    for line in source.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap_or(list));
            let several = if rest.starts_with('{') { list.split(',').collect() } else { vec![rest] };
            names.extend(
                several.iter().filter_map(|path| path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next()),
            );
        }
    }
    names
}

#[test]
fn rooms_know_only_the_rooms_of_their_row() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms: Vec<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    let mut arrows = 0;
    for (room, allowed) in ARROWS {
        let mut found = Vec::new();
        [src.join(room), src.join(format!("{room}.rs"))]
            .iter()
            .filter(|path| path.exists())
            .for_each(|path| sources(path, &mut found));
        for (file, source) in found {
            for name in named(&source).into_iter().filter(|name| rooms.contains(name) && *name != room) {
                assert!(allowed.contains(&name), "{file} names crate::{name}, which {room} may not know");
                arrows += 1;
            }
        }
    }
    assert!(arrows > 50, "only {arrows} arrows were read");
}
