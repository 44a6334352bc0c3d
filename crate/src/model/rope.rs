//! Rotary position embedding tables, computed on the CPU in f64: WGSL's `sin` is off by 1.8e-4 on SwiftShader.

use super::ModelConfig;

/// `cos, sin` of every pair of every position: shape `[positions, head_dim / 2, 2]`, f32. `factors`, one for each pair,
/// divide its frequency (GGUF's `rope_freqs`, Llama 3's scaling).
pub fn table(config: &ModelConfig, positions: usize, factors: Option<&[f32]>) -> Vec<f32> {
    let pairs = config.head_dim / 2;
    let frequencies: Vec<f64> = (0..pairs)
        .map(|i| {
            let factor = factors.map_or(1.0, |f| f64::from(f[i]));
            f64::from(config.rope_base).powf(-2.0 * i as f64 / config.head_dim as f64) / factor
        })
        .collect();
    let mut table = Vec::with_capacity(positions * pairs * 2);
    for position in 0..positions {
        for frequency in &frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    table
}
