//! How much a plan is to hold: what the options ask for, as far as model and adapter allow it.

use super::backend::Backend;
use crate::config::LlmConfig;
use crate::model::ModelConfig;
use crate::program::Capacity;
use crate::{Error, ErrorCode, Result};

fn layer_block_bytes(model: &ModelConfig, config: &LlmConfig) -> u64 {
    (config.block_size * 2 * model.kv_d() * config.kv_cache_dtype.bytes()) as u64
}

/// Bytes of a block of the KV cache, in all layers.
pub(super) fn block_bytes(model: &ModelConfig, config: &LlmConfig) -> u64 {
    model.layers.len() as u64 * layer_block_bytes(model, config)
}

/// What the plan's buffers are to hold, for a model of so many parameters. Options may ask for any size, and addresses have 32 bits in a browser: all that can
/// be too large is refused here, before anything is made of it.
pub(super) fn capacity(
    config: &LlmConfig,
    model: &ModelConfig,
    parameters: u64,
    backend: &impl Backend,
) -> Result<Capacity> {
    let invalid = |message: String| Err(Error::new(ErrorCode::InvalidConfig, message));
    let bytes = block_bytes(model, config);
    let affordable = config.kv_budget(parameters) / bytes;
    if affordable == 0 {
        return invalid(format!("kv_cache_memory_bytes is too small for one block; give at least {bytes}"));
    }
    // As in vLLM one sequence of the greatest length must fit, so that no request is refused later for want of memory.
    let held = affordable.saturating_mul(config.block_size as u64);
    let positions = config.max_model_len.unwrap_or((model.context as u64).min(held) as usize);
    if positions > model.context {
        return invalid(format!(
            "max_model_len is {positions}, but the model's context is {}; lower it",
            model.context
        ));
    }
    if positions as u64 > held {
        let needed = (positions as u64).div_ceil(config.block_size as u64).saturating_mul(bytes);
        return invalid(format!(
            "max_model_len is {positions}, but the KV cache holds {held} positions; lower it, or give \
             kv_cache_memory_bytes at least {needed}"
        ));
    }
    // Each sequence needs a sample; long steps are a prompt's, which needs few.
    let rows = config.max_num_batched_tokens;
    let outputs = rows.min(LlmConfig::default().max_num_batched_tokens.max(config.max_num_seqs));
    let most = backend.most_rows(model.heads);
    if rows > most {
        let message = format!(
            "max_num_batched_tokens or max_num_seqs asks for {rows} rows per step, but this model on adapter '{}' can have \
             {most}; lower it",
            backend.name()
        );
        return Err(Error::new(ErrorCode::AdapterTooSmall, message));
    }
    let table = positions.div_ceil(config.block_size) as u64;
    let wanted = config.max_num_seqs as u64 * table;
    let fits = |count: usize, words: u64, what: &str, remedy: &str| {
        backend.fits((count as u64).saturating_mul(words * 4), what, remedy)
    };
    let widest = model.ff.max(model.d).max(model.q_d()) as u64;
    fits(rows, widest, "the activations of a step's rows", "lower max_num_batched_tokens or max_num_seqs")?;
    fits(outputs, model.vocab as u64 + 1, "the logits of a step's rows", "lower max_num_seqs")?;
    fits(config.max_num_seqs, table, "the block tables", "lower max_num_seqs or max_model_len")?;
    fits(positions, model.head_dim as u64, "the rotary table", "lower max_model_len")?;
    let blocks = wanted.min(affordable);
    let layer = blocks.saturating_mul(layer_block_bytes(model, config));
    backend.fits(layer, "the KV cache of a layer", "lower kv_cache_memory_bytes")?;
    Ok(Capacity {
        rows,
        outputs,
        slots: config.max_num_seqs,
        positions,
        blocks: blocks as usize,
        block_size: config.block_size,
    })
}
