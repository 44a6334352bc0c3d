//! Files written here by hand, whole, cut anywhere, and wrong in every way the parser knows.

use proptest::prelude::*;

use super::*;
use crate::error::{ErrorCode, Result};
use crate::testing::File;

/// A header with every value type and three tensors, not in the order of their offsets.
fn sample() -> File {
    let file = File::new(3, 20)
        .key("u8", 0)
        .bytes(&[200])
        .key("i8", 1)
        .bytes(&[0xFF])
        .key("u16", 2)
        .bytes(&[1, 2])
        .key("i16", 3)
        .bytes(&[0xFE, 0xFF])
        .key("u32", 4)
        .u32(77)
        .key("i32", 5)
        .u32(5)
        .key("f32", 6)
        .u32(1.5f32.to_bits())
        .key("bool", 7)
        .bytes(&[1])
        .key("string", 8)
        .text("grüße")
        .key("u64", 10)
        .u64(9)
        .key("i64", 11)
        .u64(-9i64 as u64)
        .key("f64", 12)
        .u64(0.25f64.to_bits())
        .array("tokens", 8, 3)
        .text("a")
        .text("")
        .text("▁b")
        .array("types", 5, 2)
        .u32(1)
        .u32(u32::MAX)
        .array("counts", 4, 2)
        .u32(1)
        .u32(2)
        .array("scores", 6, 1)
        .u32((-0.5f32).to_bits())
        .array("empty", 8, 0)
        .array("nested", 9, 2)
        .u32(7)
        .u64(2)
        .bytes(&[0, 1])
        .u32(0)
        .u64(0)
        .array("bytes", 0, 3)
        .bytes(&[1, 2, 3])
        .key("general.alignment", 4)
        .u32(64);
    file.tensor("second", &[32, 3], 2, 64).tensor("first", &[5], 0, 0).tensor("third", &[256, 1, 2], 12, 192).align(64)
}

fn parse(bytes: &[u8]) -> Result<Header> {
    let mut parser = Parser::new();
    parser.push(bytes)?;
    parser.into_header()
}

fn code_and_message(file: File) -> (ErrorCode, String) {
    let error = parse(&file.0).expect_err("a bad file was accepted");
    (error.code, error.message)
}

#[track_caller]
fn refused(file: File, code: ErrorCode, says: &str) {
    let (got, message) = code_and_message(file);
    assert_eq!(got, code, "{message}");
    assert!(message.contains(says), "'{message}' does not say '{says}'");
}

#[test]
fn reads_every_type() {
    let mut header = parse(&sample().0).unwrap();
    assert_eq!((header.version, header.data_offset), (3, sample().0.len() as u64));
    assert!(header.metadata_bytes <= header.data_offset && header.data_offset - header.metadata_bytes < 64);
    let meta = &mut header.metadata;
    for (key, value) in [("u8", 200), ("u16", 513), ("u32", 77), ("i32", 5), ("u64", 9)] {
        assert_eq!(meta.u32(key), Ok(value));
    }
    assert_eq!(meta.get("i8"), Some(&Value::I8(-1)));
    assert_eq!(meta.get("i16"), Some(&Value::I16(-2)));
    assert_eq!(meta.get("i64"), Some(&Value::I64(-9)));
    assert_eq!((meta.f32("f32"), meta.f32("f64"), meta.bool("bool")), (Ok(1.5), Ok(0.25), Ok(true)));
    assert_eq!(meta.str("string"), Ok("grüße"));
    assert_eq!(meta.i32s("types"), Ok([1, -1].as_slice()));
    assert_eq!(meta.i32s("counts"), Ok([1, 2].as_slice()));
    assert_eq!(meta.f32s("scores"), Ok([-0.5].as_slice()));
    assert_eq!(meta.get("bytes"), Some(&Value::Array(Array::U8(vec![1, 2, 3]))));
    let nested = Array::Arrays(vec![Array::Bool(vec![false, true]), Array::U8(vec![])]);
    assert_eq!(meta.get("nested"), Some(&Value::Array(nested)));
    assert_eq!(meta.strings("empty"), Ok([].as_slice()));
    assert_eq!(meta.take_strings("tokens").unwrap(), ["a", "", "▁b"]);
    assert!(meta.get("tokens").is_none());

    let tensors: Vec<_> = header.tensors.iter().map(|t| (t.name.as_str(), t.offset, t.size, t.elements())).collect();
    assert_eq!(tensors, [("first", 0, 20, 5), ("second", 64, 54, 96), ("third", 192, 288, 512)]);
    assert_eq!(header.tensors[1].shape, [32, 3]);
}

#[test]
fn getters_name_the_key() {
    let meta = parse(&sample().0).unwrap().metadata;
    let errors = [
        meta.u32("i8").unwrap_err(),
        meta.u32("string").unwrap_err(),
        meta.f32("u32").unwrap_err(),
        meta.bool("u8").unwrap_err(),
        meta.str("bool").unwrap_err(),
        meta.strings("types").unwrap_err(),
        meta.i32s("scores").unwrap_err(),
        meta.f32s("types").unwrap_err(),
        meta.clone().take_strings("scores").unwrap_err(),
    ];
    let keys = ["i8", "string", "u32", "u8", "bool", "types", "scores", "types", "scores"];
    for (error, key) in errors.iter().zip(keys) {
        assert_eq!(error.code, ErrorCode::InvalidFile);
        assert!(error.message.contains(&format!("'{key}'")), "{}", error.message);
    }
    assert_eq!(meta.opt_u32("none"), Ok(None));
    assert_eq!(meta.opt_u32("string").unwrap_err().code, ErrorCode::InvalidFile);
    let missing = meta.u32("none").unwrap_err();
    assert_eq!((missing.code, missing.message.contains("'none' is missing")), (ErrorCode::InvalidFile, true));
}

#[test]
fn every_prefix_is_truncated() {
    let file = sample().0;
    for len in 0..file.len() {
        let mut parser = Parser::new();
        assert_eq!(parser.push(&file[..len]), Ok(len));
        assert!(parser.header().is_none());
        assert_eq!(parser.into_header().unwrap_err().code, ErrorCode::TruncatedFile);
    }
}

#[test]
fn version_2_and_no_tensors() {
    let mut file = File::new(0, 0);
    file.0[4] = 2;
    let header = parse(&file.0).unwrap();
    assert_eq!((header.version, header.data_offset, header.tensors.len()), (2, 24, 0));
    assert_eq!(DataCursor::new(&header).finish(), Ok(()));
}

#[test]
fn refuses_what_is_not_gguf() {
    refused(File::default().bytes(b"<!doctype html>"), ErrorCode::InvalidFile, "starts with '<!do'; expected 'GGUF'");
    let version = |version: u32| File(b"GGUF".to_vec()).u32(version);
    refused(version(1), ErrorCode::InvalidFile, "version 1");
    refused(version(4), ErrorCode::InvalidFile, "version 4");
    refused(version(3u32.swap_bytes()), ErrorCode::InvalidFile, "big-endian");
    refused(File::new(u64::MAX, 0), ErrorCode::InvalidFile, "tensors");
    refused(File::new(0, u64::MAX), ErrorCode::InvalidFile, "key-values");
}

#[test]
fn refuses_bad_metadata() {
    let invalid = ErrorCode::InvalidFile;
    refused(File::new(0, 1).u64(u64::MAX), invalid, "a key in the GGUF header claims");
    refused(File::new(0, 1).u64(1).bytes(&[0xFF]), invalid, "not UTF-8");
    refused(File::new(0, 1).key("k", 8).u64(1 << 40), invalid, "'k'");
    refused(File::new(0, 1).key("k", 8).u64(1).bytes(&[0xFF]), invalid, "'k'");
    refused(File::new(0, 1).key("k", 13), invalid, "type 13");
    refused(File::new(0, 1).array("k", 99, 1), invalid, "type 99");
    refused(File::new(0, 1).key("k", 7).bytes(&[2]), invalid, "bool");
    refused(File::new(0, 2).key("k", 4).u32(1).key("k", 4).u32(1), invalid, "twice");
    let deep = (0..4).fold(File::new(0, 1).key("k", 9), |file, _| file.u32(9).u64(1));
    refused(deep.u32(0).u64(0), invalid, "deep");
    for alignment in [0, 48, 1 << 30] {
        refused(File::new(0, 1).key("general.alignment", 4).u32(alignment), invalid, "general.alignment");
    }
    refused(File::new(0, 1).key("general.alignment", 8).text("32"), invalid, "general.alignment");
}

#[test]
fn a_lying_length_allocates_nothing() {
    let (code, _) = code_and_message(File::new(0, 1).array("k", 8, u64::MAX).text("a"));
    assert_eq!(code, ErrorCode::TruncatedFile);
    let mut parser = Parser::new();
    parser.push(&File::new(0, 1).key("k", 8).u64(60 << 20).bytes(&[b'x'; 100]).0).unwrap();
    assert!(parser.pending.capacity() < 1000);
}

#[test]
fn refuses_bad_tensors() {
    let invalid = ErrorCode::InvalidFile;
    let one = |shape: &[u64], kind, offset| File::new(1, 0).tensor("w", shape, kind, offset);
    refused(one(&[256], 10, 0), ErrorCode::UnsupportedQuantization, "'w' has the type Q2_K (ggml type 10)");
    refused(one(&[256], 4242, 0), ErrorCode::UnsupportedQuantization, "F32, F16, BF16, Q8_0");
    refused(one(&[], 0, 0), invalid, "0 dimensions");
    refused(one(&[1; 5], 0, 0), invalid, "5 dimensions");
    refused(one(&[33], 2, 0), invalid, "multiple of 32");
    refused(one(&[32, 8], 12, 0), invalid, "multiple of 256");
    refused(one(&[4, 0], 0, 0), invalid, "no zero");
    refused(one(&[1 << 40, 1 << 40], 0, 0), invalid, "2^53");
    refused(one(&[u64::MAX], 0, 0), invalid, "2^53");
    refused(one(&[8], 0, u64::MAX - 31), invalid, "2^53");
    refused(one(&[8], 0, 8), invalid, "alignment, 32");
    let two = |a: &str, b: &str, offset| File::new(2, 0).tensor(a, &[16], 0, 0).tensor(b, &[16], 0, offset);
    refused(two("a", "b", 32), invalid, "'b' starts at offset 32, inside 'a'; expected 64");
    refused(two("a", "b", 0), invalid, "inside");
    refused(two("a", "a", 64), invalid, "'a' is in the file twice");
}

/// The chunks of `bytes`, of these lengths, repeated.
fn chunks<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut out = Vec::new();
    for &len in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (now, later) = bytes.split_at(len.min(bytes.len()));
        out.push(now);
        bytes = later;
    }
    out
}

proptest! {
    #[test]
    fn chunks_do_not_matter(lengths in prop::collection::vec(1usize..90, 1..9), tail in 0usize..40) {
        let header_bytes = sample().0;
        let data: Vec<u8> = (0..480 + tail).map(|i| (i % 251) as u8).collect();
        let file = [header_bytes.as_slice(), &data].concat();

        let mut parser = Parser::new();
        let mut cursor = None;
        let mut tensors = vec![Vec::new(); 3];
        for mut chunk in chunks(&file, &lengths) {
            if cursor.is_none() {
                let used = parser.push(chunk).unwrap();
                chunk = &chunk[used..];
                match parser.header() {
                    Some(header) => cursor = Some(DataCursor::new(header)),
                    None => prop_assert!(chunk.is_empty()),
                }
            }
            if let Some(cursor) = &mut cursor {
                cursor.push(chunk, &mut |index, offset, bytes: &[u8]| {
                    assert!(!bytes.is_empty());
                    assert_eq!(offset, tensors[index].len() as u64);
                    tensors[index].extend_from_slice(bytes);
                    Ok(())
                }).unwrap();
            }
        }
        let header = parser.into_header().unwrap();
        prop_assert_eq!(&header, &parse(&file).unwrap());
        prop_assert_eq!(header.data_offset as usize, header_bytes.len());
        prop_assert_eq!(cursor.unwrap().finish(), Ok(()));
        for (info, bytes) in header.tensors.iter().zip(&tensors) {
            prop_assert_eq!(bytes.as_slice(), &data[info.offset as usize..][..info.size as usize]);
        }
    }

    #[test]
    fn damaged_files_do_not_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        lengths in prop::collection::vec(1usize..400, 1..4),
    ) {
        let mut file = sample().0;
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let mut parser = Parser::new();
        for chunk in chunks(&file, &lengths) {
            if parser.push(chunk).is_err() {
                break;
            }
        }
    }
}

#[test]
fn cursor_names_the_first_incomplete_tensor() {
    let header = parse(&sample().0).unwrap();
    for (len, says) in [(0, "'first' has 0 of"), (25, "'second' has 0 of"), (479, "'third' has 287 of its 288")] {
        let mut cursor = DataCursor::new(&header);
        cursor.push(&vec![0; len], &mut |_, _, _| Ok(())).unwrap();
        let error = cursor.finish().unwrap_err();
        assert_eq!(error.code, ErrorCode::TruncatedFile);
        assert!(error.message.contains(says), "{}", error.message);
    }
}

#[test]
fn cursor_passes_errors_on() {
    let header = parse(&sample().0).unwrap();
    let fault = Error::new(ErrorCode::DeviceLost, "gone");
    let got = DataCursor::new(&header).push(&[0; 8], &mut |_, _, _| Err(fault.clone()));
    assert_eq!(got, Err(fault));
}

/// A vocabulary of a hundred thousand tokens, byte by byte, would take minutes if parsing started over.
#[test]
fn byte_by_byte_is_linear() {
    let count = 100_000;
    let file = (0..count).fold(File::new(0, 1).array("tokens", 8, count), |file, i| file.text(&i.to_string()));
    let mut parser = Parser::new();
    for byte in &file.0 {
        parser.push(std::slice::from_ref(byte)).unwrap();
        assert!(parser.pending.len() < 64);
    }
    assert_eq!(parser.into_header().unwrap().metadata.strings("tokens").unwrap().len(), count as usize);
}
