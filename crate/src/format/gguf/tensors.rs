//! The tensor table: what it may say.

use super::{TensorInfo, invalid};
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::format::QuantType;

/// Most bytes that all tensors together may claim: what JavaScript counts exactly.
const MAX_BYTES: u64 = 1 << 53;

/// Types of ggml that the engine has no kernels for, to name them in messages.
const OTHER_TYPES: [(u32, &str); 23] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// A tensor of the table, checked on its own: dimensions, type and end.
pub(super) fn tensor(name: String, shape: Vec<u64>, type_id: u32, offset: u64) -> Result<TensorInfo> {
    let shown = || excerpt(&name);
    let Some(ty) = QuantType::from_gguf(type_id) else {
        let known = OTHER_TYPES.iter().find(|(id, _)| *id == type_id).map_or("unknown", |(_, name)| name);
        let supported = QuantType::ALL.map(QuantType::name).join(", ");
        return Err(Error::new(
            ErrorCode::UnsupportedQuantization,
            format!("tensor '{}' has the type {known} (ggml type {type_id}); supported are {supported}", shown()),
        ));
    };
    let inner = shape.first().copied().unwrap_or(0);
    let block = ty.block_len() as u64;
    if !inner.is_multiple_of(block) {
        return Err(invalid(format!(
            "tensor '{}' has rows of {inner} elements; {} needs a multiple of {block}",
            shown(),
            ty.name()
        )));
    }
    let elements = shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim)).filter(|&n| n > 0);
    let size = elements.map(|elements| ty.bytes_for(elements));
    match size {
        Some(size) if size.checked_add(offset).is_some_and(|end| end <= MAX_BYTES) => {
            Ok(TensorInfo { name, shape, ty, offset, size })
        }
        _ => Err(invalid(format!(
            "tensor '{}' has the shape {shape:?} at offset {offset}; expected no zero, and an end below 2^53 bytes",
            shown()
        ))),
    }
}

/// Orders the tensors by offset and checks them together: alignment, overlaps, names.
pub(super) fn arrange(tensors: &mut [TensorInfo], alignment: u64) -> Result<()> {
    tensors.sort_by_key(|tensor| tensor.offset);
    for tensor in tensors.iter() {
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(invalid(format!(
                "tensor '{}' starts at offset {}; expected a multiple of the file's alignment, {alignment}",
                excerpt(&tensor.name),
                tensor.offset
            )));
        }
    }
    for pair in tensors.windows(2) {
        let end = pair[0].offset + pair[0].size;
        if pair[1].offset < end {
            return Err(invalid(format!(
                "tensor '{}' starts at offset {}, inside '{}'; expected {end} or more",
                excerpt(&pair[1].name),
                pair[1].offset,
                excerpt(&pair[0].name)
            )));
        }
    }
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(invalid(format!("tensor '{}' is in the file twice; names must be unique", excerpt(pair[0])))),
        None => Ok(()),
    }
}
