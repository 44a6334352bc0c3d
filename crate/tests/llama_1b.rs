//! A model of Llama 3.2 1B's shape: it loads within the promised heap, and runs. Made and run by hand, since it takes
//! 770 MB of disk and minutes on a CPU:
//!
//! ```sh
//! python scripts/make_model.py --shape llama-1b llama-1b.gguf
//! EMBERGRAM_1B_MODEL=$PWD/llama-1b.gguf cargo test -p embergram --test llama_1b -- --ignored --nocapture
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use embergram::config::{LlmConfig, SamplingParams};
use embergram::format::gguf::{Header, Parser};
use embergram::gpu::Gpu;
use embergram::llm::{LlmLoader, Prompt};
use serde_json::json;

/// The system's allocator, counting bytes in use and their peak.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    PEAK.fetch_max(USED.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    // The default realloc is alloc, copy, dealloc: both blocks count, as where memory cannot grow in place.
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Peak of what `run` takes beyond what was in use before, in bytes.
fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = USED.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    (result, PEAK.load(Relaxed) - before)
}

fn header(path: &str) -> Header {
    let mut parser = Parser::new();
    let mut file = File::open(path).unwrap();
    let mut piece = vec![0; 1 << 16];
    while parser.header().is_none() {
        let n = file.read(&mut piece).unwrap();
        parser.push(&piece[..n]).unwrap();
    }
    parser.into_header().unwrap()
}

#[test]
#[ignore = "needs EMBERGRAM_1B_MODEL, made by scripts/make_model.py --shape llama-1b"]
fn loads_within_the_promised_heap_and_runs() {
    pollster::block_on(async {
        let path = std::env::var("EMBERGRAM_1B_MODEL").expect("EMBERGRAM_1B_MODEL names the GGUF of --shape llama-1b");
        // Nearly all of the header is the tokenizer's.
        let tokenizer = header(&path).metadata_bytes as usize;
        let bound = (128 << 20) + 3 * tokenizer;
        let gpu = Gpu::open().await.unwrap();
        let config = LlmConfig::from_json(&json!({ "max_model_len": 256, "max_num_seqs": 2 })).unwrap();
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);

        let mut loader = LlmLoader::new(&gpu, config).unwrap();
        let (_, reading) = peak(|| loader.read(File::open(&path).unwrap()).unwrap());
        let held = USED.load(Relaxed);
        let (mut llm, finishing) = peak(|| loader.finish().unwrap());
        let during = reading.max(held + finishing);
        eprintln!(
            "tokenizer metadata {:.1} MiB, bound {:.1} MiB; heap in use {:.1} MiB; peaks: reading {:.1} MiB, finishing +{:.1} MiB",
            mib(tokenizer),
            mib(bound),
            mib(held),
            mib(reading),
            mib(finishing)
        );
        eprintln!(
            "{}",
            std::fs::read_to_string("/proc/self/status")
                .unwrap_or_default()
                .lines()
                .find(|l| l.starts_with("VmHWM"))
                .unwrap_or_default()
        );
        assert!(during <= bound, "the heap peaks at {:.1} MiB; the bound is {:.1} MiB", mib(during), mib(bound));

        let params =
            SamplingParams::from_json(&json!({ "temperature": 0, "max_tokens": 2, "ignore_eos": true })).unwrap();
        let (outputs, running) =
            peak(|| pollster::block_on(llm.generate(&[Prompt::Text("that".into())], &params)).unwrap());
        eprintln!("two steps: +{:.1} MiB, {:?}", mib(running), outputs[0][0]);
        assert_eq!(outputs[0][0].token_ids.len(), 2);
    });
}
