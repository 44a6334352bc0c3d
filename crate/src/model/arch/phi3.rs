//! Phi-3, Phi-3.5 and Phi-4-mini: q, k and v in one tensor, gate and up in another; LongRoPE.

use super::*;

pub(super) const ARCHITECTURE: Architecture = Architecture { name: "phi3", model_types: &["phi3"], read, read_folder };

fn read(keys: &Keys) -> Result<ModelConfig> {
    let mut base = keys.base()?;
    let (short, long) = ("rope_factors_short.weight", "rope_factors_long.weight");
    if (keys.has_tensor)(long) {
        let original = keys.size("rope.scaling.original_context_length")?;
        base.ropes[0].divisors = Some(Divisors::Tensor(short));
        base.ropes[0].long = Some((original, Divisors::Tensor(long)));
        base.ropes[0].magnitude = keys.opt_number("rope.scaling.attn_factor")?.unwrap_or(1.0);
    }
    base.set_window(keys.window()?);
    Ok(ModelConfig { pairs: Pairs::Halves, fused: true, ..base })
}

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    let mut base = keys.base()?;
    base.set_window(keys.opt_size("sliding_window")?);
    Ok(ModelConfig { fused: true, ..base })
}
