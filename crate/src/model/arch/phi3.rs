//! Phi-3, Phi-3.5 and Phi-4-mini: q, k and v in one tensor, gate and up in another; LongRoPE.

use super::*;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    let mut base = keys.base()?;
    let (short, long) = ("rope_factors_short.weight", "rope_factors_long.weight");
    if (keys.has_tensor)(long) {
        let original = keys.size("rope.scaling.original_context_length")?;
        base.ropes[0].factors = Factors::ByLength { original, short, long };
        base.ropes[0].magnitude = keys.opt_number("rope.scaling.attn_factor")?.unwrap_or(1.0);
    }
    base.set_window(keys.window()?);
    Ok(ModelConfig { pairs: Pairs::Halves, fused: true, ..base })
}
