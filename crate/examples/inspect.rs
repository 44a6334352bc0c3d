//! What a GGUF takes, by its header: `cargo run --example inspect -- MODEL.gguf`

use std::io::Read;

use embergram::config::LlmConfig;
use embergram::llm::inspect::Inspector;

fn main() {
    let path = std::env::args().nth(1).expect("the path of a GGUF");
    let mut file = std::fs::File::open(path).expect("the file opens");
    let mut inspector = Inspector::new(Some(1 << 30), LlmConfig::default());
    let mut piece = vec![0; 1 << 20];
    let told = loop {
        let n = file.read(&mut piece).expect("the file can be read");
        assert!(n > 0, "the file ends inside its header");
        match inspector.push(&piece[..n]) {
            Ok(None) => {}
            Ok(Some(told)) => break told,
            Err(error) => panic!("{}: {}", error.code.as_str(), error.message),
        }
    };
    println!("{}", serde_json::to_string_pretty(&told).expect("plain values"));
}
