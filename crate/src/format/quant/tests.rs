//! Dequantisation against `gguf`'s own, and planes against the blocks they came from.

use proptest::prelude::*;

use super::*;
use crate::error::{ErrorCode, Result};

macro_rules! fixture {
    ($name:literal) => {
        (
            include_bytes!(concat!("../../../../tests/fixtures/quant/", $name, ".bin")).as_slice(),
            include_bytes!(concat!("../../../../tests/fixtures/quant/", $name, ".expected.bin")).as_slice(),
        )
    };
}

/// The blocks of a type and their weights (f32, little-endian); see the fixtures' README.
fn fixture(ty: QuantType) -> (&'static [u8], &'static [u8]) {
    match ty {
        QuantType::F32 => fixture!("F32"),
        QuantType::F16 => fixture!("F16"),
        QuantType::BF16 => fixture!("BF16"),
        QuantType::Q8_0 => fixture!("Q8_0"),
        QuantType::Q4_0 => fixture!("Q4_0"),
        QuantType::Q4_1 => fixture!("Q4_1"),
        QuantType::Q5_0 => fixture!("Q5_0"),
        QuantType::Q5_1 => fixture!("Q5_1"),
        QuantType::Q4_K => fixture!("Q4_K"),
        QuantType::Q5_K => fixture!("Q5_K"),
        QuantType::Q6_K => fixture!("Q6_K"),
    }
}

#[test]
fn dequantizes_bit_for_bit() {
    for ty in QuantType::ALL {
        let (blocks, expected) = fixture(ty);
        let mut weights = Vec::new();
        dequantize(ty, blocks, &mut weights).unwrap();
        assert_eq!(weights.len() * 4, expected.len(), "{}", ty.name());
        for (i, (weight, bytes)) in weights.iter().zip(expected.chunks_exact(4)).enumerate() {
            let bits = u32::from_le_bytes(bytes.try_into().unwrap());
            assert_eq!(weight.to_bits(), bits, "{} weight {i}: {weight} and {}", ty.name(), f32::from_bits(bits));
        }
    }
}

#[test]
fn dequantize_refuses_part_of_a_block() {
    let error = dequantize(QuantType::Q4_0, &[0; 35], &mut Vec::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidTensor);
}

#[test]
fn planes_cover_the_block() {
    for (ty, size) in QuantType::ALL.into_iter().zip([4, 2, 2, 34, 18, 20, 22, 24, 144, 176, 210]) {
        assert_eq!(ty.block_bytes(), size, "{}", ty.name());
        let mut spans: Vec<_> = ty.planes().iter().map(|p| (p.start, p.start + p.bytes_per_block)).collect();
        spans.sort_unstable();
        assert_eq!((spans[0].0, spans[spans.len() - 1].1), (0, size));
        assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "{}", ty.name());
    }
}

#[test]
fn layout_of_an_odd_number_of_blocks() {
    let layout = PlaneLayout::new(QuantType::Q5_0, 3 * 32);
    assert_eq!((layout.blocks, layout.offsets, layout.total_bytes), (3, vec![0, 48, 64], 80));
    assert_eq!(PlaneLayout::new(QuantType::F16, 3).total_bytes, 16);
}

#[test]
fn absurd_sizes_do_not_overflow() {
    for ty in QuantType::ALL {
        assert!(PlaneLayout::new(ty, u64::MAX).total_bytes.is_multiple_of(16));
        let mut splitter = PlaneSplitter::new(ty, u64::MAX);
        splitter.push(&[1; 1000], &mut |_, _| Ok(())).unwrap();
        assert_eq!(splitter.finish(&mut |_, _| Ok(())).unwrap_err().code, ErrorCode::TruncatedFile);
    }
}

/// Splits `file` in chunks of these lengths (repeated) into a buffer filled with `0xEE`; also the longest write.
fn split(ty: QuantType, elements: u64, file: &[u8], chunks: &[usize]) -> (Vec<u8>, usize) {
    let mut splitter = PlaneSplitter::new(ty, elements);
    let mut buffer = vec![0xEE; splitter.layout().total_bytes as usize];
    let mut longest = 0;
    let mut write = |at: u64, bytes: &[u8]| -> Result<()> {
        assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4) && !bytes.is_empty());
        let place = &mut buffer[at as usize..][..bytes.len()];
        assert!(place.iter().all(|&b| b == 0xEE), "bytes written twice");
        place.copy_from_slice(bytes);
        longest = longest.max(bytes.len());
        Ok(())
    };
    let (mut rest, mut lengths) = (file, chunks.iter().cycle());
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
        splitter.push(now, &mut write).unwrap();
        rest = later;
    }
    splitter.finish(&mut write).unwrap();
    (buffer, longest)
}

/// The file's blocks, put together from the planes.
fn join(layout: &PlaneLayout, buffer: &[u8]) -> Vec<u8> {
    let size = layout.ty.block_bytes();
    let mut file = vec![0; size * layout.blocks as usize];
    for (plane, &offset) in layout.ty.planes().iter().zip(&layout.offsets) {
        let bytes = buffer[offset as usize..].chunks_exact(plane.bytes_per_block);
        for (block, bytes) in file.chunks_exact_mut(size).zip(bytes) {
            block[plane.start..plane.start + plane.bytes_per_block].copy_from_slice(bytes);
        }
    }
    file
}

/// Bytes without `0xEE`, which marks what was not written.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 % 0xEE).collect()
}

proptest! {
    #[test]
    fn planes_do_not_depend_on_chunks(
        ty in prop::sample::select(QuantType::ALL.to_vec()),
        blocks in 1u64..40,
        chunks in prop::collection::vec(1usize..500, 1..8),
    ) {
        let elements = blocks * ty.block_len() as u64;
        let file = noise(ty.bytes_for(elements) as usize);
        let (buffer, _) = split(ty, elements, &file, &chunks);
        let (whole, _) = split(ty, elements, &file, &[usize::MAX]);
        prop_assert_eq!(&buffer, &whole);
        prop_assert_eq!(join(&PlaneLayout::new(ty, elements), &buffer), file);
    }
}

#[test]
fn long_tensors_are_written_in_batches() {
    for ty in [QuantType::Q8_0, QuantType::Q6_K] {
        let blocks = ((3 << 20) / ty.block_bytes() as u64) | 1;
        let elements = blocks * ty.block_len() as u64;
        let file = noise(ty.bytes_for(elements) as usize);
        for chunks in [&[usize::MAX][..], &[65_537, 2_000_003]] {
            let (buffer, longest) = split(ty, elements, &file, chunks);
            assert!(longest <= 1 << 20, "{longest}");
            assert_eq!(join(&PlaneLayout::new(ty, elements), &buffer), file);
        }
    }
}

#[test]
fn splitter_refuses_too_many_and_too_few_bytes() {
    for ty in [QuantType::F16, QuantType::Q4_0] {
        let len = ty.bytes_for(64) as usize;
        let mut splitter = PlaneSplitter::new(ty, 64);
        splitter.push(&vec![0; len - 1], &mut |_, _| Ok(())).unwrap();
        assert_eq!(splitter.finish(&mut |_, _| Ok(())).unwrap_err().code, ErrorCode::TruncatedFile);
        assert_eq!(splitter.push(&[0; 2], &mut |_, _| Ok(())).unwrap_err().code, ErrorCode::InvalidTensor);
        splitter.push(&[0], &mut |_, _| Ok(())).unwrap();
        splitter.finish(&mut |_, _| Ok(())).unwrap();
    }
}
